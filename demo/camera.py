"""A simulated camera: lens, Bayer mosaic, shot and read noise, demosaic, white balance, tone, sharpening, JPEG.

Each stage leaves the kind of trace that a real camera leaves. The quickstart's class `real` is made with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # [S, S, 3] RGB
_WHITE = 4095.0  # 12-bit sensor
_SATURATION = np.array([[1.52, -0.40, -0.12], [-0.20, 1.36, -0.16], [-0.06, -0.46, 1.52]], np.float32)


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """The settings of one shot."""

    gain: float  # share of the sensor's range at scene value 1.0
    balance: tuple[float, float]  # gains of red and blue
    shot_noise: float  # variance per unit of signal, relative to the sensor's range
    read_noise: float  # standard deviation, relative to the sensor's range
    blur: float  # standard deviation of the lens blur, in pixels
    sharpening: float  # weight of the unsharp mask


@dataclass(frozen=True)
class Compression:
    """JPEG settings. A photograph and its generated copies share them, so that they reveal no class."""

    quality: int
    chroma_halved: bool


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw settings like those of a phone in changing light."""
    iso = np.exp2(rng.uniform(0, 3))
    return Exposure(
        gain=rng.uniform(0.75, 1.1),
        balance=(rng.uniform(1.5, 2.2), rng.uniform(1.3, 1.9)),
        shot_noise=2.0e-4 * iso,
        read_noise=8.0e-4 * np.sqrt(iso),
        blur=rng.uniform(0.35, 0.6),
        sharpening=rng.uniform(0.5, 1.1),
    )


def draw_compression(rng: np.random.Generator) -> Compression:
    """Draw a quality of 90 to 97 and whether chroma is halved."""
    return Compression(int(rng.integers(90, 98)), bool(rng.random() < 0.5))


def photograph(scene: npt.NDArray[np.float32], shot: Exposure, rng: np.random.Generator) -> Picture:
    """Photograph a scene, linear RGB float32 [S, S, 3] in [0, 1]. Returns uint8 RGB [S, S, 3], before JPEG."""
    image = cv2.GaussianBlur(scene, (0, 0), shot.blur) * _vignette(len(scene))
    gains = np.array([shot.balance[0], 1.0, shot.balance[1]], np.float32)
    raw = _expose(_mosaic(image * shot.gain / gains), shot, rng)
    colour = cv2.cvtColor(raw, cv2.COLOR_BayerRGGB2RGB_EA).astype(np.float32) / np.float32(_WHITE)
    balanced = np.clip(colour * gains, 0.0, 1.0) @ _SATURATION.T
    toned = _tone(np.clip(balanced, 0.0, 1.0).astype(np.float32))
    sharp = toned + np.float32(shot.sharpening) * (toned - cv2.GaussianBlur(toned, (0, 0), 1.0))
    return np.asarray(np.clip(np.rint(sharp * 255), 0, 255), np.uint8)


def encode_jpeg(picture: Picture, compression: Compression) -> bytes:
    """Encode uint8 RGB [S, S, 3] as a JPEG file."""
    sampling = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if compression.chroma_halved else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    )
    options = [cv2.IMWRITE_JPEG_QUALITY, compression.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise AssertionError("OpenCV could not encode a JPEG")
    return data.tobytes()


def _vignette(size: int) -> npt.NDArray[np.float32]:
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    return np.asarray(1 - 0.12 * (axis[:, None] + axis[None, :]), np.float32)[..., None]


def _mosaic(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Keep one colour per pixel, pattern RGGB: float32 [S, S, 3] to [S, S]."""
    raw = image[..., 1].copy()
    raw[0::2, 0::2] = image[0::2, 0::2, 0]
    raw[1::2, 1::2] = image[1::2, 1::2, 2]
    return raw


def _expose(signal: npt.NDArray[np.float32], shot: Exposure, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Add shot noise (Gaussian with Poisson variance) and read noise, and digitise to 12 bits."""
    deviation = np.sqrt(np.clip(signal, 0, None) * shot.shot_noise + shot.read_noise**2)
    noisy = signal + deviation * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(noisy * _WHITE), 0, _WHITE), np.uint16)


def _tone(linear: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Apply the sRGB curve (IEC 61966-2-1)."""
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)
    return np.asarray(curve, np.float32)
