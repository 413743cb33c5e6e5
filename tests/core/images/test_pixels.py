"""Pixel formats that the tests of other modules don't cover."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import bmp, encoded, on_white, packed
from PIL import Image, ImageFile

from leakrt.core.errors import ImageError, UsageError
from leakrt.core.images import decode_image
from leakrt.core.images.pixels import turned

RNG = np.random.default_rng(2)
H, W = 37, 45


def rgb(data: bytes) -> np.ndarray:
    return decode_image(data, "x").pixels[:, :, ::-1].astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotations_match_pillow(orientation):
    from PIL import ImageOps

    picture = Image.fromarray(RNG.integers(0, 256, (H, W, 3), dtype=np.uint8))
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    found = turned(np.asarray(picture), orientation)
    assert np.array_equal(found, expected)
    assert found.flags.c_contiguous


@pytest.mark.parametrize("header", [12, 40])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palettes_of_a_bmp_are_looked_up(bits, header):
    samples, palette = RNG.integers(0, 2**bits, (H, W)), RNG.integers(0, 256, (2**bits, 3), dtype=np.uint8)
    pad = b"" if header == 12 else b"\0"
    table = b"".join(colour[::-1].tobytes() + pad for colour in palette)
    data = bmp(packed(samples, bits), (W, H), bits, palette=table, header=header)
    assert np.array_equal(rgb(data), palette[samples])


@pytest.mark.parametrize("header", [108, 124])
@pytest.mark.parametrize("compression", [0, 3])
def test_a_bmp_has_alpha_only_with_bit_fields(compression, header):
    rgba = RNG.integers(0, 256, (H, W, 4), dtype=np.uint8)
    rows = [row[:, [2, 1, 0, 3]].tobytes() for row in rgba]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = bmp(rows, (W, H), 32, compression=compression, masks=masks, header=header, top_down=True)
    expected = on_white(rgba[..., :3], rgba[..., 3]) if compression else rgba[..., :3]
    assert np.abs(rgb(data) - expected).max() <= 1


def test_a_truncated_run_length_bmp_is_rejected():
    rows = [
        b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in RNG.integers(0, 256, (H, W), dtype=np.uint8)
    ]
    data = bmp(b"".join(rows) + b"\0\1", (W, H), 8, compression=1, palette=RNG.bytes(1024))
    whole = rgb(data)
    for length in range(1200, len(data) - 2, 61):
        with pytest.raises(ImageError):
            decode_image(data[:length], "x")
    assert whole.shape == (H, W, 3)


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "AVIF", "JPEG2000", "BMP"])
def test_a_truncated_file_is_rejected_or_decodes_equally(kind):
    data = encoded(Image.fromarray(RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)), kind=kind)
    whole = rgb(data)
    for length in range(16, len(data), max(1, len(data) // 60)):
        try:
            found = rgb(data[:length])
        except ImageError:
            continue
        assert np.array_equal(found, whole)


def test_a_bare_jpeg_2000_codestream_needs_its_end():
    picture = Image.fromarray(RNG.integers(0, 256, (H, W, 3), dtype=np.uint8))
    data = encoded(picture, kind="JPEG2000", no_jp2=True, quality_mode="rates", quality_layers=[20])
    for length in range(100, len(data) - 1):
        with pytest.raises(ImageError):
            decode_image(data[:length], "x")


def test_a_setting_that_hides_damage_is_rejected(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UsageError, match=r"LOAD_TRUNCATED_IMAGES is set; set it to False$"):
        decode_image(encoded(Image.new("RGB", (40, 40))), "x")


def test_a_gif_frame_that_covers_part_of_its_canvas_is_noted():
    data = bytearray(encoded(Image.new("L", (40, 40), 90), kind="GIF"))
    data[6:10] = (60).to_bytes(2, "little") + (50).to_bytes(2, "little")  # the canvas
    read = decode_image(bytes(data), "x")
    assert read.pixels.shape == (50, 60, 3)
    assert read.notes == ("the first frame covers only part of the GIF's canvas; the rest is filled",)
