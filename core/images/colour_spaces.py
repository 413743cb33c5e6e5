"""ICC profiles of colour spaces that a file describes by PNG's gAMA and cHRM or by code points (ITU-T H.273)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError

Doubles = npt.NDArray[np.float64]

# x and y of white, red, green and blue
_SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES = {
    1: ("BT.709", _SRGB),
    2: ("unspecified primaries", _SRGB),
    5: ("BT.601 (625 lines)", (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("BT.601 (525 lines)", (0.3127, 0.3290, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    7: ("SMPTE 240M", (0.3127, 0.3290, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    9: ("BT.2020", (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    12: ("Display P3", (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
}
_SRGB_CURVES = (1, 2, 6, 13, 14, 15)  # viewers show still images with a video curve as sRGB
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}

_SRGB_GAMMA, _GAMMA_TOLERANCE = 1 / 2.2, 0.05  # libpng treats gammas this close as equal
_PRIMARY_TOLERANCE = 0.005
_CURVE_POINTS = 1024
_D50 = np.array([0.9642, 1.0, 0.8249])  # white point of the ICC profile connection space
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def profile_of_gamma(gamma: float, chromaticities: Sequence[float] | None) -> bytes | None:
    """Return an ICC profile for a PNG's gAMA (0.45455 encodes for 2.2) and cHRM (x, y of white, red, green, blue).

    The default chromaticities are those of sRGB. Returns None for sRGB, and empty bytes for invalid values.
    """
    points = _SRGB if chromaticities is None else chromaticities
    if abs(gamma / _SRGB_GAMMA - 1) <= _GAMMA_TOLERANCE and np.allclose(points, _SRGB, 0, _PRIMARY_TOLERANCE):
        return None
    return _profile("PNG gamma and primaries", points, 1 / gamma) if 0.05 <= gamma <= 20 else b""


def profile_of_code_points(primaries: int, transfer: int, name: str) -> bytes | None:
    """Return an ICC profile for the colour primaries and transfer characteristics of ITU-T H.273; None for sRGB.

    Returns empty bytes for unknown code points. Raises ImageError for HDR, whose pixels have no equivalent in sRGB;
    the message begins with `name`.
    """
    if transfer in _HDR:
        raise ImageError(f"{name}: HDR pixels ({_HDR[transfer]}) have no equivalent in sRGB; save the image as SDR")
    exponent = None if transfer in _SRGB_CURVES else _EXPONENTS.get(transfer, 0.0)
    if primaries not in _PRIMARIES or exponent == 0.0:
        return b""
    label, points = _PRIMARIES[primaries]
    return None if points == _SRGB and exponent is None else _profile(label, points, exponent)


def _profile(label: str, points: Sequence[float], exponent: float | None) -> bytes:
    """Return a display profile, with the sRGB curve if `exponent` is None; empty for invalid chromaticities."""
    xy = np.reshape(points, (4, 2)).astype(np.float64)
    if not np.isfinite(xy).all() or (xy[:, 1] <= 0).any():
        return b""
    xyz = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(axis=1)], axis=1) / xy[:, 1:]
    white, primaries = xyz[0], xyz[1:].T
    if abs(np.linalg.det(primaries)) < 1e-6:
        return b""
    # Colorants adapted to D50 by the Bradford transform (ICC.1:2022, annex E).
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    colorants = adapt @ (primaries * np.linalg.solve(primaries, white))
    return _icc(label, colorants, _curve(exponent)) if np.abs(colorants).max() < 16 else b""


def _curve(exponent: float | None) -> bytes:
    """Return a curveType element (ICC.1:2001, 6.5.3) from encoded to linear values."""
    if exponent is not None:
        return b"curv\0\0\0\0" + struct.pack(">IHxx", 1, min(65535, round(256 * exponent)))
    encoded = np.linspace(0, 1, _CURVE_POINTS)
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I", _CURVE_POINTS) + np.round(65535 * linear).astype(">u2").tobytes()


def _icc(label: str, colorants: Doubles, curve: bytes) -> bytes:
    """Return a version 2 display profile of colorants [3, 3] (columns, D50) and one curve (ICC.1:2001, 6)."""

    def fixed(values: Any) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * float(v)) for v in values))

    text = label.encode("ascii") + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": fixed(_D50),
        **{name: fixed(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants.T, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">2I", at + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s", at + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    header = header.ljust(68, b"\0") + struct.pack(">3i", *(round(65536 * v) for v in _D50))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
