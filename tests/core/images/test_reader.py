"""Common kinds of image files, and malicious ones."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leakrt.core.errors import ImageError
from leakrt.core.images import MIN_SIDE, decode_image, read_image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (37, 45, 3), dtype=np.uint8)  # RGB


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(rows: list[bytes], width: int, depth: int, colour: int) -> bytes:
    """Return a PNG of any bit depth; Pillow can't write 16-bit RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_files_give_their_pixels_as_bgr(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    read = decode_image(encoded(Image.fromarray(PIXELS), kind, **options), "x")
    assert np.array_equal(read.pixels, PIXELS[:, :, ::-1])
    assert read.pixels.flags.c_contiguous
    assert read.notes == ()


def test_a_jpeg_is_close_to_its_source():
    smooth = np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[:, None, None], 64, 1).repeat(3, 2)
    read = decode_image(encoded(Image.fromarray(smooth), "JPEG", quality=95), "x")
    assert np.abs(read.pixels.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_the_high_byte_instead_of_clipping(channels):
    values = RNG.integers(0, 65536, (40, 33, channels), dtype=np.uint16)
    rows = [row.astype(">u2").tobytes() for row in values]
    read = decode_image(png(rows, 33, 16, 0 if channels == 1 else 2), "x")
    expected = (values >> 8).astype(np.uint8)
    assert np.array_equal(read.pixels, np.broadcast_to(expected[:, :, ::-1], (40, 33, 3)))


def test_a_sixteen_bit_grey_tiff_keeps_the_high_byte():
    values = RNG.integers(0, 65536, (40, 33), dtype=np.uint16)
    read = decode_image(encoded(Image.fromarray(values), "TIFF"), "x")
    assert np.array_equal(read.pixels[:, :, 1], (values >> 8).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_rejected(dtype):
    data = encoded(Image.fromarray(np.full((40, 40), 0.5, dtype)), "TIFF")
    with pytest.raises(ImageError, match=r"^x: 32-bit pixels have no known range; save"):
        decode_image(data, "x")


def test_cmyk_is_converted():
    data = encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "TIFF")  # magenta and yellow ink: red
    assert decode_image(data, "x").pixels[0, 0].tolist() == [0, 0, 255]


def test_a_cmyk_jpeg_as_adobe_writes_it_is_not_inverted():
    data = encoded(Image.new("CMYK", (48, 48), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data[:200]  # Adobe stores inverted inks
    blue, green, red = decode_image(data, "x").pixels[20, 20].tolist()
    assert red > 240
    assert max(green, blue) < 15


def test_a_palette_is_looked_up():
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert decode_image(encoded(image), "x").pixels[0, 0].tolist() == [30, 20, 10]


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_a_transparent_palette_colour_is_composited_on_white(kind):
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert decode_image(encoded(image, kind, transparency=1), "x").pixels[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_on_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[:, :20] = (200, 100, 50, 255)
    rgba[:, 20:] = (0, 0, 0, 128)
    pixels = decode_image(encoded(Image.fromarray(rgba), kind, **options), "x").pixels
    assert pixels[0, 0].tolist() == [50, 100, 200]
    assert pixels[0, 30].tolist() == [127, 127, 127]


@pytest.mark.parametrize(("mode", "colour", "expected"), [("L", 77, 77), ("1", 1, 255), ("LA", (9, 255), 9)])
def test_grey_fills_all_three_channels(mode, colour, expected):
    assert decode_image(encoded(Image.new(mode, (40, 40), colour)), "x").pixels[0, 0].tolist() == [expected] * 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_rotated_upright(orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(PIXELS), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(decode_image(data, "x").pixels, expected[:, :, ::-1])


@pytest.mark.filterwarnings("ignore:::PIL")
def test_a_damaged_exif_block_counts_as_missing():
    data = encoded(Image.fromarray(PIXELS), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    assert np.array_equal(decode_image(data, "x").pixels, PIXELS[:, :, ::-1])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_only_the_first_of_several_frames_is_used_with_a_note(kind):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    read = decode_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options), "x")
    assert read.pixels[0, 0].tolist() == [0, 0, 255]
    assert read.notes == ("the file has several frames; only the first is used",)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_rejected_in_one_line(kind, share):
    data = encoded(Image.fromarray(PIXELS), kind)
    with pytest.raises(
        ImageError, match=r"^folder/x: (the image is damaged or truncated|not an image of a supported)"
    ) as e:
        decode_image(data[: int(len(data) * share)], "folder/x")
    assert "\n" not in str(e.value)


def flipped(data: bytes, count: int) -> list[bytes]:
    """Return `count` copies with three bytes near the beginning replaced."""
    rng, copies = np.random.default_rng(0), []
    for _ in range(count):
        broken = np.frombuffer(data, np.uint8).copy()
        broken[rng.integers(0, min(len(data), 300), 3)] = rng.integers(0, 256, 3)
        copies.append(broken.tobytes())
    return copies


def outcome(data: bytes) -> str:
    try:
        return f"read {decode_image(data, 'x').pixels.ndim}"
    except ImageError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bytes_give_an_image_or_one_line(kind):
    outcomes = [outcome(data) for data in flipped(encoded(Image.fromarray(PIXELS), kind), 60)]
    assert all(text == "read 3" or (text.startswith("x: ") and "\n" not in text) for text in outcomes)
    assert any(text.startswith("x: ") for text in outcomes)


def test_damaged_files_print_nothing_to_stderr(tmp_path):
    damaged = [d for c in ("raw", "tiff_lzw", "tiff_deflate", "jpeg") for d in flipped(tiff(c), 60)]
    damaged += [d for kind in FORMATS for d in flipped(encoded(Image.fromarray(PIXELS), kind), 30)]
    for i, data in enumerate(damaged):
        (tmp_path / f"{i}.img").write_bytes(data)
    code = (
        "import sys, pathlib\nfrom leakrt.core import errors, images\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: images.read_image(path)\n"
        "    except errors.ImageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) > 100


def tiff(compression: str) -> bytes:
    return encoded(Image.fromarray(PIXELS), "TIFF", compression=compression)


def test_a_zero_byte_file_says_so(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"x\.jpg: the file is empty$"):
        read_image(tmp_path / "x.jpg")


def test_text_is_rejected():
    with pytest.raises(ImageError, match=r"^x: not an image of a supported format \(JPEG, PNG"):
        decode_image(b"hello, world" * 100, "x")


def test_an_unsupported_format_is_rejected():
    data = encoded(Image.fromarray(PIXELS), "PPM")
    with pytest.raises(ImageError, match="not an image of a supported format"):
        decode_image(data, "x")


def test_one_pixel_is_too_small():
    with pytest.raises(ImageError, match=r"^x: the image is 1 x 1; each side needs at least 32 pixels$"):
        decode_image(encoded(Image.new("RGB", (1, 1))), "x")


def test_the_smallest_side_is_allowed():
    assert decode_image(encoded(Image.new("RGB", (MIN_SIDE, 99))), "x").pixels.shape == (99, MIN_SIDE, 3)


def test_the_pixel_limit_is_configurable():
    data = encoded(Image.new("RGB", (40, 50)))
    assert decode_image(data, "x", max_pixels=2000).pixels.shape == (50, 40, 3)
    with pytest.raises(ImageError, match=r"^x: the image has more than 0\.001999 megapixels; .* \(it is 40 x 50\)$"):
        decode_image(data, "x", max_pixels=1999)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its peak memory from /proc")
def test_a_20000_x_20000_image_is_rejected_with_bounded_memory(tmp_path):
    row = b"\0" * 2500
    (tmp_path / "huge.png").write_bytes(png([row] * 20_000, 20_000, 1, 0))
    code = (
        "import re, sys\n"
        "from leakrt.core.images import read_image\n"
        "from leakrt.core.errors import ImageError\n"
        "try:\n    read_image(sys.argv[1])\n"
        "except ImageError as error:\n    print(error)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "huge.png"], capture_output=True, text=True)
    message, memory = done.stdout.splitlines()
    assert "the image has more than 64 megapixels" in message
    assert int(memory) < 150 << 10  # KiB; the decoded image alone would take 1.2 GB
    assert done.stderr == ""


def test_a_folder_is_rejected(tmp_path):
    with pytest.raises(ImageError, match=r"can't be read|not a regular file"):
        read_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_device_is_not_read():
    with pytest.raises(ImageError, match=r"^/dev/zero: can't be read \(not a regular file\)$"):
        read_image("/dev/zero")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that can be opened but not read")
def test_an_unreadable_file_is_an_image_error():
    with pytest.raises(ImageError, match=r"^/proc/self/mem: can't be read \(Input/output error\)$"):
        read_image("/proc/self/mem")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_image_error(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(Image.fromarray(PIXELS)))
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(ImageError, match=r"x\.png: can't be read \(Permission denied\)$"):
        read_image(tmp_path / "x.png")


def test_a_missing_file_and_an_impossible_name_are_image_errors(tmp_path):
    with pytest.raises(ImageError, match=r"can't be read \(No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="not a valid file name"):
        read_image("a\0b")


def test_a_file_beyond_the_size_limit_is_not_read(tmp_path):
    with open(tmp_path / "x.bmp", "wb") as handle:
        handle.truncate((256 << 20) + 1)  # sparse: takes no disk
    with pytest.raises(ImageError, match=r"x\.bmp: the file has more than 256 MiB$"):
        read_image(tmp_path / "x.bmp")
