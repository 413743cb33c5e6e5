"""Formats by content."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import encoded
from PIL import Image

from leakrt.core.images import FORMATS, format_of

PICTURE = Image.fromarray(np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000"])
def test_a_file_is_recognised_by_its_first_bytes(kind):
    assert format_of(encoded(PICTURE, kind=kind)[:64]) == kind


def test_heif_and_jpeg_xl_are_recognised(monkeypatch):
    heif, jxl = pytest.importorskip("pillow_heif"), pytest.importorskip("pillow_jxl")
    heif.register_heif_opener()
    assert jxl is not None
    assert format_of(encoded(PICTURE, kind="HEIF")[:64]) == "HEIF"
    assert format_of(encoded(PICTURE, kind="JXL")[:64]) == "JXL"


@pytest.mark.parametrize("head", [b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n", b"II+\0", b"MM\0+", b"\xff\x4f\xff\x51"])
def test_rare_signatures_are_recognised(head):
    assert format_of(head + b"\0" * 64) in FORMATS


def test_a_compatible_brand_is_recognised():
    assert format_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + b"\0" * 40) == "HEIF"
    assert format_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafavif" + b"\0" * 40) == "AVIF"


@pytest.mark.parametrize(
    "head", [b"", b"hello", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypisom\0\0\0\0mp42isom", b"%PDF-1.7"]
)
def test_other_files_are_not_images(head):
    assert format_of(head.ljust(64, b"\0")) is None
