"""`leakrt build --verify`: ONNX Runtime against the engine on its GPU, output by output, by Polygraphy's runners."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.bundle import Bundle
from ..core.errors import BackendError, EngineError, LeakRTError, UsageError, require
from ..core.graphs import GraphSpec
from ..core.progress import Progress, silent
from .build.bisect import BadLayer, first_bad_layer
from .build.build import BuildOutcome, BuildRequest, bundle_graphs
from .build.builder import BuildJob, build_engine
from .build.derive import derive_graph, exact_graph
from .build.parity import can_judge_int8, golden_inputs, open_session, relative_error
from .cache.cache import EngineCache
from .cache.record import EngineRecord
from .inspect import open_engine
from .library.device import find_device, use_device
from .library.flavour import Flavour
from .library.rtx import CURRENT, PORTABLE

LIMITS = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.1}  # of the spread of an output; int8 rounds to other steps at edges
_OLD_ONNXRUNTIME = "ONNX Runtime before 1.32 runs float16 around int8 wrongly, so no first bad layer is looked for"
_RTX_VARIABLE = "POLYGRAPHY_USE_TENSORRT_RTX"
Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class OutputComparison:
    """One output of one engine against ONNX Runtime on the ONNX that it was built from."""

    graph: str
    output: str
    batch: int
    error: float  # root mean square difference over the spread
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether the error is a number and within its limit."""
        return self.error <= self.limit


@dataclass(frozen=True)
class Verified:
    """One engine's outputs, and where it goes wrong first, if it does."""

    comparisons: tuple[OutputComparison, ...]
    bad_layer: BadLayer | None
    note: str = ""  # what people should know of the comparison


def check_verifiable(request: BuildRequest) -> None:
    """Raises BackendError, UsageError or MissingExtraError where `verify_bundle` could not run what is to be built, so
    that it is known before minutes of building."""
    try:
        device = find_device(request.device)
    except BackendError as error:
        raise BackendError(f"--verify runs the engines on a GPU: {error}") from error
    targets = request.options.targets
    portable = not targets or targets[0] in (PORTABLE, CURRENT)
    if request.flavour.targets and not portable and device.capability not in targets:
        raise UsageError(
            f"--verify runs the engines on {device.name}, which has compute capability {device.capability}: "
            "name that in --target too, or leave --verify away"
        )
    _choose_polygraphy(request.flavour.name)


def verify_bundle(
    bundle: Bundle,
    request: BuildRequest,
    outcomes: tuple[BuildOutcome, ...],
    *,
    cache: EngineCache,
    progress: Progress,
) -> list[Verified]:
    """Run both engines on the golden image, every profile, against ONNX Runtime. Raises BackendError (no GPU),
    MissingExtraError, EngineError."""
    check_verifiable(request)
    golden = golden_inputs(bundle, request.precision)
    results = []
    for graph, outcome in zip(bundle_graphs(bundle), outcomes, strict=True):
        source = bundle.graph(graph.stem, request.precision)
        derived = derive_graph(source, graph, request.precision, flavour=request.flavour)
        exact = _exact(source, graph, request)
        sample = golden.of(graph)[:1]
        one = _verify_one(
            graph,
            outcome.record,
            exact or derived.model,
            sample=sample,
            request=request,
            cache=cache,
            progress=progress,
            bisect=not exact,
        )
        results.append(one)
    return results


def compare_outputs(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> dict[str, float]:
    """Output name to relative error. Raises EngineError when an output is missing or has another shape."""
    errors = {}
    for name, wanted in reference.items():
        found = candidate.get(name)
        if found is None or found.shape != wanted.shape:
            raise EngineError(f"the engine gives {name} as {None if found is None else list(found.shape)}, where "
                              f"{list(wanted.shape)} is needed")  # fmt: skip
        errors[name] = relative_error(np.asarray(found, np.float32), np.asarray(wanted, np.float32))
    return errors


def run_side_by_side(runners: list[Any], feed: Mapping[str, Array]) -> list[dict[str, Array]]:
    """The outputs of each Polygraphy runner for one input."""
    with quiet_polygraphy():
        comparator = require("polygraphy.comparator", "tensorrt").Comparator
        try:
            results = comparator.run(runners, data_loader=[dict(feed)])
        except LeakRTError:
            raise
        except Exception as error:  # Polygraphy raises PolygraphyException, the libraries their own
            raise EngineError(f"the comparison did not run ({' '.join(str(error).split())[:200]})") from error
        return [{name: np.array(array) for name, array in iterations[0].items()} for _, iterations in results]


def reference_runner(model: bytes) -> Any:
    """A Polygraphy runner of ONNX bytes on ONNX Runtime."""
    onnxrt = require("polygraphy.backend.onnxrt", "tensorrt")
    return onnxrt.OnnxrtRunner(partial(open_session, model), name="onnxruntime")


def engine_runner(flavour: Flavour, engine: bytes, profile: int) -> Any:
    """A Polygraphy runner of an engine, opened on the GPU that is current when it runs, by our own runtime: it tells
    why it can't, and shares its logger. Only give it bytes that the cache has verified."""
    trt = _polygraphy_trt(flavour.name)
    return trt.TrtRunner(partial(open_engine, flavour, engine), name="tensorrt", optimization_profile=profile)


def quiet_polygraphy() -> AbstractContextManager[Any]:
    """Polygraphy prints to stdout, where results go; what it calls critical, it raises as well."""
    logger = require("polygraphy.logger", "tensorrt").G_LOGGER
    quiet: AbstractContextManager[Any] = logger.verbosity(logger.CRITICAL + 1)
    return quiet


def _verify_one(
    graph: GraphSpec,
    record: EngineRecord,
    model: bytes,
    *,
    sample: Array,
    request: BuildRequest,
    cache: EngineCache,
    progress: Progress,
    bisect: bool,
) -> Verified:
    limit = LIMITS[request.precision]
    data = cache.read(record)
    comparisons = []
    for profile, batch in enumerate(record.key.batches):
        progress(f"verify {graph.stem}", profile, len(record.key.batches))
        errors = _errors(model, data, _feed(graph, record, sample, batch=batch), request=request, profile=profile)
        comparisons += [
            OutputComparison(graph=graph.stem, output=name, batch=batch, error=error, limit=limit)
            for name, error in errors.items()
        ]
    progress(f"verify {graph.stem}", len(record.key.batches), len(record.key.batches))
    note = "" if bisect else f"{graph.stem}: compared with the bundle's own graph; {_OLD_ONNXRUNTIME}"
    if not bisect or all(c.agrees for c in comparisons):
        return Verified(tuple(comparisons), None, note)

    def compare(part: bytes, output: str) -> float:
        batch = record.key.batches[0]
        job = BuildJob(
            name=graph.stem,
            model=part,
            precision=request.precision,
            batches=(batch,),
            options=request.options,
            device=request.device,
        )
        built = build_engine(request.flavour, job, True, progress=silent)
        return _errors(part, built.data, _feed(graph, record, sample, batch=batch), request=request, profile=0)[output]

    return Verified(tuple(comparisons), first_bad_layer(model, compare, limit, progress=progress))


def _exact(source: bytes, graph: GraphSpec, request: BuildRequest) -> bytes:
    """What to compare with instead of the graph that was built; empty where that is itself run rightly."""
    rightly = request.precision != "int8" or not request.flavour.strongly_typed or can_judge_int8()
    return b"" if rightly else exact_graph(source, graph, request.precision)


def _errors(
    model: bytes, engine: bytes, feed: Mapping[str, Array], *, request: BuildRequest, profile: int
) -> dict[str, float]:
    candidate = engine_runner(request.flavour, engine, profile)
    with use_device(request.device):
        reference, found = run_side_by_side([reference_runner(model), candidate], feed)
    return compare_outputs(reference, found)


def _feed(graph: GraphSpec, record: EngineRecord, sample: Array, *, batch: int) -> dict[str, Array]:
    """`batch` samples that differ, so that a mix-up between them shows."""
    half = record.key.tensors[0].startswith("float16")
    scales = np.linspace(1.0, 0.5, batch, dtype=np.float32).reshape(-1, *[1] * (sample.ndim - 1))
    return {graph.input.name: (sample * scales).astype(np.float16 if half else np.float32)}


def _choose_polygraphy(flavour: str) -> bool:
    """Let Polygraphy take this TensorRT, which is fixed when it is first imported: False where it took the other."""
    rtx = flavour == "tensorrt-rtx"
    os.environ.setdefault(_RTX_VARIABLE, "1" if rtx else "0")
    return bool(require("polygraphy.config", "tensorrt").USE_TENSORRT_RTX) == rtx


def _polygraphy_trt(flavour: str) -> Any:
    """Polygraphy's TensorRT backend."""
    if not _choose_polygraphy(flavour):
        right = int(flavour == "tensorrt-rtx")
        raise BackendError(f"Polygraphy is set to the other TensorRT; set {_RTX_VARIABLE}={right} and run it again")
    return require("polygraphy.backend.trt", "tensorrt")
