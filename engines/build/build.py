"""Build the two engines of a variant, or take them from the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ...core.bundle import Bundle
from ...core.errors import BackendError, EngineError, UsageError
from ...core.files import sha256_bytes
from ...core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from ...core.progress import Progress
from ...core.variants import refusal, refusal_notes
from ..cache.cache import EngineCache
from ..cache.index import engine_locks
from ..cache.key import EngineKey, canonical, device_misfit
from ..cache.record import EngineRecord, OutputParity
from ..library.device import NO_DEVICE, TargetDevice, find_device, find_driver, list_devices
from ..library.flavour import DEFAULT_LEVEL, NO_DLA, Flavour
from ..library.rtx import CURRENT, PORTABLE, capability_order
from .builder import BuildJob, BuildOptions, BuiltEngine, build_engine, flag_names, graph_batches
from .derive import RECIPE, DerivedGraph, boundary_types, derive_graph
from .parity import GoldenInputs, can_judge_int8, check_parity, golden_inputs


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """The variant, the library and the options of a build."""

    precision: str
    flavour: Flavour
    options: BuildOptions
    device: int = 0  # index of the GPU to build on


@dataclass(frozen=True, kw_only=True)
class BuildOutcome:
    """An engine in the cache."""

    record: EngineRecord
    path: Path
    built: bool  # False: it was already in the cache
    notes: tuple[str, ...]  # messages for the user: a damaged engine was rebuilt, others were evicted


@dataclass(frozen=True, kw_only=True)
class _BuildStep:
    """One graph to build, and its cache key."""

    bundle: Bundle
    graph: GraphSpec
    request: BuildRequest
    derived: DerivedGraph
    key: EngineKey


def build_bundle(
    bundle: Bundle, request: BuildRequest, cache: EngineCache, *, progress: Progress
) -> tuple[BuildOutcome, BuildOutcome]:
    """Return the engines of the VAE encoder and the leak encoder, building those that the cache lacks.

    Raises BundleError (no such variant), UsageError (invalid option), ModelError, ParityError, EngineError,
    BackendError, StorageError, MissingExtraError.
    """
    bundle.require_precision(request.precision)
    request = _resolve(request)
    device = _device(request)
    golden = _LazyGolden(bundle, request.precision)
    steps = tuple(_step(bundle, graph, request, device=device) for graph in bundle_graphs(bundle))
    refused = refusal_notes(bundle.provenance, request.precision)
    notes: tuple[list[str], ...] = tuple([*refused] for _ in steps)
    found = [_cached(step, cache, step_notes) for step, step_notes in zip(steps, notes, strict=True)]
    if None in found:
        names = {step.key.digest: step.graph.stem for step in steps}
        with engine_locks(cache.root, names, progress):
            found = [
                _ensure(step, cache, frozenset(names), golden=golden, notes=step_notes, progress=progress)
                for step, step_notes in zip(steps, notes, strict=True)
            ]
    vae, leak = (outcome for outcome in found if outcome is not None)
    return vae, leak


def bundle_graphs(bundle: Bundle) -> tuple[GraphSpec, GraphSpec]:
    """Return the VAE encoder and the leak encoder, in the order in which they run."""
    return vae_encoder_graph(bundle.spec), leak_encoder_graph(bundle.spec)


class _LazyGolden:
    """Computes the golden inputs on first use: they are needed only when an engine is built."""

    def __init__(self, bundle: Bundle, precision: str) -> None:
        self._bundle, self._precision = bundle, precision
        self._inputs: list[GoldenInputs] = []

    def __call__(self) -> GoldenInputs:
        if not self._inputs:
            self._inputs.append(golden_inputs(self._bundle, self._precision))
        return self._inputs[0]


def _resolve(request: BuildRequest) -> BuildRequest:
    """Return the request with explicit, sorted targets. Raises UsageError for options the flavour doesn't support."""
    flavour, options = request.flavour, request.options
    flavour.check_targets(options.targets)
    if flavour.targets and not options.targets:
        options = replace(options, targets=(PORTABLE,))
    if not flavour.has_levels and options.level != DEFAULT_LEVEL:
        raise UsageError(f"--opt-level: {flavour} ignores the optimisation level; omit the option")
    if options.dla:
        problem = flavour.dla_problem(request.precision)
        if problem:
            raise UsageError(f"--dla: {problem}")
        if len(options.batches) > 1:
            raise UsageError("--dla: a DLA engine has one batch size; give a single --batch")
    return replace(request, options=replace(options, targets=tuple(sorted(set(options.targets), key=capability_order))))


def _device(request: BuildRequest) -> TargetDevice:
    """Return the GPU that the engines are bound to, or NO_DEVICE for engines built for compute capabilities.

    Raises BackendError (no such GPU), UsageError (the engines would not run on that GPU).
    """
    if not _needs_gpu(request):
        return NO_DEVICE
    try:
        device = find_device(request.device)
    except BackendError as error:
        if find_driver().library is not None:
            raise
        elsewhere = "or build for other machines with --flavour tensorrt-rtx --target 8.6,8.9"
        raise BackendError(f"{error}, {elsewhere}") from error
    problem = request.flavour.gpu_problem(device.capability)
    if problem:
        raise UsageError(f"--target: {problem}")
    return device


def _needs_gpu(request: BuildRequest) -> bool:
    return not request.flavour.targets or request.options.targets == (CURRENT,)


def _step(bundle: Bundle, graph: GraphSpec, request: BuildRequest, *, device: TargetDevice) -> _BuildStep:
    options = request.options
    if graph.input.name != "image":
        options = replace(options, dla_core=None)  # a DLA doesn't support the attention over steps
        request = replace(request, options=options)
    source = bundle.graph(graph.stem, request.precision)
    derived = derive_graph(source, graph, request.precision, flavour=request.flavour)
    # "current" resolves to the capability of the GPU, so that both spellings share one cache entry.
    targets = (device.capability,) if options.targets == (CURRENT,) else options.targets
    key = EngineKey(
        graph=graph.stem,
        precision=request.precision,
        source=sha256_bytes(source),
        onnx=derived.sha256,
        tensors=_tensors(graph, request.precision),
        batches=graph_batches(options.batches, _samples(bundle, graph)),
        flavour=request.flavour.name,
        version=request.flavour.version,
        flags=flag_names(request.flavour, request.precision, options),
        level=options.level,
        workspace=options.workspace or 0,
        dla_core=NO_DLA if options.dla_core is None else options.dla_core,
        device=NO_DEVICE if targets else device,
        targets=targets,
        recipe=RECIPE,
    )
    return _BuildStep(bundle=bundle, graph=graph, request=request, derived=derived, key=key)


def _ensure(
    step: _BuildStep,
    cache: EngineCache,
    together: frozenset[str],
    *,
    golden: _LazyGolden,
    notes: list[str],
    progress: Progress,
) -> BuildOutcome:
    """Return the engine and build it if the cache lacks it. The caller holds the locks of all `together`."""
    found = _cached(step, cache, [])  # another process may have built it before the lock was acquired
    if found is not None:
        return replace(found, notes=tuple(notes))
    progress(f"check {step.graph.stem}", 0, 100)
    parity = _parity(step, golden(), notes)
    progress(f"check {step.graph.stem}", 100, 100)
    timing = _timing_name(step.key) if step.request.flavour.has_timing_cache else ""
    job = BuildJob(
        name=step.graph.stem,
        model=step.derived.model,
        precision=step.request.precision,
        batches=step.key.batches,
        options=step.request.options,
        device=step.request.device,
        timing=cache.timing(timing) if timing else b"",
    )
    built = build_engine(step.request.flavour, job, _needs_gpu(step.request), progress=progress)
    record = _record(step, built, parity)
    notes += [f"evicted from the cache: {name}" for name in cache.store(record, built.data, together=together)]
    if timing and built.timing:
        cache.store_timing(timing, built.timing)
    return BuildOutcome(record=record, path=cache.path(record), built=True, notes=tuple(notes))


def _cached(step: _BuildStep, cache: EngineCache, notes: list[str]) -> BuildOutcome | None:
    """Return the verified engine of this key, or None. A damaged one adds a note and counts as missing."""
    try:
        record = cache.get(step.key)
        if record is None:
            return None
        cache.read(record)
    except EngineError as error:
        notes.append(f"{error}; rebuilding it")
        return None
    return BuildOutcome(record=record, path=cache.path(record), built=False, notes=tuple(notes))


def _parity(step: _BuildStep, golden: GoldenInputs, notes: list[str]) -> tuple[OutputParity, ...]:
    if step.request.precision == "int8" and step.derived.changed and not can_judge_int8():
        notes.append(
            f"{step.graph.stem}: skipped the parity check of the int8 graph; it needs ONNX Runtime 1.32 or later"
        )
    return check_parity(step.bundle, step.graph, step.request.precision, derived=step.derived, golden=golden)


def _record(step: _BuildStep, built: BuiltEngine, parity: tuple[OutputParity, ...]) -> EngineRecord:
    from ... import __version__

    return EngineRecord(
        key=step.key,
        sha256=sha256_bytes(built.data),
        size=len(built.data),
        created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        seconds=round(built.seconds, 3),
        leakrt=__version__,
        bundle=step.bundle.identity,
        memory=built.memory,
        layers=built.layers,
        compiled=built.compiled,
        warnings=built.warnings,
        parity=parity,
        refused=refusal(step.bundle.provenance, step.request.precision),
    )


def _tensors(graph: GraphSpec, precision: str) -> tuple[str, ...]:
    shapes = {t.name: t for t in (graph.input, *graph.outputs)}
    return tuple(f"{dtype} {shapes[name]}" for name, dtype in boundary_types(graph, precision))


def _samples(bundle: Bundle, graph: GraphSpec) -> int:
    """Return the samples per image of a graph: the leak encoder gets every draw as one sample."""
    return 1 if graph.input.name == "image" else bundle.spec.draws


def _timing_name(key: EngineKey) -> str:
    """Return the file name of the timing cache. Timings hold for one library version and one device only."""
    place = {"flavour": key.flavour, "version": key.version, **key.to_json()["device"]}
    return f"{sha256_bytes(canonical(place))[:32]}.timing"


def reasons_unusable(record: EngineRecord, flavours: list[Flavour]) -> Iterator[str]:
    """Yield the reasons why an engine can't run on this machine, as far as they can be determined here."""
    key = record.key
    here = [flavour for flavour in flavours if flavour.name == key.flavour]
    if here and key.version not in [flavour.version for flavour in here]:
        yield f"it was built with {key.flavour} {key.version}, and {here[0].version} is installed"
    misfits = [_misfit(key, device, here) for device in list_devices()]
    if misfits and all(misfits):
        yield misfits[0]
    if key.recipe != RECIPE:
        yield f"it was built by LeakRT {record.leakrt}, which derives different graphs from a bundle than this version"


def _misfit(key: EngineKey, device: TargetDevice, flavours: list[Flavour]) -> str:
    """Return why an engine can't run on a device: it targets another one, or the library doesn't support it."""
    problems = (flavour.gpu_problem(device.capability) for flavour in flavours)
    return device_misfit(key, device) or next(filter(None, problems), "")
