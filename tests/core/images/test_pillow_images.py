"""Pillow images: opened from a file, made in memory, or changed after they were opened."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from image_files import GREY, RGB, chunk, encoded, png
from PIL import Image, ImageFile

from leakrt.core.errors import ImageError, UsageError
from leakrt.core.images import convert_image, decode_image, read_image
from leakrt.core.images.pillow_images import CHANGED, UNVERIFIED

RNG = np.random.default_rng(2)
H, W = 37, 45
SMOOTH = Image.fromarray(RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize((101, 90))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def overwritten() -> bytes:
    data = bytearray(encoded(SMOOTH, kind="JPEG", quality=95))
    middle = len(data) // 2
    data[middle : middle + 300] = b"\x55" * 300
    return bytes(data)


def half() -> bytes:
    data = encoded(SMOOTH, kind="JPEG", quality=95)
    return data[: len(data) // 2] + b"\xff\xd9"


def wrong_checksum() -> bytes:
    data = bytearray(encoded(SMOOTH, kind="PNG"))
    data[data.rindex(b"IEND") - 8] ^= 1
    return bytes(data)


@pytest.mark.parametrize("data", [overwritten(), half(), wrong_checksum()], ids=["overwritten", "half", "checksum"])
def test_damage_is_rejected_as_in_the_file(data, tmp_path):
    with pytest.raises(ImageError, match="damaged or truncated"):
        convert_image(opened(data))
    (tmp_path / "x").write_bytes(data)
    loaded = Image.open(tmp_path / "x")
    loaded.load()  # which closes the file
    with pytest.raises(ImageError, match="damaged or truncated"):
        convert_image(loaded)


def deep_grey(bits: int, **options) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    buffer = io.BytesIO()
    samples = RNG.integers(0, 2**bits, (H, W)).astype(np.uint16)
    tifffile.imwrite(buffer, samples, metadata=None, **options)
    return buffer.getvalue()


def test_metadata_of_the_file_is_applied():
    samples = RNG.integers(0, 256, (H, W, 3))
    files = [
        deep_grey(12, photometric="minisblack", bitspersample=12),
        deep_grey(16, photometric="miniswhite"),
        png(samples, 8, RGB, chunks=chunk(b"gAMA", struct.pack(">I", 100_000))),
        png(samples, 8, RGB, chunks=chunk(b"cICP", bytes([12, 13, 0, 1]))),
        png(samples[..., 0] * 257, 16, GREY, chunks=chunk(b"tRNS", struct.pack(">H", int(samples[0, 0, 0]) * 257))),
        encoded(SMOOTH, kind="JPEG"),
    ]
    for data in files:
        expected, found = decode_image(data, "the image"), convert_image(opened(data))
        assert np.array_equal(found.pixels, expected.pixels)
        assert found.notes == expected.notes


def test_hdr_is_rejected_as_in_the_file():
    data = png(RNG.integers(0, 256, (H, W, 3)), 8, RGB, chunks=chunk(b"cICP", bytes([9, 16, 0, 1])))
    with pytest.raises(ImageError, match="HDR"):
        convert_image(opened(data))


def test_deep_grey_without_its_file_keeps_its_depth_with_a_note():
    data = deep_grey(12, photometric="minisblack", bitspersample=12)
    image = opened(data)
    image.load()
    image.fp = None
    read = convert_image(image)
    assert np.array_equal(read.pixels, decode_image(data, "x").pixels)
    assert read.notes == (UNVERIFIED,)


def test_an_image_changed_after_opening_uses_its_current_pixels():
    image = opened(encoded(SMOOTH, kind="PNG"))
    image.paste((255, 0, 0), (0, 0, 40, 40))
    read = convert_image(image)
    assert read.pixels[10, 10].tolist() == [0, 0, 255]
    assert CHANGED in read.notes or UNVERIFIED in read.notes


def test_a_thumbnail_uses_its_current_pixels():
    image = opened(encoded(SMOOTH, kind="JPEG"))
    image.thumbnail((50, 50))
    assert max(convert_image(image).pixels.shape[:2]) == 50


def test_a_later_frame_is_noted():
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    image = opened(encoded(frames[0], kind="GIF", save_all=True, append_images=frames[1:]))
    image.seek(1)
    read = convert_image(image)
    assert read.pixels[5, 5].tolist() == [255, 0, 0]
    assert read.notes[0].startswith("frame 2 of the file is used")
    assert not any("first" in note for note in read.notes)


def test_a_setting_that_hides_damage_is_rejected_only_for_opened_images(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UsageError, match=r"LOAD_TRUNCATED_IMAGES is set"):
        convert_image(opened(encoded(SMOOTH, kind="PNG")))
    assert convert_image(SMOOTH).pixels.shape == (90, 101, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_an_image_made_in_memory_gives_the_pixels_of_its_file(mode):
    picture = Image.fromarray(RNG.integers(0, 256, (H, W, 4), dtype=np.uint8)).convert("RGBA")
    if mode == "I;16":
        picture = Image.fromarray(RNG.integers(0, 65536, (H, W), dtype=np.uint16))
    else:
        picture = picture.convert(mode) if mode in ("RGBA", "LA") else picture.convert("RGB").convert(mode)
    assert np.array_equal(convert_image(picture).pixels, decode_image(encoded(picture, kind="TIFF"), "x").pixels)


def test_an_image_in_memory_is_rotated_by_its_exif_block():
    picture = Image.fromarray(RNG.integers(0, 256, (H, W, 3), dtype=np.uint8))
    picture.getexif()[0x0112] = 6
    assert convert_image(picture).pixels.shape == (W, H, 3)


@pytest.mark.parametrize("work", [lambda image: image.convert("RGB"), lambda image: image.copy()])
def test_a_copy_of_a_png_keeps_its_gamma(work, tmp_path):
    from PIL import PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    path = tmp_path / "linear.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path, pnginfo=chunks)
    found, expected = convert_image(work(Image.open(path))), read_image(path)
    assert np.array_equal(found.pixels, expected.pixels)
    assert found.notes == expected.notes != ()


def test_the_orientation_of_a_changed_image_is_applied_and_noted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path, exif=exif)
    upright = convert_image(Image.open(path))
    assert upright.notes == ()
    found = convert_image(Image.open(path).rotate(-90, expand=True))
    assert any("rotated by the EXIF orientation 6" in note for note in found.notes)
