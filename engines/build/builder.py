"""Compile one graph into an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from ...core.errors import EngineError, LeakRTError, UsageError
from ...core.progress import Progress
from ..library.device import use_device
from ..library.flavour import DEFAULT_LEVEL, LEVELS, Flavour, Monitor
from ..library.layers import FusedLayer, parse_build_log
from ..library.logger import Messages, construct, explain, listening, shared_logger
from ..library.names import Builder, IBuilderConfig, IHostMemory, ILogger, ITimingCache
from ..library.network import NetworkLayer, add_profiles, describe_layers, parse_network

_MAX_BATCH = 4096
_MAX_PROFILES = 16
_MAX_WORKSPACE = 1 << 20  # MiB: more than any GPU has
_POLL = 0.1  # seconds
_STOP = 60.0  # seconds that a builder has to come to its next step, and stop there


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build. Checked on creation; raises UsageError."""

    batches: tuple[int, ...] = (1,)  # images at once; one profile each
    level: int = DEFAULT_LEVEL  # optimisation level: time spent on building against speed of the engine
    workspace: int | None = None  # MiB of device memory that tactics may use; None: all of it
    dla_core: int | None = None  # Jetson's accelerator for the VAE encoder
    targets: tuple[str, ...] = ()  # compute capabilities, where the flavour can choose

    def __post_init__(self) -> None:
        if not self.batches or len(self.batches) > _MAX_PROFILES:
            raise UsageError(f"--batch: {len(self.batches)} sizes; between 1 and {_MAX_PROFILES} are possible")
        if any(not 1 <= batch <= _MAX_BATCH for batch in self.batches) or len(set(self.batches)) < len(self.batches):
            raise UsageError(f"--batch: sizes between 1 and {_MAX_BATCH} are needed, each once")
        if self.level not in LEVELS:
            raise UsageError(f"--opt-level {self.level}: it lies between {LEVELS[0]} and {LEVELS[-1]}")
        if self.workspace is not None and not 0 < self.workspace <= _MAX_WORKSPACE:
            raise UsageError(
                f"--workspace {self.workspace}: a number of MiB from 1 to {_MAX_WORKSPACE} is needed"
            )
        if self.dla_core is not None and self.dla_core < 0:
            raise UsageError(f"--dla {self.dla_core}: the number of a DLA core is needed, 0 or 1")

    @property
    def dla(self) -> bool:
        """Whether a DLA is asked for."""
        return self.dla_core is not None


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """One graph to compile."""

    name: str  # for messages and progress
    model: bytes  # ONNX, as the parser gets it
    precision: str
    batches: tuple[int, ...]  # of this graph: the leak encoder sees every draw as a sample
    options: BuildOptions
    device: int  # number of the GPU; not looked at where the library builds without one
    timing: bytes = b""  # what an earlier build learned; empty: nothing


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """The serialised engine and what was learned on the way."""

    data: bytes
    seconds: float
    layers: tuple[NetworkLayer, ...]  # as parsed
    compiled: tuple[FusedLayer, ...]  # as the builder logged them; empty where it doesn't
    memory: dict[str, int]  # bytes the builder stated: "activations", "weights"
    warnings: tuple[str, ...]  # each once, with its count
    timing: bytes  # a timing cache; empty where the library has none


@dataclass
class _Result:
    built: list[BuiltEngine] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)


def build_engine(flavour: Flavour, job: BuildJob, needs_gpu: bool, *, progress: Progress) -> BuiltEngine:
    """Build in a thread of its own, so that Ctrl-C is heard and progress is shown meanwhile.

    Raises ModelError (the graph), BackendError (the GPU), EngineError (the builder failed).
    """
    monitor, result = Monitor(), _Result()

    def work() -> None:
        try:
            place: AbstractContextManager[None] = use_device(job.device) if needs_gpu else nullcontext()
            with place:
                result.built.append(_build(flavour, job, monitor))
        except BaseException as error:
            result.errors.append(error)
        finally:
            result.done.set()

    # Waited for by an event: up to Python 3.12 a join that Ctrl-C interrupts takes a running thread for an ended one.
    threading.Thread(target=work, name=f"build {job.name}", daemon=True).start()
    try:
        while not result.done.is_set():
            progress(f"build {job.name}", int(monitor.share * 100), 100)
            result.done.wait(_POLL)
    except KeyboardInterrupt:
        monitor.cancelled = True
        result.done.wait(_STOP if monitor.asked else 0.0)  # what never asks can't be stopped
        raise
    for error in result.errors:
        raise error
    progress(f"build {job.name}", 100, 100)
    return result.built[0]


def _build(flavour: Flavour, job: BuildJob, monitor: Monitor) -> BuiltEngine:
    messages = Messages()
    with listening(messages):
        return _build_heard(flavour, job, monitor, messages=messages)


def _build_heard(flavour: Flavour, job: BuildJob, monitor: Monitor, *, messages: Messages) -> BuiltEngine:
    begin, logger = time.monotonic(), shared_logger(flavour.trt)
    builder: Builder = _make_builder(flavour, logger, messages)
    dla = job.options.dla
    if dla:
        _check_dla(builder, job.options.dla_core or 0)
    parsed = parse_network(flavour, builder, logger, messages=messages, model=job.model, dla=dla, name=job.name)
    config: IBuilderConfig = builder.create_builder_config()
    cache = _configure(flavour, config, job)
    flavour.watch(config, monitor)
    try:
        add_profiles(builder, config, parsed.network, batches=job.batches)
        data: IHostMemory = builder.build_serialized_network(parsed.network, config)
    except LeakRTError:
        raise
    except RuntimeError as error:
        raise EngineError(
            f"{job.name}: {flavour} did not build it: {explain([*messages.errors, str(error)])}"
        ) from error
    if data is None:
        raise EngineError(f"{job.name}: {flavour} did not build it: {explain(messages.errors)}")
    return BuiltEngine(
        data=bytes(data),
        seconds=time.monotonic() - begin,
        layers=describe_layers(parsed.network),
        compiled=parse_build_log(messages.layers),
        memory=dict(messages.memory),
        warnings=tuple(f"{text} ({count} x)" if count > 1 else text for text, count in messages.warnings.items()),
        timing=_serialize(cache) if flavour.has_timing_cache else b"",
    )


def _make_builder(flavour: Flavour, logger: ILogger, messages: Messages) -> Builder:
    builder: Builder = construct(flavour.trt.Builder, logger)
    if builder is None:
        raise EngineError(f"{flavour} does not start: {explain([*messages.errors, *messages.warnings])}")
    return builder


def _configure(flavour: Flavour, config: IBuilderConfig, job: BuildJob) -> ITimingCache:
    """Everything but the profiles. Returns the timing cache in use, or None."""
    trt, options = flavour.trt, job.options
    for flag in flavour.builder_flags(job.precision, options.dla):
        config.set_flag(flag)
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32, in fp32 graphs and in the islands of the others
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the inspector; costs nothing at run time
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.dla:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    flavour.configure(config, options.level, options.targets)
    if not flavour.has_timing_cache:
        return None
    cache: ITimingCache = config.create_timing_cache(job.timing)
    config.set_timing_cache(cache, False)  # False: what another GPU learned is refused
    return cache


def _serialize(cache: ITimingCache) -> bytes:
    data: IHostMemory = cache.serialize()
    return bytes(data)


def _check_dla(builder: Builder, core: int) -> None:
    cores = int(builder.num_DLA_cores)
    if core >= cores:
        have = f"has {cores} DLA cores" if cores else "has no DLA (AGX Orin, Orin NX and Xavier have one)"
        raise EngineError(f"--dla {core}: this machine {have}; omit --dla to use the GPU")


def flag_names(flavour: Flavour, precision: str, options: BuildOptions) -> tuple[str, ...]:
    """The flags a build sets, by name, for the cache key."""
    names = [str(flag).rsplit(".", 1)[-1] for flag in flavour.builder_flags(precision, options.dla)]
    typed = flavour.strongly_typed and flavour.network_flags(options.dla) != 0
    extra = (["STRONGLY_TYPED"] if typed else []) + (["DLA", "GPU_FALLBACK"] if options.dla else [])
    return tuple(sorted([*names, *extra, "NO_TF32"]))


def graph_batches(batches: Sequence[int], samples: int) -> tuple[int, ...]:
    """Batch sizes of a graph that sees `samples` samples an image."""
    return tuple(batch * samples for batch in batches)
