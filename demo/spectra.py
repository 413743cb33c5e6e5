"""The trace of a generator as a picture: the mean spectrum of the noise residuals of its pictures.

An upsampling layer repeats its filter periodically, which gives peaks and grids away from the centre
(Marra et al., "Do GANs leave artificial fingerprints?", 2019; Frank et al., 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..core.errors import DataError
from ..core.images import read_image

Spectrum = npt.NDArray[np.float32]  # [S, S], frequency zero in the centre
_BLUR = 1.0  # standard deviation of the low-pass filter, in pixels
_RANGE = (1.0, 99.8)  # percentiles of all spectra that are shown as black and white


def residual_spectrum(paths: Sequence[Path]) -> Spectrum:
    """Return log10 of the mean power spectrum of luma residuals (picture minus its blur), float32 [S, S].

    All pictures must be square and of one size. Raises DataError, ImageError.
    """
    total: npt.NDArray[np.float64] = np.zeros((0, 0))
    for path in paths:
        luma = cv2.cvtColor(read_image(path).pixels, cv2.COLOR_BGR2GRAY).astype(np.float32)
        if not len(total):
            total = np.zeros((luma.shape[0], luma.shape[0]))
        if luma.shape != total.shape:
            raise DataError(f"{path}: the size is {luma.shape[::-1]}; spectra need square pictures of one size")
        residual = luma - cv2.GaussianBlur(luma, (0, 0), _BLUR)
        total += np.abs(np.fft.fft2(residual - residual.mean())) ** 2
    if not len(total):
        raise DataError("no pictures for a spectrum")
    return np.asarray(np.log10(np.fft.fftshift(total) / len(paths) + 1.0), np.float32)


def spectrum_pictures(spectra: Mapping[str, Spectrum]) -> dict[str, bytes]:
    """Return PNG files of spectra on one common scale, under the same keys."""
    values = np.concatenate([spectrum.ravel() for spectrum in spectra.values()])
    low, high = np.percentile(values, _RANGE)
    return {name: _png((spectrum - low) / max(high - low, 1e-6)) for name, spectrum in spectra.items()}


def _png(shares: npt.NDArray[np.floating]) -> bytes:
    grey = np.asarray(np.rint(np.clip(shares, 0.0, 1.0) * 255), np.uint8)
    done, data = cv2.imencode(".png", cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO))
    if not done:
        raise AssertionError("OpenCV could not encode a PNG")
    return data.tobytes()
