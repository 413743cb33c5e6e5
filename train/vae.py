"""The VAE encoders that training can look through: diffusers' AutoencoderKL, any ONNX file, the built-in one.

All give scaled latents: `scale` times the posterior mean. None is read through pickle.
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

PREPROCESS_VERSION = 1  # of `_core.preprocess`: another one gives other pixels, so other latents
FIRST_OUTPUT = ""  # the output that versions without `VaeDescription.output` took

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class VaeDescription:
    """Which VAE encoder a run looks through."""

    kind: str  # sd, onnx or builtin
    source: str  # file, folder or hub id
    scale: float  # latent = scale x posterior mean
    image_size: int  # S, pixels
    fingerprint: str  # SHA-256 over weights or file, scale, image size and preprocess version
    output: str = FIRST_OUTPUT  # name of the ONNX output that is the latent; empty: the first, or kind is sd

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry a field."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> VaeDescription:
        """Read what `to_json` wrote, also without `output`, as older versions did. Raises CheckpointError."""
        known = cls.__dataclass_fields__.keys()
        if not isinstance(data, dict) or {"output": FIRST_OUTPUT, **data}.keys() != known:
            raise CheckpointError("the description of the VAE lacks fields or has unknown ones; train again")
        for problem in mistyped(cls, data):
            raise CheckpointError(f"the description of the VAE: {problem}; train again")
        return cls(**data)


class VaeEncoder(Protocol):
    """What the latent cache needs of a VAE encoder. `encode` may be called from several threads at once."""

    description: VaeDescription

    def encode(self, images: Array) -> Array:
        """Images float32 [B, 3, S, S], RGB in [-1, 1], to scaled latents float32 [B, 4, S/8, S/8].

        Every image is run by itself on one thread, so that its latent has the same bits in every batch.
        Raises ModelError.
        """
        ...


def open_vae(option: str, scale: float | None, image_size: int, *, output: str | None = None) -> SdVae | OnnxVae:
    """The encoder that `--vae` names: `sd:ID_OR_FOLDER`, `onnx:FILE` or `builtin`, tried on probe images.

    `scale` None means the one that comes with it: an AutoencoderKL states its own, an ONNX file can't and gets
    0.18215. `output` names the output of an ONNX file; None: the only one, or the one that is called latent, mean or
    latent_sample. Raises UsageError for another option, scale or output, ModelError, MissingExtraError.
    """
    from .latent_checks import check_latents

    vae = _open(option, scale, image_size, output=output)
    check_latents(option, vae)
    return vae


def reopen_vae(description: VaeDescription, *, source: str = "") -> SdVae | OnnxVae:
    """The encoder that a run was trained through; `source` says where it is now, if it was moved.

    Raises ModelError when it is gone or has other weights.
    """
    wanted = replace(description, source=source or description.source)
    output = wanted.output if wanted.kind == "onnx" else None
    vae = _open(f"{wanted.kind}:{wanted.source}", wanted.scale, wanted.image_size, output=output)
    if vae.description.fingerprint != description.fingerprint:
        raise ModelError(
            f"{wanted.kind}:{wanted.source} is not the VAE that the run was trained through; name that one"
        )
    return vae


def _open(option: str, scale: float | None, image_size: int, *, output: str | None) -> SdVae | OnnxVae:
    from .onnx_vae import OnnxVae
    from .sd_vae import SdVae

    if scale is not None and not 0 < scale < 1e4:
        raise UsageError(f"VAE scale {scale}; a positive number is needed")
    kind, _, source = option.partition(":")
    if option == "builtin":
        raise ModelError(
            "the built-in VAE has no trained weights yet; name one: --vae sd:ID_OR_FOLDER or --vae onnx:FILE"
        )
    if kind not in ("sd", "onnx") or not source:
        raise UsageError(f"--vae {option}: choose sd:ID_OR_FOLDER, onnx:FILE or builtin")
    if kind == "onnx":
        return OnnxVae(source, scale, image_size, output=output)
    if output is not None:
        raise UsageError(f"--vae-output {output}: only an ONNX encoder has named outputs; leave the option out for sd:")
    return SdVae(source, scale, image_size)


def fingerprint_of(weights: str, scale: float, image_size: int) -> str:
    """The SHA-256 that a description holds; `weights`: that of the weights or the file."""
    return sha256_bytes(f"{weights} {scale!r} {image_size} {PREPROCESS_VERSION}".encode())


def resolved(source: str) -> str:
    """The absolute path of a source that exists here, so that a run opens from another folder; else a hub id."""
    path = Path(source)
    return str(path.resolve()) if path.exists() else source
