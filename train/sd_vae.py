"""The encoder half of a diffusers AutoencoderKL."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError, one_line, require
from .encoder import OWN_SCALE, Array, VaeDescription, fingerprint, one_by_one, probe, resolved

_PROBE_SIZE = 64
_WITHOUT_NETWORK = "; without a network download its folder elsewhere and give --vae sd:FOLDER"


class SdVae:
    """The encoder half of a diffusers AutoencoderKL, in float32. `module` is the AutoencoderKL without decoder."""

    def __init__(self, source: str, scale: float, image_size: int) -> None:
        """Load from a folder (of the VAE or of a whole pipeline) or a hub id; weights from safetensors only.

        Raises ModelError, and MissingExtraError without diffusers.
        """
        require("torch", "train")
        self.module = _load_autoencoder(source)
        scale = scale if scale != OWN_SCALE else float(self.module.config.scaling_factor)
        identity = fingerprint(_hash_weights(self.module), scale, image_size)
        self.description = VaeDescription("sd", resolved(source), scale, image_size, identity)
        probe(self._run, _PROBE_SIZE, f"sd:{source}")

    def encode(self, images: Array) -> Array:
        """See VaeEncoder."""
        return one_by_one(self._run, images) * np.float32(self.description.scale)

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


def _load_autoencoder(source: str) -> Any:
    diffusers = require("diffusers", "train")
    diffusers.utils.logging.set_verbosity(diffusers.utils.logging.CRITICAL)
    local = Path(source).is_dir()
    if not local and (source.startswith(("/", ".", "~")) or source.count("/") != 1):
        raise ModelError(f"sd:{source}: no such folder; give the folder of an AutoencoderKL, or a hub id OWNER/NAME")
    try:
        module = _from_folder(diffusers, Path(source)) if local else _from_hub(diffusers, source)
    except Exception as error:  # diffusers, hub and safetensors raise dozens of kinds
        hint = (
            _of_folder(Path(source))
            if local
            else "; without a network download its folder elsewhere and give --vae sd:FOLDER"
        )
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


def _of_folder(folder: Path) -> str:
    """What is wrong with a folder of which no VAE could be loaded, as the end of a message."""
    place = folder / "vae" if (folder / "vae").is_dir() else folder
    if not (place / "config.json").is_file():
        return "; expected config.json and diffusion_pytorch_model.safetensors, or a pipeline's folder with vae/"
    names = [path.name for path in place.iterdir()]
    if any(name.endswith("pytorch_model.safetensors") for name in names):
        return ""
    if any(name.endswith(".fp16.safetensors") for name in names):
        return "; it holds float16 weights alone: download or save the VAE in float32"
    if any(name.endswith((".bin", ".ckpt", ".pt")) for name in names):
        return "; its weights are a pickle, which LeakRT never reads: save them with safe_serialization=True"
    return "; it holds no diffusion_pytorch_model.safetensors"
