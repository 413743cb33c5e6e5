"""VAE encoders: diffusers' AutoencoderKL, any ONNX file, and the built-in one.

Each returns scaled latents, `scale` times the posterior mean. No weights are loaded through pickle.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..core.errors import CheckpointError, ModelError, UsageError
from ..core.fields import mistyped
from ..core.files import sha256_bytes

if TYPE_CHECKING:
    from .onnx_vae import OnnxVae
    from .sd_vae import SdVae

PREPROCESS_VERSION = 1  # of `_core.preprocess`; a new version changes pixels and latents
FIRST_OUTPUT = ""  # meaning of a missing `VaeDescription.output` in old runs

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class VaeDescription:
    """The VAE encoder of a run."""

    kind: str  # sd, onnx or builtin
    source: str  # file, folder or Hugging Face Hub id
    scale: float  # latent = scale x posterior mean
    image_size: int  # S, pixels
    fingerprint: str  # SHA-256 over weights or file, scale, image size and preprocess version
    output: str = FIRST_OUTPUT  # name of the ONNX output with the latent; empty for the first one and for sd

    @property
    def option(self) -> str:
        """The value of `--vae` that opens the encoder again."""
        return f"{self.kind}:{self.source}"

    @property
    def named_output(self) -> str | None:
        """The value of `--vae-output` that opens the encoder again."""
        return self.output if self.kind == "onnx" else None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> VaeDescription:
        """Read a JSON object written by `to_json`; old ones lack `output`. Raises CheckpointError."""
        known = cls.__dataclass_fields__.keys()
        if not isinstance(data, dict) or {"output": FIRST_OUTPUT, **data}.keys() != known:
            raise CheckpointError("the description of the VAE lacks fields or has unknown ones; train again")
        for problem in mistyped(cls, data):
            raise CheckpointError(f"the description of the VAE: {problem}; train again")
        return cls(**data)


class VaeEncoder(Protocol):
    """Interface of a VAE encoder. `encode` may be called from several threads at once."""

    description: VaeDescription

    def encode(self, images: Array) -> Array:
        """Encode images float32 [B, 3, S, S], RGB in [-1, 1], to scaled latents float32 [B, 4, S/8, S/8].

        Each image runs separately on one thread, so that its latent is bit-identical in every batch.
        Raises ModelError.
        """
        ...


def open_vae(option: str, scale: float | None, image_size: int, *, output: str | None = None) -> SdVae | OnnxVae:
    """Open the encoder of `--vae` (`sd:ID_OR_FOLDER`, `onnx:FILE` or `builtin`) and check it on probe images.

    With `scale` None, an AutoencoderKL uses the scale of its configuration and an ONNX file uses 0.18215.
    `output` is the name of an ONNX output; None selects the only one, or the one named latent, mean or latent_sample.
    Raises UsageError for an invalid option, scale or output, ModelError, MissingExtraError.
    """
    from .latent_checks import check_latents

    vae = _open(option, scale, image_size, output=output)
    check_latents(option, vae)
    return vae


def reopen_vae(description: VaeDescription, *, source: str = "") -> SdVae | OnnxVae:
    """Open the encoder that a run was trained with, at `source` if it was moved.

    Raises ModelError if it is missing or has different weights.
    """
    wanted = replace(description, source=source or description.source)
    vae = _open(wanted.option, wanted.scale, wanted.image_size, output=wanted.named_output)
    if vae.description.fingerprint != description.fingerprint:
        raise ModelError(
            f"{wanted.kind}:{wanted.source} is not the VAE that the run was trained with; restore that one"
        )
    return vae


def _open(option: str, scale: float | None, image_size: int, *, output: str | None) -> SdVae | OnnxVae:
    from .onnx_vae import OnnxVae
    from .sd_vae import SdVae

    if scale is not None and not 0 < scale < 1e4:
        raise UsageError(f"VAE scale {scale}: must be positive and below 10000")
    kind, _, source = option.partition(":")
    if option == "builtin":
        raise ModelError(
            "the built-in VAE has no trained weights yet; choose another: --vae sd:ID_OR_FOLDER or --vae onnx:FILE"
        )
    if kind not in ("sd", "onnx") or not source:
        raise UsageError(f"--vae {option}: choose sd:ID_OR_FOLDER, onnx:FILE or builtin")
    if kind == "onnx":
        return OnnxVae(source, scale, image_size, output=output)
    if output is not None:
        raise UsageError(f"--vae-output {output}: only an ONNX encoder has named outputs; omit the option for sd:")
    return SdVae(source, scale, image_size)


def fingerprint_of(weights: str, scale: float, image_size: int) -> str:
    """Return the fingerprint of a description. `weights` is the SHA-256 of the weights or the file."""
    return sha256_bytes(f"{weights} {scale!r} {image_size} {PREPROCESS_VERSION}".encode())


def resolved(source: str) -> str:
    """Return the absolute path of a source that exists, otherwise the source itself (a hub id)."""
    path = Path(source)
    return str(path.resolve()) if path.exists() else source
