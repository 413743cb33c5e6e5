"""Formats that need a plugin or an optional decoder of Pillow."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from image_files import encoded
from PIL import Image, features

from leakrt.core.errors import ImageError
from leakrt.core.images import decode_image, plugins

RNG = np.random.default_rng(2)
H, W = 37, 45


def rgb(data: bytes) -> np.ndarray:
    return decode_image(data, "x").pixels[:, :, ::-1].astype(int)


@pytest.mark.parametrize("kind", ["HEIF", "JXL"])
def test_formats_of_extras_are_read_or_the_error_names_the_install_command(kind):
    modules = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}
    plugin = pytest.importorskip(modules[kind])
    if kind == "HEIF":
        plugin.register_heif_opener()
    smooth = Image.fromarray(RNG.integers(0, 256, (4, 5), dtype=np.uint8)).resize((W, H)).convert("RGB")
    options = {"quality": -1} if kind == "HEIF" else {"lossless": True}
    moved = np.abs(rgb(encoded(smooth, kind=kind, **options)) - np.asarray(smooth))
    assert moved.mean() <= (1 if kind == "HEIF" else 0)


@pytest.mark.parametrize(("brand", "extra"), [(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "heic"), (b"\xff\x0a", "jxl")])
def test_the_error_about_a_missing_extra_names_the_install_command(brand, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    plugins._missing.cache_clear()
    with pytest.raises(ImageError, match=rf"^x: no decoder for .* install it with: pip install 'leakrt\[{extra}\]'$"):
        decode_image(brand.ljust(200, b"\0"), "x")
    plugins._missing.cache_clear()


def test_a_pillow_without_a_decoder_is_named(monkeypatch):
    data = encoded(Image.new("RGB", (40, 40)), kind="AVIF")
    monkeypatch.setattr(features, "check", lambda name: False)
    plugins._missing.cache_clear()
    with pytest.raises(ImageError, match=r"^x: this Pillow was built without AVIF; .*: pip install -U pillow$"):
        decode_image(data, "x")
    plugins._missing.cache_clear()
