"""TIFF: tags that Pillow does not apply, and a comparison with a second decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
from image_files import encoded, on_white, scaled
from PIL import Image

from leakrt.core.errors import ImageError
from leakrt.core.images import decode_image

RNG = np.random.default_rng(11)
H, W = 37, 45


def rgb(data: bytes) -> np.ndarray:
    return decode_image(data, "x").pixels[:, :, ::-1].astype(int)


def tiff(samples: np.ndarray, **options) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, metadata=None, **options)
    return buffer.getvalue()


def samples_of(bits: int, channels: int) -> np.ndarray:
    return RNG.integers(0, 2**bits, (H, W, channels)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_rotates_the_picture_once(orientation, compression):
    picture, exif = Image.fromarray(samples_of(8, 3)), Image.Exif()
    exif[0x0112] = orientation
    expected = decode_image(encoded(picture, kind="PNG", exif=exif), "x").pixels
    assert np.array_equal(
        decode_image(encoded(picture, kind="TIFF", compression=compression, exif=exif), "x").pixels, expected
    )


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_grey_with_an_orientation_keeps_its_brightness(bits):
    samples = RNG.integers(0, 2**bits, (H, W)).astype(np.uint16)
    depth = {"bitspersample": 12} if bits == 12 else {}
    if bits == 12:
        pytest.importorskip("imagecodecs")
    data = tiff(samples, photometric="minisblack", extratags=[(0x0112, 3, 1, 3, True)], **depth)
    assert np.array_equal(rgb(data)[:, :, 0], (samples >> (bits - 8))[::-1, ::-1])


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_may_be_white_is_zero(bits, photometric):
    samples = samples_of(bits, 1)[..., 0]
    grey = scaled(samples.astype(int), bits)
    expected = 255 - grey if photometric == "miniswhite" else grey
    assert np.array_equal(rgb(tiff(samples, photometric=photometric))[..., 1], expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "zstd"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("layout", ["strips", "tiles", "predictor", "big"])
def test_colours_round_trip(layout, bits, compression, order):
    if compression is not None or layout == "predictor":
        pytest.importorskip("imagecodecs")
    options = {
        "strips": {"rowsperstrip": 5},
        "tiles": {"tile": (16, 32)},
        "predictor": {"predictor": compression in ("lzw", "deflate", "zstd")},
        "big": {"bigtiff": True},
    }[layout]
    if layout == "big" and order == ">":
        pytest.skip("Pillow reads no big-endian BigTIFF")
    samples = samples_of(bits, 3)
    data = tiff(samples, photometric="rgb", compression=compression, byteorder=order, **options)
    assert np.array_equal(rgb(data), scaled(samples.astype(int), bits))


@pytest.mark.parametrize(("channels", "kind"), [(4, 0), (4, 1), (4, 2), (2, 0), (2, 1), (2, 2)])
def test_extra_samples_are_alpha_only_if_the_file_declares_it(channels, kind):
    samples = samples_of(8, channels)
    if kind == 1:  # premultiplied
        samples[..., :-1] = samples[..., :-1].astype(int) * samples[..., -1:] // 255
    photometric = "rgb" if channels == 4 else "minisblack"
    data = tiff(samples, photometric=photometric, planarconfig="contig", extrasamples=[kind])
    colours = samples[..., :-1].astype(float) * np.ones(3)
    share = samples[..., -1]
    expected = {0: colours, 1: colours + 255.0 - share[..., None], 2: on_white(colours, share)}[kind]
    assert np.abs(rgb(data) - expected).max() <= 1.01


def test_signed_samples_are_rejected():
    with pytest.raises(ImageError, match=r"^x: signed pixels have no known range"):
        decode_image(tiff(np.zeros((H, W), np.int16), photometric="minisblack"), "x")


def test_planes_that_pillow_reads_as_bytes_are_rejected():
    planes = np.moveaxis(samples_of(16, 3), 2, 0)
    with pytest.raises(ImageError, match="16-bit planes are not supported; save the TIFF with interleaved channels"):
        decode_image(tiff(planes, photometric="rgb", planarconfig="separate"), "x")
    small = np.moveaxis(samples_of(8, 3), 2, 0)
    assert np.array_equal(rgb(tiff(small, photometric="rgb", planarconfig="separate")), np.moveaxis(small, 0, 2))


def test_unknown_pixel_formats_are_rejected():
    with pytest.raises(ImageError, match=r"its TIFF pixel format is not supported$"):
        decode_image(tiff(RNG.random((H, W)).astype(np.float16), photometric="minisblack"), "x")


@pytest.mark.parametrize("compression", ["tiff_deflate", "tiff_adobe_deflate"])
def test_damage_detected_by_the_deflate_checksum_is_rejected(compression):
    data = encoded(Image.fromarray(samples_of(8, 3)), kind="TIFF", compression=compression)
    for at in range(20, len(data) - 300, 97):
        with pytest.raises(ImageError, match="damaged or truncated"):
            decode_image(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :], "x")


def test_errors_that_libtiff_only_reports_are_rejected():
    black = Image.fromarray(samples_of(8, 1)[..., 0]).convert("1")
    data = encoded(black, kind="TIFF", compression="group4")
    outcomes = []
    for at in range(40, len(data) - 300, 5):
        broken = data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :]
        try:
            decode_image(broken, "x")
        except ImageError as error:
            outcomes.append(str(error))
    assert any("Bad code word" in text for text in outcomes)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_strip_is_decoded_strictly(mode):
    smooth = Image.fromarray(RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)).resize((96, 80)).convert(mode)
    data = encoded(smooth, kind="TIFF", compression="jpeg")
    assert decode_image(data, "x").pixels.shape == (80, 96, 3)
    scan = data.rindex(b"\xff\xda") + 30
    with pytest.raises(ImageError, match=r"damaged or truncated \(a strip of the TIFF: Corrupt JPEG data"):
        decode_image(data[:scan] + RNG.bytes(64).replace(b"\xff", b"\1") + data[scan + 64 :], "x")


@pytest.mark.parametrize("tag", [(254, 4, 1, 1, True), (50706, 1, 4, (1, 4, 0, 0), True)])
def test_the_preview_of_a_raw_file_is_rejected(tag):
    data = tiff(samples_of(8, 3), photometric="rgb", extratags=[tag])
    with pytest.raises(ImageError, match="begins with the preview of a raw file; convert it to JPEG or TIFF"):
        decode_image(data, "x")
