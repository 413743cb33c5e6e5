"""Colour spaces to sRGB by their formulas, independent of any library; and the PNG chunks that state them."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from image_files import chunk

LEVELS = np.arange(0, 256, 17)
COLOURS = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(64, 64, 3)
# x and y of white, red, green and blue
SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_xyz(points):
    """The matrix from linear RGB to XYZ, and the white."""
    xy = np.reshape(points, (4, 2))
    xyz = np.column_stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(axis=1)) / xy[:, 1]])
    columns = xyz[1:].T
    return columns * np.linalg.solve(columns, xyz[0]), xyz[0]


def srgb_linear(encoded_values):
    return np.where(encoded_values <= 0.04045, encoded_values / 12.92, ((encoded_values + 0.055) / 1.055) ** 2.4)


def converted(colours, points, linear):
    """Levels of sRGB by the formulas: linear, XYZ, Bradford, linear sRGB, clipped, encoded."""
    (matrix, white), (target, target_white) = to_xyz(points), to_xyz(SRGB)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ target_white) / (_BRADFORD @ white)) @ _BRADFORD
    values = linear(colours / 255) @ (np.linalg.inv(target) @ adapt @ matrix).T
    values = values.clip(0, 1)
    return 255 * np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def gamma_chunks(exponent, points):
    chroma = struct.pack(">8I", *(round(100_000 * value) for value in points))
    return chunk(b"gAMA", struct.pack(">I", round(100_000 / exponent))) + chunk(b"cHRM", chroma)


def iccp(profile):
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))
