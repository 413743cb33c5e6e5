"""The interface of a backend: it loads one variant, runs its two graphs and describes itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...core.errors import UsageError
from ...core.outputs import LeakOutputs
from ...core.spec import ModelSpec

Array = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8]  # [H, W, 3] BGR


@dataclass(frozen=True)
class Variant:
    """The two verified ONNX graphs of a bundle at one precision."""

    spec: ModelSpec
    precision: str
    vae_encoder: bytes
    leak_encoder: bytes
    weights: Callable[[], bytes] | None = None  # reads the bundle's `weights.safetensors`; None: it holds none
    bundle: str = ""  # path of the bundle, for messages


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether a backend can run here."""

    backend: str
    runs: bool
    version: str  # of the library behind it; empty when it is not installed
    reason: str  # why it can't run; empty when it can
    install: str  # the command that installs what is missing


@dataclass(frozen=True, kw_only=True)
class Description:
    """A loaded backend, for reports."""

    backend: str
    version: str
    device: str
    precision: str
    threads: int
    device_bytes: int | None = None  # memory that it holds on a GPU; None on a CPU


class Backend(Protocol):
    """A loaded variant. Not thread-safe: the pipeline holds a lock around it."""

    name: str
    precision: str
    batch: int  # images per call
    forkable: bool  # whether a forked child may use it, because it has no threads

    def vae_encoder(self, image: Array) -> Array:
        """image float32 [B, 3, S, S] to latent float32 [B, C, S/8, S/8], scaled. Raises ModelError."""

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """noised float32 [B, T, C, S/8, S/8] to the four outputs, one row each. Raises ModelError."""

    def describe(self) -> Description:
        """The backend, its version, device and threads."""


@dataclass(frozen=True)
class ChainResult:
    """The results of a batch of B images on a backend that runs the whole chain."""

    latent: Array  # [B, C, S/8, S/8], scaled
    outputs: LeakOutputs  # of B x draws rows
    latency_ms: Mapping[str, float]  # stage to milliseconds on the device, for the batch


@runtime_checkable
class ChainBackend(Backend, Protocol):
    """A backend that runs VAE encoder, noising and leak encoder without leaving its device."""

    def chain(self, images: Array) -> ChainResult:
        """images float32 [B, 3, S, S], B at most `batch`; the noise is the spec's. Raises ModelError, BackendError."""


@runtime_checkable
class FrameBackend(Backend, Protocol):
    """A backend that preprocesses raw frames on its device and overlaps batches.

    Thread-safe. After `close` every call raises BackendError.
    """

    ahead: int  # batches in flight; one more waits in `submit`

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ChainResult]:
        """Start up to `batch` frames uint8 [H, W, 3] BGR of any sizes; the returned call waits for their results.

        Blocks while too many batches are in flight. Both raise ModelError, BackendError.
        """

    def close(self) -> None:
        """Finish the batches in flight and free the device's memory. Idempotent."""


class Load(Protocol):
    """Loads a variant. Raises ModelError, BackendError, MissingExtraError, UsageError."""

    def __call__(self, variant: Variant, threads: int, *, device: int = 0) -> Backend: ...


@dataclass(frozen=True)
class BackendKind:
    """A backend that LeakRT knows. Its library is imported only by these calls."""

    name: str
    probe: Callable[[], Availability]
    load: Load


def refuse_device(backend: str, device: int) -> None:
    """Raise UsageError if a GPU is requested of a backend that runs on the CPU."""
    if device:
        raise UsageError(f"--device {device}: {backend} runs on the CPU; omit it, or choose another --backend")
