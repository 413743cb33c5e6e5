"""JPEG: warnings of libjpeg-turbo become errors or notes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded
from PIL import Image

from leakrt.core.errors import ImageError
from leakrt.core.images import decode_image
from leakrt.core.images.jpeg import UNCHECKED, UNFINISHED, decode_jpeg

RNG = np.random.default_rng(3)
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 256, (12, 15, 3), dtype=np.uint8)).resize((121, 99)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}])
def test_pixels_match_pillow(mode, options):
    data = encoded(Image.fromarray(SMOOTH).convert(mode), kind="JPEG", quality=90, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[:, :, ::-1]
    assert np.array_equal(decode_image(data, "x").pixels, expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_an_overwritten_scan_is_rejected(mode):
    data = bytearray(encoded(Image.fromarray(SMOOTH).convert(mode), kind="JPEG", quality=95))
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    data[middle : middle + 512] = RNG.bytes(512).replace(b"\xff", b"\x7f")
    with pytest.raises(ImageError, match=r"^x: the image is damaged or truncated \(.*(Corrupt|Premature)"):
        decode_image(bytes(data), "x")


@pytest.mark.parametrize("cut", [1, 2, 3, 50, 1000])
def test_a_truncated_file_is_rejected(cut):
    with pytest.raises(ImageError, match="damaged or truncated"):
        decode_image(encoded(Image.fromarray(SMOOTH), kind="JPEG", quality=95)[:-cut], "x")


@pytest.mark.parametrize("byte", [b"\0", b"\xaa"])
def test_padding_before_the_end_is_accepted_with_a_note(byte):
    data = encoded(Image.fromarray(SMOOTH), kind="JPEG")
    read = decode_image(data[:-2] + byte * 9 + data[-2:], "x")
    assert np.array_equal(read.pixels, decode_image(data, "x").pixels)
    assert len(read.notes) == 1
    assert read.notes[0].startswith("the JPEG decoder warns: Corrupt JPEG data")


def test_extraneous_data_before_the_end_is_rejected():
    data = encoded(Image.fromarray(SMOOTH), kind="JPEG")
    with pytest.raises(ImageError, match="extraneous bytes before marker 0xd9"):
        decode_image(data[:-2] + b"\x12\x34\x56\x78\x9a\xbc" + data[-2:], "x")


def test_a_preview_after_the_picture_is_ignored():
    data = encoded(Image.fromarray(SMOOTH), kind="JPEG")
    assert decode_image(data + encoded(Image.new("RGB", (40, 40)), kind="JPEG"), "x").notes == ()


def test_colours_can_be_decoded_as_stored():
    data = encoded(Image.fromarray(SMOOTH).convert("L"), kind="JPEG")
    assert decode_jpeg(data, "GRAY", "x")[0].shape == (99, 121, 1)


def scans_of(data: bytes) -> list[int]:
    return [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_progressive_file_without_its_last_scans_is_noted(mode):
    data = encoded(Image.fromarray(SMOOTH).convert(mode), kind="JPEG", quality=90, progressive=True)
    assert decode_image(data, "x").notes == ()
    starts = scans_of(data)
    assert len(starts) > 3
    for at in starts[1:]:
        assert decode_image(data[:at] + b"\xff\xd9", "x").notes == (UNFINISHED,)


def test_an_unusual_subsampling_is_read_with_a_note():
    data = (Path(__file__).parents[2] / "data" / "thirds.jpg").read_bytes()  # one chroma sample per three pixels
    read = decode_image(data, "x")
    assert read.notes == (UNCHECKED,)
    assert np.array_equal(read.pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[:, :, ::-1])
