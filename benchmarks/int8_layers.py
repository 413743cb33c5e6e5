"""Where a bundle's time goes at fp32 and at int8, by kind of operator and by convolution, on each CPU backend.

    python benchmarks/int8_layers.py BUNDLE [--rounds 40] [--threads N] [--json FILE]

First the time from preprocessed image to outputs at both precisions, all backends in turn in one process; then what
the runtimes' own profilers say of both graphs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from layer_profile import Cost, by_kind, on_onnxruntime, on_openvino
from timing import in_turn, machine, ratios, summary

from leakrt import _core
from leakrt.calibration.layers import find_layers
from leakrt.cli.console import table
from leakrt.core.bundle import Bundle
from leakrt.core.files import atomic_write
from leakrt.core.graphs import GraphSpec
from leakrt.engines.build.build import bundle_graphs
from leakrt.engines.build.parity import golden_inputs
from leakrt.export.graph_io import parse_graph
from leakrt.runtime.loaded import LoadedVariant
from leakrt.runtime.threads import resolve_threads

PROFILERS = {"onnxruntime": on_onnxruntime, "openvino": on_openvino}
PRECISIONS = ("fp32", "int8")
TARGET = 0.5  # int8 over fp32 on ONNX Runtime
_LEAST_MS = 0.005
MIN_SHARE = 0.01  # kinds of operators that take less are added up

Runs = dict[str, Callable[[], Any]]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bundle, threads, told = Bundle(args.bundle), resolve_threads(args.threads), machine()
    taken = in_turn(golden_runs(bundle, threads), args.rounds)
    rows = [("backend", "fp32", "int8", "int8 over fp32", "of the shortest", "target")]
    for name in PROFILERS:
        exact, int8 = (taken[f"{name} {p}"] for p in PRECISIONS)
        target = f"at most {TARGET}" if name == "onnxruntime" else ""
        times = (f"{median(each):.1f} ms" for each in (exact, int8))
        rows.append((name, *times, *(f"{ratio:.2f}" for ratio in ratios(int8, exact)), target))
    print(table(rows))
    body: dict[str, Any] = {"machine": told, "threads": threads, "milliseconds": summary(taken)}
    for graph in bundle_graphs(bundle):
        found = profile(bundle, graph, threads)
        print_profile(bundle, graph, found)
        body[graph.stem] = as_json(found)
    print(f"{threads} threads, {told}")
    if args.json:
        atomic_write(args.json, json.dumps(body, indent=1).encode())


def golden_runs(bundle: Bundle, threads: int) -> Runs:
    """ "BACKEND PRECISION" to what takes the golden image from preprocessed pixels to outputs there."""
    found: Runs = {}
    for name in PROFILERS:
        for precision in PRECISIONS:
            pipeline = LoadedVariant.load(bundle, precision, name, threads=threads).pipeline
            image = golden_image(bundle)
            found[f"{name} {precision}"] = lambda pipeline=pipeline, image=image: pipeline.run([image])
    return found


def golden_image(bundle: Bundle) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [3, S, S]."""
    image = np.empty((3, bundle.spec.image_size, bundle.spec.image_size), np.float32)
    _core.preprocess(bundle.golden().image, image)
    return image


def profile(bundle: Bundle, graph: GraphSpec, threads: int) -> dict[str, list[Cost]]:
    """ "BACKEND PRECISION" to the costs of a graph's operators there, on the golden image."""
    value = golden_inputs(bundle, "fp32").of(graph)
    return {
        f"{name} {precision}": take(bundle.graph(graph.stem, precision), value, threads)
        for name, take in PROFILERS.items()
        for precision in PRECISIONS
    }


def print_profile(bundle: Bundle, spec: GraphSpec, found: dict[str, list[Cost]]) -> None:
    """Kinds of operators on each, then one line for each convolution."""
    stem = spec.stem
    for where, costs in found.items():
        kinds, total = by_kind(costs), sum(cost.ms for cost in costs)
        large = {kind: ms for kind, ms in kinds.items() if ms >= MIN_SHARE * total}
        rows = [(f"{stem}, {where}", "ms", "share")]
        rows += [(kind, f"{ms:.2f}", f"{ms / total:.0%}") for kind, ms in large.items()]
        rest = total - sum(large.values())
        rows += [("all else", f"{rest:.2f}", f"{rest / total:.0%}"), ("together", f"{total:.2f}", "")]
        print(table(rows), end="\n\n")
    graph = parse_graph(bundle.graph(stem, "fp32"), stem)
    convolutions, names = find_layers(graph, stem), aliases(graph)
    work = sum(layer.multiplications for layer in convolutions)
    header = (f"{stem}, convolution alone, ms", "of the work", *found)
    body = [
        (c.name, f"{c.multiplications / work:.1%}", *(f"{_of(names[c.name], costs):.2f}" for costs in found.values()))
        for c in convolutions
    ]
    print(table([header, *body]), end="\n\n")


def aliases(graph: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Convolution to the names that a kernel may have it by: its own, and those of what it may be fused with."""
    readers = {name: node for node in graph.graph.node for name in node.input}
    found = {}
    for node in graph.graph.node:
        if node.op_type == "Conv":
            behind = readers.get(node.output[0])
            fused = (behind.name, behind.output[0]) if behind is not None else ()
            found[node.name] = (node.name, node.output[0], *fused)
    return found


def as_json(found: dict[str, list[Cost]]) -> dict[str, Any]:
    """Each kernel's time, by where it ran; those that take next to none count among their kind alone."""
    return {
        where: {
            "kinds": {kind: round(ms, 3) for kind, ms in by_kind(costs).items()},
            "kernels": {f"{c.name} [{c.kind}]": round(c.ms, 3) for c in costs if c.ms >= _LEAST_MS},
        }
        for where, costs in found.items()
    }


def _of(names: tuple[str, ...], costs: list[Cost]) -> float:
    """The kernel of a convolution: runtimes put more behind its name, as "_nchwc" or "/WithoutBiases"."""
    return sum(c.ms for c in costs if "Conv" in c.kind and any(_is_of(c.name, name) for name in names))


def _is_of(kernel: str, name: str) -> bool:
    return kernel == name or kernel.startswith((f"{name}_nchwc", f"{name}_token", f"{name}/WithoutBiases"))


if __name__ == "__main__":
    main()
