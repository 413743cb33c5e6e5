"""The loaded torch backend: a chain and its runner, on the CPU or on a GPU."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from ....core.errors import BackendError, UsageError
from ....core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from ....core.outputs import LeakOutputs
from ....core.weights import Network
from ...forked import FirstUse
from ...machine import cpu_name
from ..base import Array, ChainResult, Description, Frame, Variant
from .chain import Placement, TorchChain
from .cuda_graphs import CudaGraphRunner, quickest
from .frames import FrameFeed
from .group_norm import find_norm_kernels
from .noising import find_kernels
from .runner import ChainRunner, DeviceResult, PlainRunner, exact, joined

NAME = "torch"
_SIZES = (1, 2, 4, 8, 16)  # batch sizes of the CUDA graphs
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_WANTED = re.compile(r"Tried to allocate ([\d.]+ \w+)")

Images = TypeVar("Images", Array, Sequence[Frame])  # preprocessed images, or frames

_log = logging.getLogger(__name__)
_first = FirstUse(NAME)


class TorchBackend:
    """Runs VAE encoder, noising and leak encoder without leaving the device; see `load_torch`."""

    name = NAME
    forkable = False

    def __init__(
        self, variant: Variant, runner: ChainRunner, device: torch.device, *, batch: int, threads: int
    ) -> None:
        """`batch`: images per batch; it shrinks when the device runs out of memory."""
        self.precision, self.batch = variant.precision, batch
        self._spec = variant.spec
        self._held: ChainRunner | None = runner
        self._device, self._threads = device, threads

    def chain(self, images: Array) -> ChainResult:
        """Run the chain; see ChainBackend. Raises ModelError, and BackendError if one image exceeds the memory."""
        self._set_threads()
        return self._result(self._in_batches(self._runner.run, np.ascontiguousarray(images, np.float32)), len(images))

    def vae_encoder(self, image: Array) -> Array:
        """Encode image float32 [B, 3, S, S] to the scaled latent float32 [B, C, S/8, S/8]. Raises ModelError."""
        return self._alone(vae_encoder_graph(self._spec), image)[0]

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """Return the four outputs, one row each, of noised float32 [B, T, C, S/8, S/8]. Raises ModelError."""
        return LeakOutputs(*self._alone(leak_encoder_graph(self._spec), noised))

    def describe(self) -> Description:
        """Return the backend's version, device and precision."""
        if self._device.type != "cuda":
            return Description(
                backend=NAME,
                version=torch.__version__,
                device=cpu_name(),
                precision=self.precision,
                threads=self._threads,
            )
        name, held = torch.cuda.get_device_name(self._device), torch.cuda.memory_reserved(self._device)
        return Description(
            backend=NAME,
            version=torch.__version__,
            device=name,
            precision=self.precision,
            threads=self._threads,
            device_bytes=held,
        )

    @property
    def _runner(self) -> ChainRunner:
        if self._held is None:
            raise BackendError("the torch backend is closed; load the detector again")
        return self._held

    def _alone(self, graph: GraphSpec, value: Array) -> list[Array]:
        """Run one of the networks, operator by operator."""
        self._set_threads()
        with torch.inference_mode(), exact():
            tensor = torch.from_numpy(np.ascontiguousarray(value, np.float32)).to(self._device)
            arrays = [np.array(output.cpu().numpy()) for output in self._runner.chain.alone(graph.stem, tensor)]
        self._check(graph, arrays, len(value))
        return arrays

    def _result(self, found: DeviceResult, images: int) -> ChainResult:
        """Check the shapes and wrap the arrays. Raises ModelError."""
        latent, *outputs = found.arrays
        self._check(vae_encoder_graph(self._spec), [latent], images)
        self._check(leak_encoder_graph(self._spec), outputs, images * self._spec.draws)
        return ChainResult(latent, LeakOutputs(*outputs), found.latency_ms)

    def _in_batches(self, run: Callable[[Images], DeviceResult], images: Images) -> DeviceResult:
        """Run the images in batches of `batch`, which may shrink meanwhile."""
        found, done = [], 0
        while done < len(images):
            part = images[done : done + self.batch]
            found.append(self._run(run, part))
            done += len(part)
        return joined(found)

    def _run(self, run: Callable[[Images], DeviceResult], images: Images) -> DeviceResult:
        """Run a batch; if memory runs out, run its halves and use smaller batches from then on."""
        try:
            return run(images)
        except torch.cuda.OutOfMemoryError as error:
            found = _WANTED.search(str(error))
            wanted = found[1] if found else "more than there is"
        self._runner.forget(len(images))
        if len(images) == 1:
            raise BackendError(
                f"the GPU is out of memory: {wanted} was wanted for one image; end what else runs there, or take "
                "another backend"
            )
        self.batch = max(1, len(images) // 2)
        _log.warning("the GPU is out of memory: %s was wanted for a batch of %d; going on with %d",
                     wanted, len(images), self.batch)  # fmt: skip
        return self._in_batches(run, images)

    def _check(self, graph: GraphSpec, arrays: list[Array], batch: int) -> None:
        for tensor, array in zip(graph.outputs, arrays, strict=True):
            graph.check_shape(tensor, array.shape, batch)

    def _set_threads(self) -> None:
        torch.set_num_threads(self._threads)  # a setting of the whole process: another detector may have changed it


class TorchFrameBackend(TorchBackend):
    """A `FrameBackend` for GPUs that LeakRT's kernels are built for. Runs one batch at a time, inside `submit`."""

    ahead = 1

    def __init__(
        self, variant: Variant, runner: CudaGraphRunner, device: torch.device, *, batch: int, threads: int
    ) -> None:
        """`runner` needs a `FrameFeed`."""
        super().__init__(variant, runner, device, batch=batch, threads=threads)
        self._lock = threading.Lock()

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ChainResult]:
        """Run frames uint8 [H, W, 3] BGR of any sizes; see FrameBackend. Raises ModelError, BackendError."""
        with self._lock:
            runner = self._runner
            assert isinstance(runner, CudaGraphRunner)
            found = self._result(self._in_batches(runner.run_frames, frames), len(frames))
        return lambda: found

    def chain(self, images: Array) -> ChainResult:
        """Run the chain; see TorchBackend. Thread-safe."""
        with self._lock:
            return super().chain(images)

    def close(self) -> None:
        """Wait for the running batch, then free graphs and weights. Idempotent."""
        with self._lock:
            if self._held is not None:
                self._held.forget(0)
                self._held = None

    def _alone(self, graph: GraphSpec, value: Array) -> list[Array]:
        with self._lock:
            return super()._alone(graph, value)


def load_torch(variant: Variant, networks: Mapping[str, Network], threads: int, *, number: int = 0) -> TorchBackend:
    """Load the variant on GPU `number`, or on the CPU if torch sees no GPU.

    On a GPU the chain runs as CUDA graphs, in the faster of the two memory formats: fp16 in float16 with float32
    islands, fp32 in float32 without TF32. On the CPU it runs in float32, one image at a time, so that no score depends
    on its batch.

    Raises ModelError for an unsupported operator, BackendError for fp16 without a GPU and in a forked child whose
    parent loaded this backend, UsageError for a GPU that does not exist.
    """
    _refuse_fork(threads)
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number and number >= seen:
        raise UsageError(f"--device {number}: torch sees {_gpus(seen)} here")
    if seen:
        with torch.cuda.device(number):  # Triton launches on the current device
            return _on_gpu(variant, networks, threads)
    if variant.precision != "fp32":
        raise BackendError(f"torch runs {variant.precision} on a GPU only, and sees none here; take fp32")
    device = torch.device("cpu")
    chain = TorchChain(variant.spec, networks, Placement(device=device, dtype=torch.float32), threads=threads)
    return TorchBackend(variant, PlainRunner(chain, device), device, batch=1, threads=threads)


def _refuse_fork(threads: int) -> None:
    """Raise BackendError in a forked child that would hang: torch's OpenMP threads do not survive a fork."""
    if not _first.claim() and (threads > 1 or torch.cuda.is_available()):
        _first.require()


def _gpus(count: int) -> str:
    return "no GPU" if not count else "one GPU, number 0," if count == 1 else f"{count} GPUs, 0 to {count - 1},"


def _on_gpu(variant: Variant, networks: Mapping[str, Network], threads: int) -> TorchBackend:
    device, spec = torch.device("cuda", torch.cuda.current_device()), variant.spec
    norms, kernels = find_norm_kernels(device), find_kernels()

    def make(memory_format: torch.memory_format) -> CudaGraphRunner:
        placement = Placement(
            device=device, dtype=_DTYPES[variant.precision], memory_format=memory_format, kernels=norms
        )
        feed = None if kernels is None else FrameFeed(kernels, spec.image_size, device)
        return CudaGraphRunner(
            TorchChain(spec, networks, placement, threads=threads), spec.image_size, device, sizes=_SIZES, feed=feed
        )

    formats = (torch.channels_last, torch.contiguous_format)
    blank = np.zeros((1, 3, spec.image_size, spec.image_size), np.float32)
    runner = quickest([partial(make, f) for f in formats], blank)
    torch.cuda.empty_cache()  # the memory of the slower runner
    made = TorchBackend if kernels is None else TorchFrameBackend
    return made(variant, runner, device, batch=_SIZES[-1], threads=threads)
