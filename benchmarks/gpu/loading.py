"""A variant on a backend, with its engines built first where the backend runs engines. No acceptance test is needed."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from part import Part, one_line

from leakrt.core.bundle import Bundle
from leakrt.core.errors import LeakRTError
from leakrt.core.images import MAX_PIXELS
from leakrt.core.progress import silent
from leakrt.engines.build.build import BuildOutcome, BuildRequest, build_bundle, bundle_graphs
from leakrt.engines.build.builder import BuildOptions
from leakrt.engines.cache.cache import default_cache
from leakrt.engines.library.installed import load_flavour
from leakrt.engines.library.rtx import CURRENT, PORTABLE
from leakrt.runtime.backends.tensorrt.backend import GpuBackend
from leakrt.runtime.backends.tensorrt.runner import GpuRunner, RunnerOptions
from leakrt.runtime.backends.tensorrt.slot import Engines
from leakrt.runtime.detector import Detector
from leakrt.runtime.finite import GuardedVariant
from leakrt.runtime.loaded import LoadedVariant
from leakrt.runtime.threads import resolve_threads

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "support"))
from host_device import HostDevice
from host_engine import HostEngine

FLAVOURS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}  # backends that run engines


@dataclass(frozen=True)
class Loading:
    """A precision of a bundle on a backend, for a part."""

    part: Part
    bundle: Bundle
    backend: str
    precision: str

    def note(self, name: str, value: object) -> None:
        """Keep a result under this precision."""
        self.part.set(self.precision, {**self.part.results.get(self.precision, {}), name: value})

    def load(self, batches: tuple[int, ...]) -> LoadedVariant:
        """Build what the backend needs, load, and so run the golden image. Raises what those raise."""
        rehearsed = self.backend in FLAVOURS and self.part.rehearse
        if self.backend in FLAVOURS and not rehearsed:
            self.note(f"build for {batches}", self._build(batches))
        begin, threads = time.perf_counter(), resolve_threads(0)
        if rehearsed:
            loaded = LoadedVariant(self.bundle, self._on_host_memory(), threads)
        else:
            loaded = LoadedVariant.load(self.bundle, self.precision, self.backend, threads=threads)
        self.note("load_s", time.perf_counter() - begin)
        return loaded

    def _build(self, batches: tuple[int, ...]) -> list[dict[str, object]]:
        """Both engines, into the cache that the runtime reads; TensorRT-RTX's for its default where it refuses this
        GPU."""
        flavour, begin = load_flavour(FLAVOURS[self.backend]), time.perf_counter()

        def made(*targets: str) -> tuple[BuildOutcome, BuildOutcome]:
            request = BuildRequest(
                precision=self.precision, flavour=flavour, options=BuildOptions(batches=batches, targets=targets)
            )
            return build_bundle(self.bundle, request, default_cache(), progress=silent)

        try:
            outcomes = made(CURRENT) if flavour.targets else made()
        except LeakRTError as error:
            if not flavour.targets:
                raise
            self.note(f"refused for this GPU, batches {batches}", one_line(error))
            outcomes = made(PORTABLE)
        return [{"flavour": str(flavour), "all_s": time.perf_counter() - begin, **_told(o)} for o in outcomes]

    def _on_host_memory(self) -> GpuBackend:
        """The chain of engines without a GPU: ONNX Runtime in their place, LeakRT's kernels run by their host twin."""
        spec = self.bundle.spec
        graphs = [(graph, self.bundle.graph(graph.stem, "fp32")) for graph in bundle_graphs(self.bundle)]
        rows = (1,), (spec.draws,)

        def engines(_: object) -> Engines:
            return Engines(*(HostEngine(*graph, n, half=frozenset()) for graph, n in zip(graphs, rows, strict=True)))

        runner = GpuRunner(spec, HostDevice, engines, options=RunnerOptions(slots=1))
        return GpuBackend(self.backend, "rehearsed", "fp32", threads=1, runner=runner, draws=spec.draws)


def detector_of(bundle: Bundle, loaded: LoadedVariant) -> Detector:
    """A detector of one variant, with no safer one behind it."""
    return Detector(bundle, GuardedVariant(loaded, lambda: None), None, max_pixels=MAX_PIXELS)


def _told(outcome: BuildOutcome) -> dict[str, object]:
    record = outcome.record
    return {
        "graph": record.key.graph,
        "targets": record.key.targets,
        "built": outcome.built,
        "build_s": record.seconds,
        "bytes": record.size,
        "layers": len(record.layers),
        "parity": {parity.output: parity.error for parity in record.parity},
        "warnings": list(record.warnings)[:5],
        "notes": list(outcome.notes),
    }
