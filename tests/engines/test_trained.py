"""Run every variant of a trained bundle, and every graph derived from it, in ONNX Runtime and build it with RTX.

Each detects faults that the other doesn't: ONNX Runtime accepts types that strong typing rejects, and RTX accepts
operators that ONNX Runtime has no kernel for.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from variants import Modern, Old, add_variants

from leakrt.core.bundle import Bundle
from leakrt.core.progress import silent

pytest.importorskip("torch", reason="a run is trained here (extra train)")
onnx = pytest.importorskip("onnx", reason="variants are made with onnx (extra rtx)")
PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("8.0", "8.6", "8.9", "12.0")


@pytest.fixture(scope="module", params=["one branch", "two branches"])
def trained(request, tmp_path_factory):
    """A bundle trained and exported by the normal code, with all three precisions."""
    from runs import tiny_run, two_branch_bundle

    from leakrt.export.exporter import export_run
    from leakrt.train.run import Run

    out = tmp_path_factory.mktemp("trained") / "bundle"
    if request.param == "two branches":
        shutil.copytree(two_branch_bundle(), out)
    else:
        export_run(Run.open(tiny_run() / "run"), out)
    return Bundle(add_variants(out, int8_leak=True))


def opset(model: bytes) -> int:
    return onnx.load_model_from_string(model).opset_import[0].version


def quantises(model: bytes) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in onnx.load_model_from_string(model).graph.node)


def half_share(model: bytes) -> float:
    """Return the fraction of a graph's weights that are float16."""
    sizes = {1: 0, 10: 0}
    for tensor in onnx.load_model_from_string(model).graph.initializer:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += int(np.prod(tensor.dims))
    return sizes[10] / sum(sizes.values())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rtx_builds_every_variant_for_every_common_capability(trained, cache, rtx, precision):
    from leakrt.engines.build.build import BuildRequest, build_bundle
    from leakrt.engines.build.builder import BuildOptions
    from leakrt.engines.build.parity import can_judge_int8

    outcomes = build_bundle(
        trained,
        BuildRequest(precision=precision, flavour=rtx, options=BuildOptions(targets=TARGETS)),
        cache,
        progress=silent,
    )
    for outcome in outcomes:
        record = outcome.record
        assert record.key.targets == TARGETS
        assert record.size == outcome.path.stat().st_size
        compared = precision == "fp16" or (precision == "int8" and can_judge_int8())
        assert bool(record.parity) == compared
        assert all(p.error <= p.limit for p in record.parity)
        assert any("CONVOLUTION" in layer.kind for layer in record.layers)
    half = "float32" if precision == "fp32" else "float16"
    vae, leak = (outcome.record.key.tensors for outcome in outcomes)
    assert [t.split()[:2] for t in vae] == [[half, "image"], [half, "latent"]]
    assert [t.split()[0] for t in leak] == [half, "float32", "float32", "float32", "float32"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_runtime_runs_the_bundles_graphs_and_every_copy_derived_from_them(trained, precision):
    from leakrt.engines.build.build import bundle_graphs
    from leakrt.engines.build.derive import derive_graph
    from leakrt.engines.build.parity import golden_inputs, run_graph

    golden = golden_inputs(trained, precision)
    for graph in bundle_graphs(trained):
        source = trained.graph(graph.stem, precision)
        names = tuple(tensor.name for tensor in graph.outputs)
        copies = [derive_graph(source, graph, precision, flavour=flavour()).model for flavour in (Modern, Old)]
        for model in (source, *copies):
            for output in run_graph(model, golden.of(graph), names):
                assert np.isfinite(output).all()
        assert opset(source) == 17
        modern, old = copies
        assert opset(old) == 17
        assert opset(modern) == (19 if precision == "int8" else 17)
        if precision == "int8":
            assert quantises(source)
            assert quantises(modern)
            assert half_share(source) == 0
            assert half_share(modern) > 0.3 or graph.input.name == "noised"
