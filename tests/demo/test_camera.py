"""The simulated camera leaves the traces it is said to leave."""

from __future__ import annotations

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
from PIL import Image

from leakrt.demo.camera import (
    Compression,
    Exposure,
    draw_compression,
    draw_exposure,
    encode_jpeg,
    photograph,
)

PLAIN = Exposure(gain=1.0, balance=(1.5, 1.3), shot_noise=0.0, read_noise=0.0, blur=0.35, sharpening=0.0)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_camera_gives_a_plain_colour_back(channel):
    """Red stays red: mosaic, balance and demosaic name the same pixels."""
    scene = np.full((64, 64, 3), 0.1, np.float32)
    scene[..., channel] = 0.5
    middle = photograph(scene, PLAIN, np.random.default_rng(0))[24:40, 24:40].reshape(-1, 3).astype(float)
    assert middle.mean(0).argmax() == channel
    assert middle.std(0).max() < 2.0
    assert middle.mean(0)[channel] > 2 * np.delete(middle.mean(0), channel).max()


def noise(shot_noise: float) -> np.ndarray:
    """What a plain grey scene shows besides its shading: float64 [48, 48] of green."""
    scene = np.full((64, 64, 3), 0.3, np.float32)
    green = photograph(scene, replace(PLAIN, shot_noise=shot_noise), np.random.default_rng(1))[..., 1].astype(float)
    return (green - cv2.GaussianBlur(green, (0, 0), 4))[8:-8, 8:-8]


def test_a_camera_leaves_noise_that_grows_with_its_sensitivity_and_a_mosaic():
    none, quiet, loud = noise(0.0), noise(2e-4), noise(16e-4)
    assert none.std() < 1.0 < quiet.std() < loud.std() / 2
    neighbours = np.corrcoef(loud[:, 1:].ravel(), loud[:, :-1].ravel())[0, 1]
    assert neighbours > 0.2  # demosaicing shares each pixel's noise with those beside it


def test_drawn_settings_lie_in_their_ranges():
    rng = np.random.default_rng(0)
    settings = [draw_compression(rng) for _ in range(200)]
    assert {s.quality for s in settings} == set(range(90, 98))
    assert {s.chroma_halved for s in settings} == {True, False}
    shots = [draw_exposure(rng) for _ in range(50)]
    assert len({shot.gain for shot in shots}) == 50


@pytest.mark.parametrize(("halved", "sampling"), [(True, (2, 2)), (False, (1, 1))])
def test_a_jpeg_has_the_requested_chroma(halved, sampling):
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(encode_jpeg(picture, Compression(95, halved))))
    assert image.layer[0][1:3] == sampling
    assert np.abs(np.asarray(image).astype(int) - picture).mean() < 60
