"""`leakrt build --verify`: compare engine outputs on the GPU with ONNX Runtime, using Polygraphy's runners."""

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

LIMITS = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.1}  # relative error; int8 values may round to a neighbouring step
_OLD_ONNXRUNTIME = (
    "the search for the first bad layer needs ONNX Runtime 1.32 or later, which runs float16 Q/DQ correctly"
)
_RTX_VARIABLE = "POLYGRAPHY_USE_TENSORRT_RTX"
Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class OutputComparison:
    """The error of one engine output against ONNX Runtime."""

    graph: str
    output: str
    batch: int
    error: float  # RMS difference divided by the standard deviation
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether the error is within its limit; NaN is not."""
        return self.error <= self.limit


@dataclass(frozen=True)
class Verified:
    """The comparisons of one engine, and its first bad layer if an output disagrees."""

    comparisons: tuple[OutputComparison, ...]
    bad_layer: BadLayer | None
    note: str = ""  # message for the user about the reference


def check_verifiable(request: BuildRequest) -> None:
    """Check that `verify_bundle` can run the requested engines, before a build that takes minutes.

    Raises BackendError (no GPU), UsageError (the targets exclude the GPU), MissingExtraError.
    """
    try:
        device = find_device(request.device)
    except BackendError as error:
        raise BackendError(f"--verify needs a GPU: {error}") from error
    targets = request.options.targets
    portable = not targets or targets[0] in (PORTABLE, CURRENT)
    if request.flavour.targets and not portable and device.capability not in targets:
        raise UsageError(
            f"--verify: {device.name} has compute capability {device.capability}, which is not a target; "
            "add it to --target, or omit --verify"
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
    """Compare both engines with ONNX Runtime on the golden image, for every profile.

    Raises BackendError (no GPU), UsageError, MissingExtraError, EngineError, ModelError.
    """
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
    """Return the relative error per output name. Raises EngineError for a missing output or a wrong shape."""
    errors = {}
    for name, wanted in reference.items():
        found = candidate.get(name)
        if found is None or found.shape != wanted.shape:
            shape = "no output" if found is None else f"shape {list(found.shape)}"
            raise EngineError(f"the engine returned {shape} for {name}, expected shape {list(wanted.shape)}")
        errors[name] = relative_error(np.asarray(found, np.float32), np.asarray(wanted, np.float32))
    return errors


def run_side_by_side(runners: list[Any], feed: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Return the outputs of each Polygraphy runner for one input. Raises EngineError, MissingExtraError."""
    with quiet_polygraphy():
        comparator = require("polygraphy.comparator", "tensorrt").Comparator
        try:
            results = comparator.run(runners, data_loader=[dict(feed)])
        except LeakRTError:
            raise
        except Exception as error:  # Polygraphy and the libraries raise unrelated types
            raise EngineError(f"running the comparison failed: {' '.join(str(error).split())[:200]}") from error
        return [{name: np.array(array) for name, array in iterations[0].items()} for _, iterations in results]


def reference_runner(model: bytes) -> Any:
    """Return a Polygraphy runner that runs an ONNX graph in ONNX Runtime."""
    onnxrt = require("polygraphy.backend.onnxrt", "tensorrt")
    return onnxrt.OnnxrtRunner(partial(open_session, model), name="onnxruntime")


def engine_runner(flavour: Flavour, engine: bytes, profile: int) -> Any:
    """Return a Polygraphy runner of an engine, which is opened on the GPU that is current when it runs.

    `open_engine` loads it, for its error messages and its logger. Pass only bytes that the cache has verified.
    """
    trt = _polygraphy_trt(flavour.name)
    return trt.TrtRunner(partial(open_engine, flavour, engine), name="tensorrt", optimization_profile=profile)


def quiet_polygraphy() -> AbstractContextManager[Any]:
    """Silence Polygraphy, which logs to stdout. It also raises an exception for every critical message."""
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
    note = "" if bisect else f"{graph.stem}: compared with the graph of the bundle; {_OLD_ONNXRUNTIME}"
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
    """Return the reference graph if ONNX Runtime computes the derived one wrongly, else empty bytes."""
    correct = request.precision != "int8" or not request.flavour.strongly_typed or can_judge_int8()
    return b"" if correct else exact_graph(source, graph, request.precision)


def _errors(
    model: bytes, engine: bytes, feed: Mapping[str, Array], *, request: BuildRequest, profile: int
) -> dict[str, float]:
    candidate = engine_runner(request.flavour, engine, profile)
    with use_device(request.device):
        reference, found = run_side_by_side([reference_runner(model), candidate], feed)
    return compare_outputs(reference, found)


def _feed(graph: GraphSpec, record: EngineRecord, sample: Array, *, batch: int) -> dict[str, Array]:
    """Return `batch` scaled copies of the sample. They differ, so that swapped samples are detected."""
    half = record.key.tensors[0].startswith("float16")
    scales = np.linspace(1.0, 0.5, batch, dtype=np.float32).reshape(-1, *[1] * (sample.ndim - 1))
    return {graph.input.name: (sample * scales).astype(np.float16 if half else np.float32)}


def _choose_polygraphy(flavour: str) -> bool:
    """Select Polygraphy's TensorRT, which is fixed at its first import. Return whether it uses this flavour."""
    rtx = flavour == "tensorrt-rtx"
    os.environ.setdefault(_RTX_VARIABLE, "1" if rtx else "0")
    return bool(require("polygraphy.config", "tensorrt").USE_TENSORRT_RTX) == rtx


def _polygraphy_trt(flavour: str) -> Any:
    """Return Polygraphy's TensorRT backend. Raises BackendError if it uses the other flavour."""
    if not _choose_polygraphy(flavour):
        value = int(flavour == "tensorrt-rtx")
        raise BackendError(f"Polygraphy uses the other TensorRT flavour; set {_RTX_VARIABLE}={value} and try again")
    return require("polygraphy.backend.trt", "tensorrt")
