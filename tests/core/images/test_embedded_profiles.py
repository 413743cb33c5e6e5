"""ICC profiles in BMP, GIF and JPEG 2000 files, against the same picture as a PNG with that profile."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from leakrt.core.errors import ImageError
from leakrt.core.images import decode_image
from leakrt.core.images.colour_spaces import profile_of_gamma
from leakrt.core.images.embedded_profiles import embedded_profile

LINEAR = profile_of_gamma(1.0, None)
RGB = np.random.default_rng(3).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def encoded(kind: str, picture: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def bmp(space: int, profile: bytes = b"", gamma: int = 0) -> bytes:
    """Return a BMP with a BITMAPV5HEADER."""
    height, width = RGB.shape[:2]
    pixels = np.ascontiguousarray(RGB[::-1, :, ::-1]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<4I", 0, 0, 0, 0) + struct.pack("<I", space) + bytes(36) + struct.pack("<3I", *[gamma] * 3)
    header += struct.pack("<4I", 4, 124 + len(pixels) if profile else 0, len(profile), 0)
    size = 14 + 124 + len(pixels) + len(profile)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, 138) + header + pixels + profile


def gif(profile: bytes) -> bytes:
    data = encoded("GIF", Image.fromarray(RGB).quantize(256))
    end = 13 + 3 * 256
    blocks = b"".join(bytes([len(profile[i : i + 255])]) + profile[i : i + 255] for i in range(0, len(profile), 255))
    return data[:end] + b"\x21\xff\x0bICCRGBG1012" + blocks + b"\0" + data[end:]


def jp2(colour: bytes) -> bytes:
    """Return a JPEG 2000 file whose `colr` box has this body."""
    data = encoded("JPEG2000", Image.fromarray(RGB), irreversible=False)
    begin = data.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", data, begin)
    header, at = data[begin + 8 : begin + length], 0
    kept = b""
    while at < len(header):
        (size,) = struct.unpack_from(">I", header, at)
        kept += b"" if header[at + 4 : at + 8] == b"colr" else header[at : at + size]
        at += size
    kept += struct.pack(">I4s", 8 + len(colour), b"colr") + colour
    return data[:begin] + struct.pack(">I4s", 8 + len(kept), b"jp2h") + kept + data[begin + length :]


def as_png(profile: bytes | None, picture: np.ndarray = RGB):
    options = {} if profile is None else {"icc_profile": profile}
    return decode_image(encoded("PNG", Image.fromarray(picture), **options), "x")


@pytest.mark.parametrize("data", [bmp(0x4D424544, LINEAR), jp2(b"\x02\0\0" + LINEAR)], ids=["BMP", "JPEG2000"])
def test_a_profile_is_applied_as_in_a_png(data):
    found, expected = decode_image(data, "x"), as_png(LINEAR)
    assert np.array_equal(found.pixels, expected.pixels)
    assert found.notes == expected.notes != ()


def test_the_profile_of_a_gif_is_applied_as_in_a_png():
    palette = np.asarray(Image.open(io.BytesIO(gif(LINEAR))).convert("RGB"))
    found, expected = decode_image(gif(LINEAR), "x"), as_png(LINEAR, palette)
    assert np.array_equal(found.pixels, expected.pixels)
    assert found.notes == expected.notes != ()


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "data",
    [bmp(0x73524742), bmp(0x57696E20), bmp(0), bmp(0x4D424544, SRGB), jp2(b"\x01\0\0\0\0\0\x10")],
    ids=["sRGB", "Windows", "no gamma", "sRGB profile", "JPEG2000"],
)
def test_descriptions_of_srgb_change_nothing(data):
    found = decode_image(data, "x")
    assert np.array_equal(found.pixels, RGB[:, :, ::-1])
    assert found.notes == ()


@pytest.mark.parametrize(
    "data",
    [bmp(0, gamma=2 << 16), bmp(0x4C494E4B), bmp(0x4D424544, b"no profile"), jp2(b"\x01\0\0\0\0\0\x15")],
    ids=["gamma", "linked", "damaged", "ROMM by number"],
)
def test_an_unsupported_colour_description_is_noted(data):
    assert decode_image(data, "x").notes == ("its colour profile can't be read; its pixels are treated as sRGB",)


@pytest.mark.parametrize("data", [b"", b"\0" * 40, bmp(0)[:60], jp2(b"\x02\0\0")[:60]])
def test_truncated_bytes_give_no_profile(data):
    for kind in ("GIF", "JPEG2000", "PNG"):
        assert embedded_profile(data, kind) in (None, b"")


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
def test_jpeg_2000_of_more_than_8_bits_is_read_in_grey_and_rejected_in_colour(bits):
    imagecodecs = pytest.importorskip("imagecodecs")
    deep = (RGB[:, :, 0].astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    options = {"bitspersample": bits, "reversible": True, "level": 0, "codecformat": "jp2"}
    refused = f"JPEG 2000 with {bits} bits per channel is not supported"
    coded = imagecodecs.jpeg2k_encode(deep, **options)
    if bits == 9:
        with pytest.raises(ImageError, match=refused):
            decode_image(coded, "x")
    else:
        assert np.abs(decode_image(coded, "x").pixels[:, :, 0].astype(int) - RGB[:, :, 0]).max() <= 1
    with pytest.raises(ImageError, match=refused):
        decode_image(imagecodecs.jpeg2k_encode(np.stack([deep] * 3, axis=-1), **options), "x")
