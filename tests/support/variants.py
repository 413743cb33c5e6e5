"""Bundles with all three precisions, made in a moment by LeakRT's own converters. Needs onnx."""

from __future__ import annotations

import atexit
import functools
import json
import logging
import shutil
import tempfile
from pathlib import Path

import pytest
from bundles import random_bundle

from leakrt.core.bundle import Bundle, density_name, graph_name, write_bundle
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph


def add_variants(path: Path, int8_leak: bool) -> Path:
    """Add fp16 and int8 to an fp32 bundle by LeakRT's own converters, ranges and islands from its golden image.

    No gate is asked, and golden.npz knows fp32 alone: these are for building, not for judging. Without `int8_leak`
    the leak encoder of int8 stays float32, as calibration may leave it.
    """
    from leakrt.engines.build.parity import golden_inputs

    bundle = Bundle(path)
    golden = golden_inputs(bundle, "fp32")
    graphs = {g.stem: g for g in (vae_encoder_graph(bundle.spec), leak_encoder_graph(bundle.spec))}
    given = {stem: [golden.of(graph)[:1]] for stem, graph in graphs.items()}
    exact = {stem: bundle.graph(stem, "fp32") for stem in graphs}
    half = {s: halve(exact[s]) for s in graphs}
    int8 = {s: quantised(exact[s], s, given[s]) if int8_leak or s == "vae_encoder" else exact[s] for s in graphs}
    files = {name: bundle.read(name) for name in bundle.file_sizes}
    for precision, made in (("fp16", half), ("int8", int8)):
        files |= {graph_name(stem, precision): model for stem, model in made.items()}
        files[density_name(precision)] = files[density_name("fp32")]
    decision = bundle.decisions["fp32"].to_json()
    files["decision.json"] = json.dumps(dict.fromkeys(("fp32", "fp16", "int8"), decision)).encode()
    write_bundle(path, bundle.spec, files, provenance=bundle.provenance)
    return path


def halve(model: bytes) -> bytes:
    """Float16 inside, float32 at inputs and outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    from leakrt.export.graph_io import parse_graph

    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    blocked = ["ReduceLogSumExp", "ReduceMean", "Softmax", "InstanceNormalization"]
    half = convert_float_to_float16(parse_graph(model, "graph"), keep_io_types=True, op_block_list=blocked)
    OnnxModel.graph_topological_sort(half.graph)
    return half.SerializeToString()


def quantised(model: bytes, stem: str, given: list) -> bytes:
    """Every convolution as int8, weights packed as calibration packs them, ranges from what `given` makes."""
    from leakrt.calibration.int8.histogram import MagnitudeHistogram
    from leakrt.calibration.int8.methods import symmetric_range
    from leakrt.calibration.int8.observe import Observer
    from leakrt.calibration.int8.packed import pack_weights
    from leakrt.calibration.int8.qdq import observed_tensors, quantise
    from leakrt.calibration.layers import find_layers
    from leakrt.export.graph_io import parse_graph

    parsed = parse_graph(model, stem)
    layers = find_layers(parsed, stem)
    histograms = {name: MagnitudeHistogram() for name in observed_tensors(parsed, layers)}
    observer = Observer(parsed, list(histograms), 1)
    for value in given:
        observer.add(value, histograms)
    ranges = {name: symmetric_range(h, "minmax") for name, h in histograms.items()}
    return pack_weights(quantise(model, stem, [layer.name for layer in layers], ranges=ranges), stem)


@functools.cache
def shared_variants() -> Path:
    """The bundle, made once for all tests; not to be written to."""
    root = Path(tempfile.mkdtemp(prefix="leakrt-variants-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return add_variants(random_bundle(root / "bundle"), int8_leak=False)


def require_rtx() -> None:
    """Skip where TensorRT-RTX, which builds on any CPU, or what it needs is not installed."""
    for name in ("onnx", "tensorrt_rtx"):
        pytest.importorskip(name, reason=f"building needs {name} (extra rtx)")


def build_rtx(leakrt, tmp_path: Path, monkeypatch, precision: str, *options: object) -> list[dict]:
    """`leakrt build` of the bundle for 8.6 and 12.0, into a cache below `tmp_path`: what it prints of each engine."""
    require_rtx()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    where = ("--flavour", "tensorrt-rtx", "--target", "8.6,12.0")
    done = leakrt("build", shared_variants(), "--precision", precision, *where, "--json", *options)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.lines]


class Modern:
    """What `derive_graph` asks of TensorRT 10, 11 and RTX."""

    name, strongly_typed, last_opset = "tensorrt-rtx", True, 20


class Old:
    """What it asks of 8.5."""

    name, strongly_typed, last_opset = "tensorrt", False, 17
