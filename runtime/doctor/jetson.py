"""Which Jetson this is: /etc/nv_tegra_release, the device tree and the package list say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)")
_PACKAGE = re.compile(r"^Package: nvidia-jetpack\n(?:[A-Z ].*\n)*?Version: (\d+(?:\.\d+)*)", re.MULTILINE)
_JETPACK = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}  # Jetson Linux to JetPack, by major version
_PYTHON = {4: "3.6", 5: "3.8", 6: "3.10", 7: "3.12"}  # of the Ubuntu that a JetPack brings
_OLDEST = 6  # the first JetPack whose Python runs LeakRT
_LIMIT = 64 << 20  # bytes of the package list


@dataclass(frozen=True)
class Jetson:
    """A Jetson. Texts are empty where the device does not tell."""

    model: str  # "NVIDIA Jetson AGX Orin Developer Kit"
    linux: str  # of Jetson Linux (L4T): "36.4.3"
    jetpack: str  # exact where its package is installed: "6.2"; else the major version alone: "6"

    @property
    def python(self) -> str:
        """The Python that TensorRT's bindings of this JetPack are for; empty where it is not known."""
        return _PYTHON.get(_major(self.jetpack), "")

    @property
    def too_old(self) -> bool:
        """Whether this JetPack's Python can't run LeakRT; its TensorRT is bound to that Python."""
        return 0 < _major(self.jetpack) < _OLDEST

    def __str__(self) -> str:
        release = f"JetPack {self.jetpack or '?'} (Jetson Linux {self.linux or '?'})"
        return f"{self.model}, {release}" if self.model else release


def read_jetson(root: Path = Path("/")) -> Jetson | None:
    """The Jetson whose files lie below `root`; None on any other machine."""
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
    """The version of Jetson Linux in the text of /etc/nv_tegra_release: "36.4.3"; empty where there is none.

    "# R36 (release), REVISION: 4.3, GCID: ..., BOARD: generic, EABI: aarch64, DATE: ..."
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
