"""The VAE encoders that training can look through: diffusers' AutoencoderKL, any ONNX file, the built-in one.

All give scaled latents: `scale` times the posterior mean. None is read through pickle.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..core.errors import CheckpointError, ModelError, UsageError, one_line, require
from ..core.fields import mistyped
from ..core.files import sha256_bytes

PREPROCESS_VERSION = 1  # of `_core.preprocess`: another one gives other pixels, so other latents
DEFAULT_SCALE = 0.18215  # Stable Diffusion 1 and 2
OWN_SCALE = 0.0  # asks `open_vae` for the encoder's own scale

_MODEL_LIMIT = 2 << 30  # what a protobuf can hold
_SHAPES = "image [B, 3, S, S] -> latent [B, 4, S/8, S/8]"
_FATAL = 4  # ONNX Runtime's log level: what fails is raised as well

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VaeDescription:
    """Which VAE encoder a run looks through."""

    kind: str  # sd, onnx or builtin
    source: str  # file, folder or hub id
    scale: float  # latent = scale x posterior mean
    image_size: int  # S, pixels
    fingerprint: str  # SHA-256 over weights or file, scale, image size and preprocess version

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry a field."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> VaeDescription:
        """Read what `to_json` wrote. Raises CheckpointError."""
        if not isinstance(data, dict) or data.keys() != cls.__dataclass_fields__.keys():
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


class SdVae:
    """The encoder half of a diffusers AutoencoderKL, in float32. `module` is the AutoencoderKL without decoder."""

    def __init__(self, source: str, scale: float, image_size: int) -> None:
        """Load from a folder (of the VAE or of a whole pipeline) or a hub id; weights from safetensors only.

        Raises ModelError, and MissingExtraError without diffusers.
        """
        require("torch", "train")
        self.module = _load_autoencoder(source)
        scale = scale if scale != OWN_SCALE else float(self.module.config.scaling_factor)
        fingerprint = _fingerprint(_hash_weights(self.module), scale, image_size)
        self.description = VaeDescription("sd", _resolved(source), scale, image_size, fingerprint)
        probe = self._run(np.zeros((1, 3, 64, 64), np.float32))
        _check_shape(f"sd:{source}", probe, (1, 4, 8, 8), "for S = 64")

    def encode(self, images: Array) -> Array:
        """See VaeEncoder."""
        return _one_by_one(self._run, images) * np.float32(self.description.scale)

    def _run(self, image: Array) -> Array:
        import torch

        threads = torch.get_num_threads()  # of the calling thread
        torch.set_num_threads(1)  # another count would add sums in another order
        try:
            with torch.inference_mode():
                mean = self.module.encode(torch.from_numpy(image)).latent_dist.mean
        finally:
            torch.set_num_threads(threads)
        return np.asarray(mean.numpy(), np.float32)


class OnnxVae:
    """An ONNX file with one input float32 [b, 3, H, W], whose first output is the unscaled latent.

    Attributes: `model` (the bytes), `input_name`, `output_name`.
    """

    def __init__(self, source: str, scale: float, image_size: int) -> None:
        """Load from bytes, never by path: weights in other files are not followed. Raises ModelError."""
        self.model = _read_model(Path(source))
        self._session = _onnx_session(source, self.model)
        self.input_name = _onnx_input(source, self._session)
        self.output_name = _onnx_output(source, self._session)
        self._source = source
        scale = scale if scale != OWN_SCALE else DEFAULT_SCALE
        fingerprint = _fingerprint(sha256_bytes(self.model), scale, image_size)
        self.description = VaeDescription("onnx", _resolved(source), scale, image_size, fingerprint)
        side = image_size // 8
        probe = self._run(np.zeros((1, 3, image_size, image_size), np.float32))
        _check_shape(f"onnx:{source}", probe, (1, 4, side, side), f"for S = {image_size}")

    def encode(self, images: Array) -> Array:
        """See VaeEncoder."""
        return _one_by_one(self._run, images) * np.float32(self.description.scale)

    def _run(self, image: Array) -> Array:
        try:
            result = self._session.run([self.output_name], {self.input_name: image})[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelError(f"onnx:{self._source} can't be run ({one_line(error)}); needed: {_SHAPES}") from error
        return np.asarray(result, np.float32)


def open_vae(option: str, scale: float, image_size: int) -> SdVae | OnnxVae:
    """The encoder that `--vae` names: `sd:ID_OR_FOLDER`, `onnx:FILE` or `builtin`.

    `scale` OWN_SCALE means the one that comes with it: an AutoencoderKL states its own, an ONNX file can't and gets
    0.18215. Raises UsageError for another option or scale, ModelError, MissingExtraError.
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
    return SdVae(source, scale, image_size) if kind == "sd" else OnnxVae(source, scale, image_size)


def reopen_vae(description: VaeDescription, source: str = "") -> SdVae | OnnxVae:
    """The very encoder that a run was trained through; `source` says where it lies now, if it was moved.

    Raises ModelError when it is gone or has other weights.
    """
    wanted = replace(description, source=source or description.source)
    vae = open_vae(f"{wanted.kind}:{wanted.source}", wanted.scale, wanted.image_size)
    if vae.description.fingerprint != description.fingerprint:
        raise ModelError(
            f"{wanted.kind}:{wanted.source} is not the VAE that the run was trained through; name that one"
        )
    return vae


def _load_autoencoder(source: str) -> Any:
    diffusers = require("diffusers", "train")
    diffusers.utils.logging.set_verbosity(diffusers.utils.logging.CRITICAL)
    local = Path(source).is_dir()
    if not local and (source.startswith(("/", ".", "~")) or source.count("/") != 1):
        raise ModelError(f"sd:{source}: no such folder; give the folder of an AutoencoderKL, or a hub id OWNER/NAME")
    try:
        module = _from_folder(diffusers, Path(source)) if local else _from_hub(diffusers, source)
    except Exception as error:  # diffusers, hub and safetensors raise dozens of kinds
        hint = "" if local else "; without a network download its folder elsewhere and give --vae sd:FOLDER"
        raise ModelError(f"sd:{source} can't be loaded ({one_line(error)}){hint}") from error
    del module.decoder, module.post_quant_conv
    return module.eval().requires_grad_(False)


def _from_folder(diffusers: Any, folder: Path) -> Any:
    return _from_pretrained(diffusers, str(folder), (folder / "vae" / "config.json").is_file(), offline=True)


def _from_hub(diffusers: Any, repository: str) -> Any:
    """From the hub's cache if it is there, else over the network, asked once first: downloads retry for a minute."""
    import huggingface_hub

    for whole_pipeline in (False, True):
        try:
            return _from_pretrained(diffusers, repository, whole_pipeline, offline=True)
        except OSError:
            continue
    files = huggingface_hub.model_info(repository, timeout=10).siblings or []
    whole_pipeline = "vae/config.json" in {file.rfilename for file in files}
    return _from_pretrained(diffusers, repository, whole_pipeline, offline=False)


def _from_pretrained(diffusers: Any, source: str, whole_pipeline: bool, offline: bool) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return diffusers.AutoencoderKL.from_pretrained(
            source,
            subfolder="vae" if whole_pipeline else None,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            local_files_only=offline,
            torch_dtype=torch.float32,
        )


def _hash_weights(module: Any) -> str:
    """SHA-256 over the encoder's configuration and its weights, whatever file they came from."""
    config = {k: module.config[k] for k in sorted(module.config) if not k.startswith("_") and k != "scaling_factor"}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_model(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MODEL_LIMIT:
            raise ModelError(f"onnx:{path} has more than 2 GiB; it is no single-file ONNX model")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"onnx:{path} can't be read ({error.strerror}); give the path of an ONNX file") from error


def _onnx_session(source: str, model: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # images run side by side instead: no waiting within a layer
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = _FATAL
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as in OnnxVae._run
        raise ModelError(f"onnx:{source} can't be loaded ({one_line(error)}); needed: {_SHAPES}") from error


def _onnx_input(source: str, session: Any) -> str:
    inputs = session.get_inputs()
    found = ", ".join(f"{node.name} {node.type} {node.shape}" for node in inputs)
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise ModelError(f"onnx:{source} takes {found or 'nothing'}, where one float32 [b, 3, H, W] is needed")
    return str(inputs[0].name)


def _onnx_output(source: str, session: Any) -> str:
    output = session.get_outputs()[0]
    if output.type != "tensor(float)":
        raise ModelError(f"onnx:{source} gives {output.type}, where a float32 latent is needed; end it with a Cast")
    return str(output.name)


def _one_by_one(run: Any, images: Array) -> Array:
    latents = [run(np.ascontiguousarray(image[None])) for image in images]
    side = images.shape[-1] // 8
    return np.concatenate(latents) if latents else np.empty((0, 4, side, side), np.float32)


def _check_shape(name: str, latent: Array, wanted: tuple[int, ...], size: str) -> None:
    if latent.shape != wanted:
        shapes = f"{list(latent.shape)} {size}, where [B, 4, S/8, S/8] = {list(wanted)} is needed"
        raise ModelError(f"{name} gives a latent of shape {shapes}")


def _fingerprint(weights: str, scale: float, image_size: int) -> str:
    return sha256_bytes(f"{weights} {scale!r} {image_size} {PREPROCESS_VERSION}".encode())


def _resolved(source: str) -> str:
    """An absolute path for what lies here, so that a run can be opened from another folder; a hub id as it is."""
    path = Path(source)
    return str(path.resolve()) if path.exists() else source
