"""Probe and loader of the `torch` backend: the reference implementation, also for GPUs without TensorRT.

It runs the bundle's `weights.safetensors`, not its graphs. This module does not import torch, because `auto` and the
doctor probe backends that are not installed.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata

from ....core import weights
from ....core.errors import BackendError, require
from ..base import Availability, Backend, BackendKind, Variant

NAME = "torch"
_INSTALL = "pip install 'leakrt[train]'"
_PRECISIONS = ("fp32", "fp16")


def load(variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load the variant on GPU number `device`, or on the CPU if torch sees no GPU.

    Raises UsageError for a GPU that does not exist, MissingExtraError, BackendError for a bundle without weights and
    for int8, BundleError, ModelError.
    """
    require("torch", "train")
    if variant.precision not in _PRECISIONS:
        raise BackendError(f"torch runs {' and '.join(_PRECISIONS)}, not {variant.precision}; name another backend")
    if variant.weights is None:
        raise BackendError(
            f"the bundle holds no {weights.WEIGHTS_NAME}, which torch needs; export it again, or name another backend"
        )
    networks = weights.from_bytes(variant.weights())
    from .backend import load_torch

    return load_torch(variant, networks, threads, number=device)


def probe() -> Availability:
    """Return whether torch is installed. Does not import it: that takes seconds."""
    if importlib.util.find_spec("torch") is None:
        return Availability(backend=NAME, runs=False, version="", reason="torch is not installed", install=_INSTALL)
    return Availability(backend=NAME, runs=True, version=_version(), reason="", install="")


def _version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "another build"


KIND = BackendKind(NAME, probe, load)
