"""The thread that owns a GPU: accepts batches from any thread, returns results in order, and blocks fast callers."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ....core.errors import BackendError
from ....core.noising import SAMPLE
from ....core.outputs import LeakOutputs
from ....core.schedule import step_coefficients
from ....core.spec import ModelSpec
from ..base import ChainResult
from ..device_memory import Device, DeviceMemory, Frame
from .jobs import Jobs
from .owner_thread import OwnerThread
from .ring import Ring
from .slot import Engines, Noise, Slot
from .slots import batch_for, fill_slots

Array = npt.NDArray[np.float32]
T = TypeVar("T")
_CLOSED = "the GPU runner is closed; load the detector again"


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """Options of a GpuRunner."""

    batches: tuple[int, ...] = (1,)  # batch sizes in images; the engines need a profile for each
    slots: int = 2  # one copies while the other computes
    waiting: int = 2  # batches that may wait for a slot before `submit` blocks
    graphs: bool = True  # capture CUDA graphs


@dataclass(kw_only=True)
class Ready:
    """What the runner set up from its options."""

    device: str = ""
    batches: tuple[int, ...] = ()
    slots: int = 0
    notes: tuple[str, ...] = ()
    held: int = 0  # bytes of device memory, without the engines' weights
    nodes: dict[int, int] = field(default_factory=dict)  # batch size to number of nodes of its CUDA graph


@dataclass(frozen=True)
class _Job(Generic[T]):
    """`launch` enqueues work on a slot's stream and returns a function that waits for the result."""

    launch: Callable[[Slot], Callable[[], T]]
    future: Future[T]


class GpuRunner:
    """Runs loaded engines on a device. Thread-safe. A context manager that closes itself.

    `ready`: the batch sizes and slots that fit into memory, with notes on what did not.
    """

    def __init__(
        self,
        spec: ModelSpec,
        open_device: Callable[[], Device],
        load_engines: Callable[[Device], Engines],
        *,
        options: RunnerOptions,
    ) -> None:
        """Start the thread, which opens the device, loads the engines and creates the slots.

        Raises their errors: BackendError, OutOfMemoryError, EngineError, ModelError, MissingExtraError.
        """
        self._jobs: Jobs[_Job[Any]] = Jobs(options.waiting)
        started: Future[Ready] = Future()
        worker = _Worker(spec, open_device, load_engines, options=options, jobs=self._jobs)
        self._lock, self._thread = threading.Lock(), OwnerThread(partial(worker.run, started))
        try:
            self.ready = started.result()
        except BaseException:  # loading failed, or Ctrl-C interrupted the wait: the thread ends after loading
            _stop(self._jobs, self._thread)
            raise
        # Also runs at interpreter exit: the thread must not be stopped while it uses the GPU.
        self._finalize = weakref.finalize(self, _stop, self._jobs, self._thread)

    def submit(self, frames: Sequence[Frame]) -> Future[ChainResult]:
        """Submit frames uint8 [H, W, 3] BGR, at most the largest batch size. Blocks while too many batches wait.

        Do not change the frames before the result is available. Raises BackendError for too many frames or after
        `close`.
        """
        batches = self.ready.batches
        if not 1 <= len(frames) <= max(batches):
            raise BackendError(f"batch of {len(frames)} frames: submit between 1 and {max(batches)} frames")
        kept, batch = list(frames), batch_for(len(frames), batches)
        return self._put(lambda slot: slot.launch(kept, batch))

    def run(self, frames: Sequence[Frame]) -> list[ChainResult]:
        """Run any number of frames in overlapping batches. Returns the results in order."""
        step = max(self.ready.batches)
        futures = [self.submit(frames[i : i + step]) for i in range(0, len(frames), step)]
        return [future.result() for future in futures]

    def encode(self, images: Array) -> Array:
        """Run only the VAE encoder; see `Slot.encode`."""
        return self._put(lambda slot: _now(slot.encode(images))).result()

    def judge(self, noised: Array) -> LeakOutputs:
        """Run only the leak encoder; see `Slot.judge`."""
        return self._put(lambda slot: _now(slot.judge(noised))).result()

    def close(self) -> None:
        """Finish the submitted batches, then free all resources. Thread-safe and idempotent."""
        with self._lock:
            self._finalize()

    def __enter__(self) -> GpuRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, launch: Callable[[Slot], Callable[[], T]]) -> Future[T]:
        future: Future[T] = Future()
        if not self._open:
            raise BackendError(_CLOSED)
        self._jobs.put(_Job(launch, future))
        if not self._open:  # closed while `put` blocked: no consumer may be left
            self._thread.wait()
            _refuse_waiting(self._jobs)
        return future

    @property
    def _open(self) -> bool:
        return self._finalize.alive and not self._thread.ended


class _Worker:
    """The thread's work. Holds no reference to the runner, so that an unreferenced runner is closed."""

    def __init__(
        self,
        spec: ModelSpec,
        open_device: Callable[[], Device],
        load_engines: Callable[[Device], Engines],
        *,
        options: RunnerOptions,
        jobs: Jobs[_Job[Any]],
    ) -> None:
        self._spec, self._open_device, self._load_engines = spec, open_device, load_engines
        self._options, self._jobs = options, jobs
        self._device: Device | None = None
        self._engines: Engines | None = None
        self._bank: DeviceMemory | None = None
        self._slots: list[Slot] = []

    def run(self, started: Future[Ready]) -> None:
        try:
            try:
                ready = self._start()
            except BaseException as error:
                try:
                    self._close()
                finally:
                    started.set_exception(error)
                return
            started.set_result(ready)
            self._work(Ring(self._slots))
        finally:
            self._close()
            _refuse_waiting(self._jobs)

    def _start(self) -> Ready:
        options, spec = self._options, self._spec
        device = self._device = self._open_device()
        engines = self._engines = self._load_engines(device)
        del self._load_engines  # it may reference the engines' bytes
        noise = self._make_noise(device)

        def make(batches: tuple[int, ...]) -> Slot:
            return Slot(device, spec, engines, noise=noise, batches=batches, graphs=options.graphs)

        self._slots, batches, notes = fill_slots(make, options.batches, options.slots)
        first = self._slots[0]
        notes += [note for slot in self._slots for note in slot.notes]
        nodes = dict(first.nodes)
        return Ready(
            device=device.name,
            batches=batches,
            slots=len(self._slots),
            notes=tuple(dict.fromkeys(notes)),
            held=device.held(),
            nodes=nodes,
        )

    def _make_noise(self, device: Device) -> Noise:
        spec = self._spec
        elements, steps = int(np.prod(spec.latent_shape)), len(spec.timesteps)
        self._bank = device.allocate(4 * spec.draws * steps * elements, "the noise")
        stream = device.stream()
        try:
            bank = self._bank.address
            device.kernels.fill_normals(bank, spec.draws, steps, elements, spec.noise_seed, SAMPLE, stream.handle)
            stream.synchronize()
        finally:
            stream.free()
        return Noise(bank, step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize))

    def _work(self, ring: Ring[Slot, _Collect]) -> None:
        """Begin jobs while a slot is free, else collect the oldest result. Ends after the end marker."""
        ended = False
        while not (ended and not ring.busy):
            job = None
            if not ended and ring.has_free:
                try:
                    job = self._jobs.take(wait=not ring.busy)
                    ended = job is None
                except queue.Empty:
                    pass
            if job is not None:
                self._begin(ring, job)
            elif ring.busy:
                _, collect = ring.oldest()
                collect()
                ring.end_oldest()

    def _begin(self, ring: Ring[Slot, _Collect], job: _Job[Any]) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        collect = _Collect(job.future)
        slot = ring.begin(collect)
        try:
            collect.wait = job.launch(slot)
        except BaseException as error:
            ring.drop_newest()
            job.future.set_exception(error)

    def _close(self) -> None:
        """Free slots, noise, engines and device in this order, users first."""
        for slot in self._slots:
            slot.close()
        self._slots = []
        if self._bank is not None:
            self._bank.free()
        if self._engines is not None:
            self._engines.close()
        if self._device is not None:
            self._device.close()
        self._bank = self._engines = self._device = None


class _Collect:
    """A running job: waits for its result and sets it on the future."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future
        self.wait: Callable[[], Any] = lambda: None

    def __call__(self) -> None:
        try:
            result = self.wait()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)


def _now(value: T) -> Callable[[], T]:
    return lambda: value


def _stop(jobs: Jobs[_Job[Any]], thread: OwnerThread) -> None:
    jobs.end()
    if thread.wait():
        _refuse_waiting(jobs)


def _refuse_waiting(jobs: Jobs[_Job[Any]]) -> None:
    while True:
        try:
            job = jobs.take(wait=False)
        except queue.Empty:
            return
        if job is not None and job.future.set_running_or_notify_cancel():
            job.future.set_exception(BackendError(_CLOSED))
