"""What a backend is: it loads one variant, runs its two graphs and says what it is."""

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
    bundle: str = ""  # where the bundle lies, for messages


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether a backend can run here."""

    backend: str
    runs: bool
    version: str  # of the library behind it; empty when it is not installed
    reason: str  # why it can't run; empty when it can
    install: str  # the command that brings what is missing


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a loaded backend is, for reports."""

    backend: str
    version: str
    device: str
    precision: str
    threads: int
    device_bytes: int | None = None  # memory it holds on a device of its own; None: it has none


class Backend(Protocol):
    """A variant, loaded. Not safe for two threads at once: the Detector holds a lock around it."""

    name: str
    precision: str
    batch: int  # images it takes at once
    forkable: bool  # whether a forked child may use it: it has no threads of its own

    def vae_encoder(self, image: Array) -> Array:
        """image float32 [B, 3, S, S] to latent float32 [B, 4, S/8, S/8], scaled. Raises ModelError."""

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """noised float32 [B, T, 4, S/8, S/8] to the four outputs, one row each. Raises ModelError."""

    def describe(self) -> Description:
        """What runs, and where."""


@dataclass(frozen=True)
class ChainResult:
    """What a batch of B images gave on a backend that runs the whole chain."""

    latent: Array  # [B, 4, S/8, S/8], scaled
    outputs: LeakOutputs  # of B x draws rows
    latency_ms: Mapping[str, float]  # stage to milliseconds on the device, for the batch


@runtime_checkable
class ChainBackend(Backend, Protocol):
    """A backend that takes images through VAE encoder, noising and leak encoder without their leaving its device."""

    def chain(self, images: Array) -> ChainResult:
        """images float32 [B, 3, S, S], B at most `batch`; the noise is the spec's. Raises ModelError, BackendError."""


@runtime_checkable
class FrameBackend(Backend, Protocol):
    """A backend that takes frames as they are, preprocesses them on its device, and overlaps batches.

    Safe from any thread. After `close` every call raises BackendError.
    """

    ahead: int  # batches that may be on their way at once; one more waits in `submit`

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ChainResult]:
        """Put up to `batch` frames uint8 [H, W, 3] BGR of any sizes on their way; the call returned waits for them.

        Waits itself while too many are on their way. Either raises ModelError, BackendError.
        """

    def close(self) -> None:
        """End what is on its way and free the device's memory; a second time is nothing."""


class Load(Protocol):
    """What loads a variant. Raises ModelError, BackendError, MissingExtraError, UsageError."""

    def __call__(self, variant: Variant, threads: int, *, device: int = 0) -> Backend: ...


@dataclass(frozen=True)
class BackendKind:
    """A backend that LeakRT knows. Neither call imports its library before it is made."""

    name: str
    probe: Callable[[], Availability]
    load: Load


def refuse_device(backend: str, device: int) -> None:
    """Raises UsageError for a GPU's number where a backend runs on the CPU."""
    if device:
        raise UsageError(f"--device {device}: {backend} runs on the CPU; leave it away, or name another --backend")
