"""What the CPU under the tests can do."""

from __future__ import annotations

from pathlib import Path


def sums_int8_exactly() -> bool:
    """Whether int8 products are summed without saturation: x86 needs VNNI for it, and its absence is a fact of the CPU.

    Without it, 8-bit weights may differ between backends, which is why calibration takes 7 bits by default.
    """
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    return "vnni" in text or "avx" not in text
