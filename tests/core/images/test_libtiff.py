"""Error reports of libtiff while Pillow decodes."""

from __future__ import annotations

import io
import threading
from contextlib import suppress

import numpy as np
import pytest
from image_files import encoded
from PIL import Image

from leakrt.core.images.libtiff import damage_reports


def damaged() -> bytes:
    black = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)).convert("1")
    data = bytearray(encoded(black, kind="TIFF", compression="group4"))
    for at in range(60, 120):
        data[at] ^= 0x55
    return bytes(data)


def load(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image, suppress(OSError):  # Pillow's own errors don't matter here
        image.load()


def test_errors_are_recorded_up_to_their_first_conversion():
    with damage_reports() as reports:
        load(damaged())
    assert reports
    assert all(text and "%" not in text for text in reports)


def test_reports_are_separate_for_each_thread(capfd):
    with damage_reports() as reports:
        other = threading.Thread(target=load, args=(damaged(),))
        other.start()
        other.join()
    assert reports == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "group4"])
def test_a_valid_file_reports_nothing(compression):
    with damage_reports() as reports:
        load(encoded(Image.new("1", (64, 64), 1), kind="TIFF", compression=compression))
    assert reports == []
