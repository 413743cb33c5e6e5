"""The VAE encoders that training can look through: diffusers' AutoencoderKL, any ONNX file, the built-in one.

All give scaled latents: `scale` times the posterior mean. None is read through pickle.
"""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import ModelError, UsageError
from .encoder import OWN_SCALE as OWN_SCALE
from .encoder import PREPROCESS_VERSION as PREPROCESS_VERSION
from .encoder import Array as Array
from .encoder import VaeDescription as VaeDescription
from .encoder import VaeEncoder as VaeEncoder
from .onnx_vae import OnnxVae, first_output
from .sd_vae import SdVae


def open_vae(option: str, scale: float, image_size: int, output: str | None = None) -> SdVae | OnnxVae:
    """The encoder that `--vae` names: `sd:ID_OR_FOLDER`, `onnx:FILE` or `builtin`.

    `scale` OWN_SCALE means the one that comes with it: an AutoencoderKL states its own, an ONNX file can't and gets
    0.18215. `output` names the ONNX output that is the latent. Raises UsageError for another option, scale or output,
    ModelError, MissingExtraError.
    """
    if not 0 <= scale < 1e4:
        raise UsageError(f"VAE scale {scale}; a positive number is needed")
    kind, _, source = option.partition(":")
    if option == "builtin":
        raise ModelError(
            "the built-in VAE has no trained weights yet; name one: --vae sd:ID_OR_FOLDER or --vae onnx:FILE"
        )
    if kind not in ("sd", "onnx") or not source:
        raise UsageError(f"--vae {option}: choose sd:ID_OR_FOLDER, onnx:FILE or builtin")
    if kind == "onnx":
        return OnnxVae(source, scale, image_size, output)
    if output is not None:
        raise UsageError(f"--vae-output {output}: only an encoder of --vae onnx:FILE has named outputs")
    return SdVae(source, scale, image_size)


def reopen_vae(description: VaeDescription, source: str = "") -> SdVae | OnnxVae:
    """The very encoder that a run was trained through; `source` says where it lies now, if it was moved.

    Raises ModelError when it is gone or has other weights.
    """
    wanted = replace(description, source=source or description.source)
    output = None
    if wanted.kind == "onnx":
        output = wanted.output or first_output(wanted.source)
    try:
        vae = open_vae(f"{wanted.kind}:{wanted.source}", wanted.scale, wanted.image_size, output)
    except UsageError as error:  # the output is gone
        raise ModelError(f"{error}; it is not the VAE that the run was trained through") from error
    if vae.description.fingerprint != description.fingerprint:
        raise ModelError(
            f"{wanted.kind}:{wanted.source} is not the VAE that the run was trained through; name that one"
        )
    return vae
