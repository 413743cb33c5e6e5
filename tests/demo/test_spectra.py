"""Residual spectra: a period in the pixels is a peak at its frequency."""

import cv2
import numpy as np
import pytest

from leakrt.core.errors import DataError
from leakrt.demo.spectra import residual_spectrum, spectrum_pictures


def _write(path, pixels):
    assert cv2.imwrite(str(path), pixels)
    return path


def test_a_pattern_of_four_pixels_peaks_at_a_quarter_of_the_sampling_rate(tmp_path):
    rng = np.random.default_rng(0)
    wave = 20 * np.sin(2 * np.pi * np.arange(64) / 4)
    files = []
    for i in range(8):
        pixels = np.clip(rng.normal(128, 3, (64, 64)) + wave, 0, 255).astype(np.uint8)
        files.append(_write(tmp_path / f"{i}.png", cv2.merge([pixels] * 3)))
    spectrum = residual_spectrum(files)
    assert spectrum.shape == (64, 64)
    peak = np.unravel_index(spectrum.argmax(), spectrum.shape)
    assert peak in {(32, 16), (32, 48)}


def test_pictures_share_one_scale(tmp_path):
    low, high = np.zeros((33, 33), np.float32), np.full((33, 33), 5.0, np.float32)
    files = spectrum_pictures({"low": low, "high": high})
    dark, bright = (cv2.imdecode(np.frombuffer(files[k], np.uint8), cv2.IMREAD_COLOR) for k in ("low", "high"))
    assert dark.shape == bright.shape == (33, 33, 3)
    assert dark.mean() + 100 < bright.mean()


def test_pictures_of_another_size_and_no_pictures_are_refused(tmp_path):
    small = _write(tmp_path / "small.png", np.zeros((40, 40, 3), np.uint8))
    large = _write(tmp_path / "large.png", np.zeros((48, 48, 3), np.uint8))
    with pytest.raises(DataError, match=r"large\.png"):
        residual_spectrum([small, large])
    with pytest.raises(DataError, match="no pictures"):
        residual_spectrum([])
