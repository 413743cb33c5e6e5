"""What the builder gets beside the bundle's ONNX, judged by running both on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import TINY_SPEC
from variants import Modern, Old

from leakrt.core.bundle import Bundle
from leakrt.core.errors import ModelError, ParityError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph

onnx = pytest.importorskip("onnx", reason="derived graphs are made with onnx (extra rtx)")
VAE, LEAK = vae_encoder_graph(TINY_SPEC), leak_encoder_graph(TINY_SPEC)


def derived(variants, graph, precision, flavour=Modern):
    from leakrt.engines.derive import derive_graph

    return derive_graph(Bundle(variants).graph(graph.stem, precision), graph, precision, flavour())


def types(model: bytes) -> dict[str, int]:
    graph = onnx.load_model_from_string(model).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}


FLOAT, HALF = 1, 10


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("flavour", [Modern, Old])
def test_a_derived_graph_is_valid_and_typed_at_its_boundary_as_it_says(variants, precision, flavour):
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


def test_fp32_is_the_bundles_own_bytes(variants):
    found = derived(variants, VAE, "fp32")
    assert not found.changed
    assert found.model == Bundle(variants).graph("vae_encoder", "fp32")


def test_the_boundary_casts_of_fp16_are_gone(variants):
    graph = onnx.load_model_from_string(derived(variants, VAE, "fp16").model).graph
    ends = {"image", "latent"}
    assert not [n for n in graph.node if n.op_type == "Cast" and ends & {*n.input, *n.output}]


def test_the_rest_of_an_int8_graph_is_float16_at_an_opset_that_allows_it(variants):
    model = onnx.load_model_from_string(derived(variants, VAE, "int8").model)
    assert model.opset_import[0].version == 19
    scales = {n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    kinds = {t.data_type for t in model.graph.initializer if t.name in scales}
    assert kinds == {HALF}


def test_8_5_keeps_opset_17_and_float32_around_int8(variants):
    model = onnx.load_model_from_string(derived(variants, VAE, "int8", Old).model)
    assert model.opset_import[0].version == 17
    assert all(t.data_type != HALF for t in model.graph.initializer)


def test_derived_graphs_say_what_the_bundle_says(variants):
    from leakrt.engines.parity import can_judge_int8, check_parity, golden_inputs

    bundle = Bundle(variants)
    for precision in ("fp16", "int8"):
        golden = golden_inputs(bundle, precision)
        for graph in (VAE, LEAK):
            found = check_parity(bundle, graph, precision, derived(variants, graph, precision), golden)
            judged = precision == "fp16" or can_judge_int8()
            assert [p.output for p in found] == ([t.name for t in graph.outputs] if judged else [])


def test_a_derived_graph_that_says_something_else_is_refused_with_its_error(variants):
    from dataclasses import replace

    from leakrt.engines.parity import check_parity, golden_inputs

    model = onnx.load_model_from_string(derived(variants, VAE, "fp16").model)
    weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    weight.raw_data = (np.frombuffer(weight.raw_data, np.float16) * np.float16(1.5)).tobytes()
    wrong = replace(derived(variants, VAE, "fp16"), model=model.SerializeToString())
    bundle = Bundle(variants)
    with pytest.raises(ParityError, match=r"vae_encoder: latent of the fp16 graph .* where 0.02 is allowed"):
        check_parity(bundle, VAE, "fp16", wrong, golden_inputs(bundle, "fp16"))


def test_nan_is_no_parity():
    from leakrt.engines.parity import relative_error

    assert not relative_error(np.float32([np.nan, 1]), np.float32([0, 1])) <= 1.0


def test_an_opset_the_parser_does_not_know_is_refused(variants):
    from leakrt.engines.derive import derive_graph

    model = onnx.load_model_from_string(Bundle(variants).graph("vae_encoder", "fp32"))
    model.opset_import[0].version = 21
    with pytest.raises(ModelError, match=r"opset 21, where .* reads up to 17; export the bundle again"):
        derive_graph(model.SerializeToString(), VAE, "fp32", Old())


@pytest.mark.parametrize(("channels", "size"), [(3, 7), (8, 33)])
def test_a_spelled_out_instance_norm_computes_the_same(channels, size):
    from onnx import TensorProto, helper, numpy_helper

    from leakrt.engines.parity import run_graph
    from leakrt.engines.surgery import spell_out_instance_norm

    rng = np.random.default_rng(size)
    weights = [
        numpy_helper.from_array(rng.standard_normal(channels).astype(np.float32), name) for name in ("scale", "bias")
    ]
    nodes = [
        helper.make_node("InstanceNormalization", ["image", "scale", "bias"], ["a"], name="norm", epsilon=1e-3),
        helper.make_node("Relu", ["a"], ["latent"]),
    ]
    shape = ["B", channels, size, size + 2]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "latent")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = rng.standard_normal((2, channels, size, size + 2)).astype(np.float32) * 30 + 5
    (wanted,) = run_graph(model.SerializeToString(), given, ("latent",))
    assert spell_out_instance_norm(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert not [n for n in model.graph.node if n.op_type == "InstanceNormalization"]
    (found,) = run_graph(model.SerializeToString(), given, ("latent",))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_casts_appear_where_the_inside_stays_float32():
    from bundles import vae_encoder

    from leakrt.engines.parity import run_graph
    from leakrt.engines.surgery import halve_input, halve_output

    source = vae_encoder(TINY_SPEC)
    model = onnx.load_model_from_string(source)
    halve_input(model, "image")
    halve_output(model, "latent")
    onnx.checker.check_model(model, full_check=True)
    given = np.random.default_rng(0).uniform(-1, 1, (2, 3, 40, 40)).astype(np.float16).astype(np.float32)
    (wanted,), (found,) = (run_graph(m, given, ("latent",)) for m in (source, model.SerializeToString()))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
