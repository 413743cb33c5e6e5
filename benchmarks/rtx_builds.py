"""Every variant of a bundle in ONNX Runtime, and built by TensorRT-RTX for each common compute capability. No GPU.

    python benchmarks/rtx_builds.py BUNDLE [--target 8.0,8.6,8.9,12.0] [--out FILE.json]

For each precision and graph: whether ONNX Runtime runs the bundle's graph and the copy the builder gets, how far the
copy is off on the golden image, and one engine a capability and one for all of them: seconds, size, layers.
Builds anew each time, into a temporary folder. A bundle that lacks fp32, fp16 or int8 is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from leakrt.cli.console import size, table
from leakrt.core.bundle import PRECISIONS, Bundle
from leakrt.core.files import atomic_write
from leakrt.core.progress import silent
from leakrt.core.versions import installed_versions
from leakrt.engines.build.build import BuildRequest, build_bundle, bundle_graphs
from leakrt.engines.build.builder import BuildOptions
from leakrt.engines.build.derive import derive_graph
from leakrt.engines.build.parity import golden_inputs, run_graph
from leakrt.engines.cache.cache import EngineCache
from leakrt.engines.cache.record import EngineRecord
from leakrt.engines.library.flavour import Flavour
from leakrt.engines.library.installed import load_flavour
from leakrt.engines.library.layers import count_precisions
from leakrt.runtime.machine import cpu_name


@dataclass(frozen=True)
class Ran:
    """One graph in ONNX Runtime, on the golden image."""

    precision: str
    graph: str
    of: str  # "bundle", or "builder": the copy that TensorRT gets
    finite: bool  # every output


@dataclass(frozen=True)
class Built:
    """One engine, or why there is none."""

    precision: str
    graph: str
    targets: str
    seconds: float
    bytes: int
    layers: int  # as compiled
    precisions: dict[str, int]  # layers of each
    parity: float  # largest error of an output of the derived graph, over its spread; 0: it is the bundle's own


def main() -> None:
    """Build and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--target", default="8.0,8.6,8.9,12.0")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    bundle, flavour = Bundle(args.bundle), load_flavour("tensorrt-rtx")
    named = tuple(args.target.split(","))
    for precision in PRECISIONS:
        bundle.require_precision(precision)
    ran = [one for precision in PRECISIONS for one in _run_in_onnxruntime(bundle, precision, flavour)]
    rows: list[Built] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = EngineCache(Path(folder) / "engines", 8 << 30)
        for precision in PRECISIONS:
            for targets in ((target,) for target in named):
                rows += _build(bundle, precision, flavour, targets, cache)
            rows += _build(bundle, precision, flavour, named, cache)
    print(table([_HEADER, *map(_row, rows)]))
    load = os.getloadavg()[0]
    slowest = max(row.seconds for row in rows)
    print(f"{len(rows)} engines with {flavour}, at most {slowest:.2f} s each, load average {load:.1f} on "
          f"{os.cpu_count()} CPUs")  # fmt: skip
    if args.out:
        body = {
            "bundle": {"identity": bundle.identity, "image_size": bundle.spec.image_size,
                       "classes": len(bundle.spec.class_names), "timesteps": list(bundle.spec.timesteps)},
            "flavour": str(flavour),
            "onnxruntime": installed_versions(("onnxruntime",)),
            "cpu": cpu_name(),
            "load": load,
            "in_onnxruntime": [asdict(one) for one in ran],
            "engines": [asdict(row) for row in rows],
        }  # fmt: skip
        atomic_write(args.out, json.dumps(body, indent=1).encode())


def _run_in_onnxruntime(bundle: Bundle, precision: str, flavour: Flavour) -> Iterator[Ran]:
    """Raises ModelError when a graph or its derived copy does not run; says so when an output is not finite."""
    golden = golden_inputs(bundle, precision)
    for graph in bundle_graphs(bundle):
        source = bundle.graph(graph.stem, precision)
        derived = derive_graph(source, graph, precision, flavour=flavour)
        names = tuple(tensor.name for tensor in graph.outputs)
        for of, model in (("bundle", source), ("builder", derived.model)):
            finite = all(bool(np.isfinite(output).all()) for output in run_graph(model, golden.of(graph), names))
            told = "runs" if finite else "runs, with outputs that are not finite"
            print(f"{graph.stem} {precision}, as the {of} has it: {told} in ONNX Runtime")
            yield Ran(precision, graph.stem, of, finite)


def _build(
    bundle: Bundle, precision: str, flavour: Flavour, targets: tuple[str, ...], cache: EngineCache
) -> list[Built]:
    request = BuildRequest(precision=precision, flavour=flavour, options=BuildOptions(targets=targets))
    return [_figures(outcome.record) for outcome in build_bundle(bundle, request, cache, progress=silent)]


def _figures(record: EngineRecord) -> Built:
    return Built(
        record.key.precision,
        record.key.graph,
        ", ".join(record.key.targets),
        record.seconds,
        record.size,
        len(record.compiled),
        count_precisions(record.compiled),
        max((parity.error for parity in record.parity), default=0.0),
    )


_HEADER = ("precision", "graph", "for", "seconds", "size", "layers", "of them", "parity error")


def _row(built: Built) -> tuple[str, ...]:
    kinds = ", ".join(f"{n} {name}" for name, n in built.precisions.items())
    return (
        built.precision,
        built.graph,
        built.targets,
        f"{built.seconds:.2f}",
        size(built.bytes),
        str(built.layers),
        kinds,
        f"{built.parity:.1e}" if built.parity else "-",
    )


if __name__ == "__main__":
    main()
