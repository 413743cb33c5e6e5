"""PNG: checksums and metadata."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from image_files import GREY, PALETTE, RGB, RGBA, chunk, encoded, on_white, png, scaled
from PIL import Image

from leakrt.core.errors import ImageError
from leakrt.core.images import decode_image
from leakrt.core.images.pixels import COMPOSITED
from leakrt.core.images.png import read_png

RNG = np.random.default_rng(7)
H, W = 33, 45
PIXELS = RNG.integers(0, 256, (H, W, 3))


def rgb(data: bytes) -> np.ndarray:
    return decode_image(data, "x").pixels[:, :, ::-1].astype(int)


def test_flipped_bits_and_truncation_are_rejected_as_damage():
    data = png(RNG.integers(0, 256, (32, 32, 3)), 8, RGB, chunks=chunk(b"gAMA", struct.pack(">I", 45455)))
    for i in RNG.integers(8 * 8, 8 * len(data), 400):
        broken = bytearray(data)
        broken[i // 8] ^= 1 << i % 8
        with pytest.raises(ImageError, match="damaged or truncated"):
            decode_image(bytes(broken), "x")
    for length in range(8, len(data), 7):
        with pytest.raises(ImageError, match="damaged or truncated"):
            decode_image(data[:length], "x")


def test_a_wrong_checksum_names_its_chunk():
    data = png(PIXELS, 8, RGB)
    at = data.index(b"IDAT") + 10
    with pytest.raises(ImageError, match=r"^x: .* \(wrong checksum in chunk IDAT\)$"):
        decode_image(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], "x")


def test_bytes_after_the_end_are_ignored():
    assert np.array_equal(rgb(png(PIXELS, 8, RGB) + b"trailing"), PIXELS)


@pytest.mark.parametrize("kind", [b"zTXt", b"tEXt", b"iTXt"])
def test_text_of_any_size_is_ignored(kind):
    workflow = b"{" + b"node" * 1_000_000 + b"}"
    body = {
        b"zTXt": b"workflow\0\0" + zlib.compress(workflow),
        b"tEXt": b"prompt\0" + workflow,
        b"iTXt": b"workflow\0\1\0\0\0" + zlib.compress(workflow),
    }[kind]
    assert np.array_equal(rgb(png(PIXELS, 8, RGB, chunks=chunk(kind, body))), PIXELS)


def test_text_with_an_orientation_rotates_the_picture():
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    assert np.array_equal(rgb(png(PIXELS, 8, RGB, chunks=chunk(b"iTXt", xmp))), PIXELS[::-1, ::-1])


def test_an_exif_block_after_the_pixels_rotates_the_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(PIXELS, 8, RGB)
    moved = data[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:]
    assert np.array_equal(rgb(moved), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_value_is_composited_at_every_depth(bits, interlaced):
    samples = RNG.integers(0, 2**bits, (H, W))
    samples[:10] = samples[0, 0]
    data = png(samples, bits, GREY, interlaced=interlaced, chunks=chunk(b"tRNS", struct.pack(">H", samples[0, 0])))
    grey = np.repeat(scaled(samples, bits)[..., None], 3, axis=2)
    assert np.array_equal(rgb(data), on_white(grey, np.where(samples == samples[0, 0], 0, 255)))
    assert decode_image(data, "x").notes == (COMPOSITED,)


def test_sixteen_bit_grey_values_with_one_high_byte_are_not_all_transparent():
    samples = np.full((H, W), 0x1234)
    samples[:10] = 0x1235
    pixels = rgb(png(samples, 16, GREY, chunks=chunk(b"tRNS", struct.pack(">H", 0x1234))))
    assert (pixels[:10] == 0x12).all()
    assert (pixels[10:] == 255).all()


def test_a_transparent_colour_is_composited():
    samples = PIXELS.copy()
    samples[:10] = (1, 2, 3)
    data = png(samples, 8, RGB, chunks=chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert np.array_equal(rgb(data)[:10], np.full((10, W, 3), 255))
    assert np.array_equal(rgb(data)[10:], samples[10:])


def test_a_transparent_colour_of_sixteen_bits_is_rejected_with_a_remedy():
    data = png(RNG.integers(0, 65536, (H, W, 3)), 16, RGB, chunks=chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    with pytest.raises(ImageError, match=r"16-bit RGB with a transparent colour .*; save it with an alpha channel$"):
        decode_image(data, "x")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_with_alpha_is_composited_at_every_depth(bits):
    samples = RNG.integers(0, 2**bits, (H, W))
    palette, alpha = RNG.integers(0, 256, (2**bits, 3)), RNG.integers(0, 256, 2**bits)
    extra = chunk(b"PLTE", palette.astype(np.uint8).tobytes()) + chunk(b"tRNS", alpha.astype(np.uint8).tobytes())
    found = rgb(png(samples, bits, PALETTE, chunks=extra))
    assert np.abs(found - on_white(palette[samples], alpha[samples])).max() <= 1


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "colour", "channels"), [(8, RGB, 3), (16, RGB, 3), (8, GREY, 1), (16, GREY, 1)])
def test_opencv_reads_the_same_pixels(bits, colour, channels, interlaced):
    data = png(RNG.integers(0, 2**bits, (H, W, channels)), bits, colour, interlaced=interlaced)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(H, W, channels)
    expected = other if bits == 8 else (other >> 8).astype(np.uint8)
    assert np.array_equal(decode_image(data, "x").pixels, np.broadcast_to(expected, (H, W, 3)))


def test_opaque_alpha_leaves_no_note():
    opaque = np.dstack([PIXELS, np.full((H, W), 255)])
    assert decode_image(png(opaque, 8, RGBA), "x").notes == ()


@pytest.mark.parametrize("body", [b"", b"\1", b"\0\1\2"])
def test_a_transparent_value_of_invalid_size_is_rejected(body):
    with pytest.raises(ImageError, match="chunk tRNS"):
        decode_image(png(PIXELS, 8, RGB, chunks=chunk(b"tRNS", body)), "x")


def test_colours_are_read_by_their_precedence():
    gamma, srgb = chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"sRGB", b"\0")
    icc = chunk(b"iCCP", b"name\0\0" + zlib.compress(b"profile"))
    assert read_png(png(PIXELS, 8, RGB, chunks=gamma), "x").gamma == 1.0
    assert read_png(png(PIXELS, 8, RGB, chunks=gamma + srgb), "x").gamma is None
    assert read_png(png(PIXELS, 8, RGB, chunks=gamma + icc), "x").profile == b"profile"
    both = read_png(png(PIXELS, 8, RGB, chunks=icc + chunk(b"cICP", bytes([12, 13, 0, 1]))), "x")
    assert (both.code_points, both.profile) == ((12, 13), None)


@pytest.mark.parametrize("body", [b"name\0\0junk", b"name\0\1", b"name", b"name\0\0" + zlib.compress(bytes(9 << 20))])
def test_a_profile_that_is_damaged_or_huge_is_empty(body):
    assert read_png(png(PIXELS, 8, RGB, chunks=chunk(b"iCCP", body)), "x").profile == b""


def test_an_animated_png_has_a_note_on_its_frames():
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], save_all=True, append_images=frames[1:])
    assert decode_image(data, "x").notes == ("the file has several frames; only the first is used",)
