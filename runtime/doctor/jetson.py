"""Identify a Jetson from /etc/nv_tegra_release, the device tree and the package list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)")
_PACKAGE = re.compile(r"^Package: nvidia-jetpack\n(?:[A-Z ].*\n)*?Version: (\d+(?:\.\d+)*)", re.MULTILINE)
_JETPACK = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}  # Jetson Linux to JetPack, by major version
_PYTHON = {4: "3.6", 5: "3.8", 6: "3.10", 7: "3.12"}  # JetPack to the Python of its Ubuntu
_OLDEST = 6  # the first JetPack whose Python can run LeakRT
_LIMIT = 64 << 20  # bytes read of each file


@dataclass(frozen=True)
class Jetson:
    """A Jetson. Fields are empty if the device does not report them."""

    model: str  # "NVIDIA Jetson AGX Orin Developer Kit"
    linux: str  # version of Jetson Linux (L4T): "36.4.3"
    jetpack: str  # "6.2" if its package is installed, else only the major version: "6"

    @property
    def python(self) -> str:
        """The Python version of this JetPack's TensorRT bindings; empty if unknown."""
        return _PYTHON.get(_major(self.jetpack), "")

    @property
    def too_old(self) -> bool:
        """Whether this JetPack's Python, the only one that its TensorRT supports, is too old for LeakRT."""
        return 0 < _major(self.jetpack) < _OLDEST

    def __str__(self) -> str:
        release = f"JetPack {self.jetpack or '?'} (Jetson Linux {self.linux or '?'})"
        return f"{self.model}, {release}" if self.model else release


def read_jetson(root: Path = Path("/")) -> Jetson | None:
    """Return the Jetson that the files below `root` describe; None on any other machine."""
    release = _text(root / "etc/nv_tegra_release")
    compatible = _text(root / "proc/device-tree/compatible")
    if not release and "nvidia,tegra" not in compatible:
        return None
    linux = parse_release(release)
    installed = _PACKAGE.search(_text(root / "var/lib/dpkg/status"))
    known = _JETPACK.get(_major(linux), 0)
    return Jetson(
        model=_text(root / "proc/device-tree/model").strip("\0 \n"),
        linux=linux,
        jetpack=installed.group(1) if installed else str(known or ""),
    )


def parse_release(text: str) -> str:
    """Return the Jetson Linux version, such as "36.4.3", in the text of /etc/nv_tegra_release; empty if there is none.

    Example: "# R36 (release), REVISION: 4.3, GCID: ..., BOARD: generic, EABI: aarch64, DATE: ..."
    """
    found = _RELEASE.search(text)
    return f"{found.group(1)}.{found.group(2)}" if found else ""


def _major(version: str) -> int:
    head = version.split(".")[0]
    return int(head) if head.isdigit() else 0


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as handle:
            return handle.read(_LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""
