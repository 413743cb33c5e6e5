"""A VAE encoder from a diffusers AutoencoderKL."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError, one_line, require
from .latent_checks import check_finite, check_shape, one_by_one, probe_images
from .vae import Array, VaeDescription, fingerprint_of, resolved

_PROBE_SIZE = 64
_CONFIG, _WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
_CONFIG_LIMIT = 1 << 20  # bytes
_STABLE_DIFFUSION = "use the VAE of Stable Diffusion 1, 2 or XL"


class SdVae:
    """The encoder of a diffusers AutoencoderKL in float32. `module` is the AutoencoderKL without its decoder."""

    notes: tuple[str, ...] = ()  # remarks on the choice of output; always empty

    def __init__(self, source: str, scale: float | None, image_size: int) -> None:
        """Load a folder (of a VAE or a whole pipeline) or a hub id. Weights are read from safetensors only.

        Raises ModelError, MissingExtraError without diffusers.
        """
        require("torch", "train")
        self.module = _load_autoencoder(source)
        scale = scale if scale is not None else float(self.module.config.scaling_factor)
        fingerprint = fingerprint_of(_hash_weights(self.module), scale, image_size)
        self.description = VaeDescription(
            kind="sd", source=resolved(source), scale=scale, image_size=image_size, fingerprint=fingerprint
        )
        latent = self._run(probe_images(1, _PROBE_SIZE))
        check_shape(f"sd:{source}", latent.shape, _PROBE_SIZE)
        check_finite(f"sd:{source}", latent)

    def encode(self, images: Array) -> Array:
        """Encode images as specified by `VaeEncoder.encode`."""
        return one_by_one(self._run, images) * np.float32(self.description.scale)

    def _run(self, image: Array) -> Array:
        import torch

        threads = torch.get_num_threads()  # a setting of the calling thread
        torch.set_num_threads(1)  # the order of sums depends on the number of threads
        try:
            with torch.inference_mode():
                mean = self.module.encode(torch.from_numpy(image)).latent_dist.mean
        finally:
            torch.set_num_threads(threads)
        return np.asarray(mean.numpy(), np.float32)


def _load_autoencoder(source: str) -> Any:
    diffusers = require("diffusers", "train")
    diffusers.utils.logging.set_verbosity(diffusers.utils.logging.CRITICAL)
    folder = Path(source)
    local = folder.is_dir()
    if folder.is_file():
        raise ModelError(f"sd:{source} is a file; give the folder of an AutoencoderKL, with {_CONFIG} and {_WEIGHTS}")
    if not local and (source.startswith(("/", ".", "~")) or source.count("/") != 1):
        raise ModelError(f"sd:{source}: no such folder; give the folder of an AutoencoderKL, or a hub id OWNER/NAME")
    if local:
        _check_folder(source, _vae_folder(folder))
    try:
        module, loading = _from_folder(diffusers, folder) if local else _from_hub(diffusers, source)
    except Exception as error:  # diffusers, huggingface_hub and safetensors share no base class
        hint = "" if local else "; without a network download its folder elsewhere and give --vae sd:FOLDER"
        raise ModelError(f"sd:{source} can't be loaded ({one_line(error)}){hint}") from error
    _check_config(f"sd:{source}", dict(module.config))
    _check_loaded(f"sd:{source}", loading)
    del module.decoder, module.post_quant_conv
    return module.eval().requires_grad_(False)


def _vae_folder(folder: Path) -> Path:
    return folder / "vae" if (folder / "vae" / _CONFIG).is_file() else folder


def _check_folder(source: str, folder: Path) -> None:
    """Raise ModelError for a folder without configuration, of another model, or without readable weights."""
    if not (folder / _CONFIG).is_file():
        raise ModelError(
            f"sd:{source} holds neither {_CONFIG} nor vae/{_CONFIG}; give the folder of an AutoencoderKL "
            f"({_CONFIG} and {_WEIGHTS}), or of a pipeline with one"
        )
    try:
        with open(folder / _CONFIG, "rb") as handle:
            config = json.loads(handle.read(_CONFIG_LIMIT))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"sd:{source}: {folder / _CONFIG} can't be read ({one_line(error)}); copy it again") from error
    if not isinstance(config, dict):
        raise ModelError(f"sd:{source}: {folder / _CONFIG} is not a JSON object; copy it again")
    _check_config(f"sd:{source}", config)
    if not any((folder / name).is_file() for name in (_WEIGHTS, f"{_WEIGHTS}.index.json")):
        raise ModelError(f"sd:{source}: {folder} {_no_weights(folder)}")


def _no_weights(folder: Path) -> str:
    half, pickle = sorted(folder.glob("*.fp16.safetensors")), sorted(folder.glob("*.bin"))
    if half:
        return f"has float16 weights only ({half[0].name}); add the float32 ones, {_WEIGHTS}"
    if pickle:
        return (
            f"has its weights in a pickle only ({pickle[0].name}), which can run code; save it again with "
            "save_pretrained(FOLDER, safe_serialization=True)"
        )
    return f"has no {_WEIGHTS}; add it"


def _check_config(name: str, config: dict[str, Any]) -> None:
    """Raise ModelError for another model, number of latent channels or downsampling factor."""
    kind = config.get("_class_name", "AutoencoderKL")
    if kind != "AutoencoderKL":
        raise ModelError(f"{name} is a {kind}; an AutoencoderKL is needed: {_STABLE_DIFFUSION}")
    channels, blocks = config.get("latent_channels", 4), config.get("down_block_types", ["DownEncoderBlock2D"])
    if channels != 4:
        hint = ", as those of SD3 and FLUX" if channels == 16 else ""
        raise ModelError(f"{name} has {channels} latent channels{hint}; 4 are needed: {_STABLE_DIFFUSION}")
    if isinstance(blocks, (list, tuple)) and len(blocks) != 4:
        raise ModelError(f"{name} downsamples by {2 ** (len(blocks) - 1)}; 8 is needed: {_STABLE_DIFFUSION}")


def _check_loaded(name: str, loading: dict[str, Any]) -> None:
    """Raise ModelError if encoder weights are missing, which diffusers initialises at random."""
    missing = sorted(key for key in loading.get("missing_keys", ()) if key.startswith(("encoder.", "quant_conv.")))
    if missing:
        raise ModelError(
            f"{name} lacks {len(missing)} weights of its encoder, such as {missing[0]}; copy or download it again"
        )


def _from_folder(diffusers: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    return _from_pretrained(diffusers, str(folder), _vae_folder(folder) != folder, offline=True)


def _from_hub(diffusers: Any, repository: str) -> tuple[Any, dict[str, Any]]:
    """Load from the local hub cache or download. One short request goes first, since downloads retry for a minute."""
    import huggingface_hub

    for whole_pipeline in (False, True):
        try:
            return _from_pretrained(diffusers, repository, whole_pipeline, offline=True)
        except OSError:
            continue
    files = huggingface_hub.model_info(repository, timeout=10).siblings or []
    whole_pipeline = "vae/config.json" in {file.rfilename for file in files}
    return _from_pretrained(diffusers, repository, whole_pipeline, offline=False)


def _from_pretrained(diffusers: Any, source: str, whole_pipeline: bool, *, offline: bool) -> tuple[Any, dict[str, Any]]:
    """Return the module and diffusers' loading info (`missing_keys` and others)."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, loading = diffusers.AutoencoderKL.from_pretrained(
            source,
            subfolder="vae" if whole_pipeline else None,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            local_files_only=offline,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    return module, dict(loading)


def _hash_weights(module: Any) -> str:
    """Return the SHA-256 over the encoder's configuration and weights, independent of the file format."""
    config = {k: module.config[k] for k in sorted(module.config) if not k.startswith("_") and k != "scaling_factor"}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
