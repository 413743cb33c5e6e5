"""Colour profiles to sRGB, against the formulas."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from colour_formulas import ADOBE, COLOURS, P3, PROPHOTO, SRGB, converted, gamma_chunks, iccp, srgb_linear
from image_files import GREY, RGB, RGBA, chunk, encoded, png
from PIL import Image, ImageCms

from leakrt.core.errors import ImageError
from leakrt.core.images import decode_image
from leakrt.core.images.colour import PLAIN_CMYK, UNREADABLE


def read(data):
    found = decode_image(data, "x")
    return found.pixels[:, :, ::-1].astype(int), found.notes


@pytest.mark.parametrize(("points", "exponent"), [(ADOBE, 563 / 256), (PROPHOTO, 1.8), (SRGB, 1.0), (SRGB, 1.6)])
def test_gamma_and_primaries_of_a_png_are_converted(points, exponent):
    pixels, notes = read(png(COLOURS, 8, RGB, chunks=gamma_chunks(exponent, points)))
    assert np.abs(pixels - converted(COLOURS, points, lambda v: v**exponent)).max() <= 1.2
    assert notes == ("its colours were converted from PNG gamma and primaries to sRGB",)


def test_code_points_of_display_p3_are_converted():
    pixels, notes = read(png(COLOURS, 8, RGB, chunks=chunk(b"cICP", bytes([12, 13, 0, 1]))))
    assert np.abs(pixels - converted(COLOURS, P3, srgb_linear)).max() <= 1.2
    assert notes == ("its colours were converted from Display P3 to sRGB",)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_rejected(transfer):
    with pytest.raises(ImageError, match=r"^x: HDR pixels \((PQ|HLG)\) have no equivalent in sRGB; save the image as"):
        decode_image(png(COLOURS, 8, RGB, chunks=chunk(b"cICP", bytes([9, transfer, 0, 1]))), "x")


def test_an_adobe_rgb_profile_is_converted_in_every_format_with_profiles():
    codecs = pytest.importorskip("imagecodecs")
    profile = codecs.cms_profile("adobergb")
    expected = converted(COLOURS, ADOBE, lambda v: v ** (563 / 256))
    picture = Image.fromarray(COLOURS.astype(np.uint8))
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        pixels, notes = read(encoded(picture, kind=kind, icc_profile=profile, **options))
        assert np.abs(pixels - expected).max() <= 1.2, kind
        assert notes == ("its colours were converted from Adobe RGB (compatible) to sRGB",)
    flat = Image.new("RGB", (64, 64), (200, 40, 90))
    pixels, _ = read(encoded(flat, kind="JPEG", quality=100, subsampling=0, icc_profile=profile))
    assert np.abs(pixels[8, 8] - converted(np.array([[200, 40, 90]]), ADOBE, lambda v: v ** (563 / 256))).max() <= 3


def test_pixels_with_an_srgb_profile_are_unchanged():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels, notes = read(png(COLOURS, 8, RGB, chunks=iccp(profile)))
    assert np.array_equal(pixels, COLOURS)
    assert notes == ()


def test_the_usual_gamma_chunk_leaves_pixels_unchanged():
    for chunks in (chunk(b"gAMA", struct.pack(">I", 45455)), gamma_chunks(2.2, SRGB)):
        pixels, notes = read(png(COLOURS, 8, RGB, chunks=chunks))
        assert np.array_equal(pixels, COLOURS)
        assert notes == ()


def test_colours_are_converted_before_they_are_composited():
    samples = np.dstack([COLOURS, np.full((64, 64), 128)])
    pixels, notes = read(png(samples, 8, RGBA, chunks=gamma_chunks(1.0, SRGB)))
    expected = converted(COLOURS, SRGB, lambda v: v) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(pixels - expected).max() <= 1.5
    assert len(notes) == 2


def test_grey_is_converted_too():
    ramp = np.tile(np.arange(256), (40, 1))
    pixels, notes = read(png(ramp, 8, GREY, chunks=chunk(b"gAMA", struct.pack(">I", 100_000))))
    expected = converted(np.repeat(ramp[..., None], 3, axis=2), SRGB, lambda v: v)
    assert np.abs(pixels - expected).max() <= 1.2
    assert len(notes) == 1


@pytest.mark.parametrize("profile", [b"junk" * 50, b"\0" * 200])
def test_a_profile_that_can_not_be_read_is_noted(profile):
    pixels, notes = read(png(COLOURS, 8, RGB, chunks=iccp(profile)))
    assert np.array_equal(pixels, COLOURS)
    assert notes == (UNREADABLE,)


def test_a_profile_for_other_channels_is_noted_and_ignored():
    gray = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    _, notes = read(png(COLOURS, 8, RGB, chunks=iccp(bytes(gray))))
    assert notes == (UNREADABLE,)


def test_cmyk_without_a_profile_is_noted():
    data = encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), kind="TIFF")
    assert decode_image(data, "x").notes == (PLAIN_CMYK,)
