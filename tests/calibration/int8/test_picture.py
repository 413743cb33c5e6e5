"""The sensitivity picture is a PNG that shows every layer."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from leakrt.calibration.int8.picture import sensitivity_picture
from leakrt.calibration.int8.sensitivity import LayerSensitivity
from leakrt.calibration.layers import Layer
from leakrt.core.errors import StorageError

pytest.importorskip("matplotlib")


def draw(path, count, returned=()):
    layers = [Layer(name=f"/encoder/conv{i}", input="a", output="b", multiplications=100) for i in range(count)]
    found = [
        LayerSensitivity(layer=layer, share=1 / count, latent_error=0.1, score_error=0.05 * (i + 1), labels_moved=0.0)
        for i, layer in enumerate(layers)
    ]
    times = {layer.name: 1.0 + i for i, layer in enumerate(layers)}
    sensitivity_picture(path, found, returned, fp32_ms=times, int8_ms={name: t / 2 for name, t in times.items()})
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_it_grows_with_the_layers_so_that_none_is_squeezed(tmp_path):
    few, many = draw(tmp_path / "few.png", 3), draw(tmp_path / "many.png", 40)
    assert many.shape[1] > 2 * few.shape[1]


def test_a_layer_in_floating_point_has_another_colour(tmp_path):
    red = np.array([0xD1, 0x49, 0x5B])

    def reds(picture):
        return int((np.abs(picture.astype(int) - red).sum(axis=2) < 12).sum())

    bare, returned = (draw(tmp_path / f"{n}.png", 5, kept) for n, kept in (("a", ()), ("b", ("/encoder/conv4",))))
    assert reds(returned) > reds(bare) + 1000


def test_a_folder_that_is_not_there_is_an_error_in_one_line(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        draw(tmp_path / "nowhere" / "a.png", 3)
