"""Derived graphs: their types, opsets and results in ONNX Runtime."""

from __future__ import annotations

import pytest
from bundles import TINY_SPEC
from variants import Modern, Old

from leakrt.core.bundle import Bundle
from leakrt.core.errors import ModelError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph

onnx = pytest.importorskip("onnx", reason="derived graphs are made with onnx (extra rtx)")
VAE, LEAK = vae_encoder_graph(TINY_SPEC), leak_encoder_graph(TINY_SPEC)


def derived(variants, graph, precision, flavour=Modern):
    from leakrt.engines.build.derive import derive_graph

    return derive_graph(Bundle(variants).graph(graph.stem, precision), graph, precision, flavour=flavour())


def types(model: bytes) -> dict[str, int]:
    graph = onnx.load_model_from_string(model).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}


def int8_weights(model: bytes) -> list[str]:
    constants = onnx.load_model_from_string(model).graph.initializer
    return [t.name for t in constants if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]


FLOAT, HALF = 1, 10


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("flavour", [Modern, Old])
def test_a_derived_graph_is_valid_and_has_the_declared_boundary_types(variants, precision, flavour):
    half = FLOAT if precision == "fp32" else HALF
    for graph in (VAE, LEAK):
        found = derived(variants, graph, precision, flavour)
        onnx.checker.check_model(onnx.load_model_from_string(found.model))
        names = {FLOAT: "float32", HALF: "float16"}
        assert {name: names[kind] for name, kind in types(found.model).items()} == dict(found.dtypes)
    assert types(derived(variants, VAE, precision, flavour).model) == {"image": half, "latent": half}
    leak = types(derived(variants, LEAK, precision, flavour).model)
    assert leak.pop("noised") == half
    assert set(leak.values()) == {FLOAT}


def test_fp32_leaves_the_graph_unchanged(variants):
    found = derived(variants, VAE, "fp32")
    assert not found.changed
    assert found.model == Bundle(variants).graph("vae_encoder", "fp32")


def test_fp16_removes_the_boundary_casts(variants):
    graph = onnx.load_model_from_string(derived(variants, VAE, "fp16").model).graph
    ends = {"image", "latent"}
    assert not [n for n in graph.node if n.op_type == "Cast" and ends & {*n.input, *n.output}]


def test_an_int8_graph_becomes_float16_at_opset_19(variants):
    model = onnx.load_model_from_string(derived(variants, VAE, "int8").model)
    assert model.opset_import[0].version == 19
    scales = {n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    kinds = {t.data_type for t in model.graph.initializer if t.name in scales}
    assert kinds == {HALF}


def test_8_5_keeps_opset_17_and_float32_around_int8(variants):
    model = onnx.load_model_from_string(derived(variants, VAE, "int8", Old).model)
    assert model.opset_import[0].version == 17
    assert all(t.data_type != HALF for t in model.graph.initializer)


def test_an_unsupported_opset_is_refused(variants):
    from leakrt.engines.build.derive import derive_graph

    model = onnx.load_model_from_string(Bundle(variants).graph("vae_encoder", "fp32"))
    model.opset_import[0].version = 21
    with pytest.raises(ModelError, match=r".* doesn't support opset 21 \(at most 17\); export the bundle again"):
        derive_graph(model.SerializeToString(), VAE, "fp32", flavour=Old())


def test_8_5_gets_float32_weights_with_identical_results(variants):
    import numpy as np

    from leakrt.engines.build.parity import golden_inputs, run_graph

    source = Bundle(variants).graph("vae_encoder", "int8")
    old = derived(variants, VAE, "int8", Old).model
    codes = onnx.TensorProto.INT8
    assert [
        t for t in onnx.load_model_from_string(source).graph.initializer if t.data_type == codes and len(t.dims) == 4
    ]
    graph = onnx.load_model_from_string(old).graph
    assert not [t for t in graph.initializer if t.data_type == codes and len(t.dims) > 1]
    given = golden_inputs(Bundle(variants), "int8").image.astype(np.float16).astype(np.float32)
    wanted, found = (run_graph(model, given, ("latent",))[0] for model in (source, old))
    np.testing.assert_array_equal(found, wanted.astype(np.float16).astype(np.float32))
