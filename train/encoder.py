"""What every VAE encoder that training looks through has in common: its description, and what its latents must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..core.errors import CheckpointError, ModelError
from ..core.fields import mistyped
from ..core.files import sha256_bytes

PREPROCESS_VERSION = 1  # of `_core.preprocess`: another one gives other pixels, so other latents
OWN_SCALE = 0.0  # asks `open_vae` for the encoder's own scale

_CHANNELS, _FACTOR = 4, 8

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VaeDescription:
    """Which VAE encoder a run looks through."""

    kind: str  # sd, onnx or builtin
    source: str  # file, folder or hub id
    scale: float  # latent = scale x posterior mean
    image_size: int  # S, pixels
    fingerprint: str  # SHA-256 over weights or file, scale, image size, preprocess version, and a chosen output
    output: str = ""  # the ONNX output that is the latent; empty for other kinds, and in older runs for the first

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry a field."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> VaeDescription:
        """Read what `to_json` wrote, with or without `output`. Raises CheckpointError."""
        fields = cls.__dataclass_fields__.keys()
        if not isinstance(data, dict) or {"output", *data} != fields:
            raise CheckpointError("the description of the VAE lacks fields or has unknown ones; train again")
        found = {"output": "", **data}
        for problem in mistyped(cls, found):
            raise CheckpointError(f"the description of the VAE: {problem}; train again")
        return cls(**found)


class VaeEncoder(Protocol):
    """What the latent cache needs of a VAE encoder. `encode` may be called from several threads at once."""

    description: VaeDescription

    def encode(self, images: Array) -> Array:
        """Images float32 [B, 3, S, S], RGB in [-1, 1], to scaled latents float32 [B, 4, S/8, S/8].

        Every image is run by itself on one thread, so that its latent has the same bits in every batch.
        Raises ModelError.
        """
        ...


def one_by_one(run: Callable[[Array], Array], images: Array) -> Array:
    """`run` on each image float32 [1, 3, S, S] by itself, put together."""
    latents = [run(np.ascontiguousarray(image[None])) for image in images]
    side = images.shape[-1] // _FACTOR
    return np.concatenate(latents) if latents else np.empty((0, _CHANNELS, side, side), np.float32)


def probe(run: Callable[[Array], Array], size: int, name: str) -> None:
    """Encode two random images of `size` pixels a side, one of them twice.

    Raises ModelError, which begins with `name`, for a latent of another shape, one that is not finite, that does not
    depend on the image, or that differs between two runs.
    """
    first, second = np.random.default_rng(0).uniform(-1, 1, (2, 1, 3, size, size)).astype(np.float32)
    latent = run(first)
    check_shape(latent.shape, size, name)
    check_finite(latent, name)
    if not np.array_equal(run(first), latent):
        raise ModelError(
            f"{name} gives another latent each time for one image; output the posterior mean, not a sample"
        )
    if np.array_equal(run(second), latent):
        raise ModelError(f"{name} gives one latent for all images; name the output that holds the posterior mean")


def check_finite(latent: Array, name: str) -> None:
    """Raises ModelError for NaN or infinity."""
    if not np.isfinite(latent).all():
        kind = "NaN" if np.isnan(latent).any() else "infinity"
        raise ModelError(f"{name} outputs {kind} for images in [-1, 1]; export it in float32, or use another VAE")


def check_shape(shape: Sequence[int], size: int, name: str) -> None:
    """Raises ModelError with a remedy unless `shape` is [1, 4, S/8, S/8]."""
    wanted = (1, _CHANNELS, size // _FACTOR, size // _FACTOR)
    if tuple(shape) != wanted:
        found = f"{name} outputs a latent of shape {list(shape)} for S = {size}"
        raise ModelError(f"{found}, where [B, 4, S/8, S/8] = {list(wanted)} is needed; {_remedy(shape, size)}")


def _remedy(shape: Sequence[int], size: int) -> str:
    if len(shape) != 4:
        return "name the output that holds the latent"
    channels, height, width = shape[1:]
    factor = size / height if height else 0
    if height != width or factor != _FACTOR:
        return f"it downsamples by {factor:g}; use an encoder that downsamples by 8"
    if channels == 2 * _CHANNELS:
        return "8 channels are mean and log-variance of the posterior; export the first four, the mean"
    if channels in (16, 32):
        return "16 latent channels are those of Stable Diffusion 3 and FLUX; use the VAE of Stable Diffusion 1, 2 or XL"
    return "use an encoder with 4 latent channels"


def fingerprint(weights: str, scale: float, image_size: int, output: str = "") -> str:
    """The fingerprint of an encoder; `output` names an ONNX output other than the first."""
    text = f"{weights} {scale!r} {image_size} {PREPROCESS_VERSION}"
    return sha256_bytes(f"{text} {output}".encode() if output else text.encode())


def resolved(source: str) -> str:
    """An absolute path for what lies here, so that a run can be opened from another folder; a hub id as it is."""
    path = Path(source)
    return str(path.resolve()) if path.exists() else source
