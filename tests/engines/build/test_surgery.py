"""Graph edits, which must not change the results."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import TINY_SPEC

onnx = pytest.importorskip("onnx", reason="graphs are changed with onnx (extra rtx)")
FLOAT, HALF = 1, 10


@pytest.mark.parametrize(("channels", "size"), [(3, 7), (8, 33)])
def test_a_replaced_instance_norm_computes_the_same(channels, size):
    from onnx import TensorProto, helper, numpy_helper

    from leakrt.engines.build.parity import run_graph
    from leakrt.engines.build.surgery import spell_out_instance_norm

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


def test_a_replaced_float16_norm_squares_in_float32():
    from onnx import TensorProto, helper, numpy_helper

    from leakrt.engines.build.parity import run_graph
    from leakrt.engines.build.surgery import spell_out_instance_norm

    rng, channels = np.random.default_rng(0), 5
    halves = [rng.standard_normal(channels).astype(np.float16) for _ in range(2)]
    weights = [numpy_helper.from_array(w, name) for w, name in zip(halves, ("scale", "bias"), strict=True)]
    nodes = [
        helper.make_node("Neg", ["image"], ["a"]),
        helper.make_node("InstanceNormalization", ["a", "scale", "bias"], ["latent"], name="norm"),
    ]
    shape = ["B", channels, 7, 9]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name in ("image", "latent")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = (rng.standard_normal((2, channels, 7, 9)) * 3000).astype(np.float16).astype(np.float32)
    assert spell_out_instance_norm(model) == 1
    onnx.checker.check_model(model, full_check=True)
    (found,) = run_graph(model.SerializeToString(), given, ("latent",))
    centred = -given - (-given).mean((2, 3), keepdims=True)
    normal = centred / np.sqrt((centred**2).mean((2, 3), keepdims=True) + 1e-5)
    scale, bias = (w.astype(np.float32).reshape(1, -1, 1, 1) for w in halves)
    np.testing.assert_allclose(found, normal * scale + bias, atol=4e-3)


def test_casts_are_added_to_a_float32_graph():
    from bundles import vae_encoder

    from leakrt.engines.build.parity import run_graph
    from leakrt.engines.build.surgery import halve_input, halve_output

    source = vae_encoder(TINY_SPEC)
    model = onnx.load_model_from_string(source)
    halve_input(model, "image")
    halve_output(model, "latent")
    onnx.checker.check_model(model, full_check=True)
    given = np.random.default_rng(0).uniform(-1, 1, (2, 3, 40, 40)).astype(np.float16).astype(np.float32)
    (wanted,), (found,) = (run_graph(m, given, ("latent",)) for m in (source, model.SerializeToString()))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def chain(*nodes, ends, weights=()):
    """Return a model on [B, 3] from (operator, inputs, output, attributes); `ends`: (input type, output type)."""
    from onnx import helper

    made = [helper.make_node(kind, list(given), [out], name=f"n_{out}", **more) for kind, given, out, more in nodes]
    infos = [
        helper.make_tensor_value_info(name, kind, ["B", 3])
        for name, kind in zip(("image", "latent"), ends, strict=True)
    ]
    graph = helper.make_graph(made, "g", infos[:1], infos[1:], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def kinds(model) -> list[str]:
    return [node.op_type for node in model.graph.node]


def run(model, given):
    from leakrt.engines.build.parity import run_graph

    onnx.checker.check_model(model, full_check=True)
    return run_graph(model.SerializeToString(), given, ("latent",))[0]


GIVEN = np.float32([[0.5, -1.25, 3.0], [8.0, 0.0, -0.125]])


def test_boundary_casts_are_removed_without_replacement():
    from leakrt.engines.build.surgery import halve_input, halve_output

    model = chain(
        ("Cast", ["image"], "a", {"to": HALF}),
        ("Relu", ["a"], "b", {}),
        ("Neg", ["a"], "c", {}),
        ("Add", ["b", "c"], "d", {}),
        ("Cast", ["d"], "latent", {"to": FLOAT}),
        ends=(FLOAT, FLOAT),
    )
    halve_input(model, "image")
    halve_output(model, "latent")
    assert kinds(model) == ["Relu", "Neg", "Add"]
    np.testing.assert_array_equal(run(model, GIVEN), np.maximum(GIVEN, 0) - GIVEN)


def test_an_input_read_in_both_types_is_cast_once():
    from leakrt.engines.build.surgery import halve_input

    model = chain(
        ("Cast", ["image"], "a", {"to": HALF}),
        ("Cast", ["a"], "b", {"to": FLOAT}),
        ("Add", ["image", "b"], "c", {}),
        ("Mul", ["c", "image"], "latent", {}),
        ends=(FLOAT, FLOAT),
    )
    halve_input(model, "image")
    assert kinds(model).count("Cast") == 2
    np.testing.assert_array_equal(run(model, GIVEN), 2 * GIVEN * GIVEN)


def test_an_output_that_another_node_reads_stays_float32_for_that_node():
    from onnx import helper

    from leakrt.engines.build.surgery import halve_output

    model = chain(
        ("Cast", ["image"], "a", {"to": HALF}),
        ("Neg", ["a"], "b", {}),
        ("Cast", ["b"], "latent", {"to": FLOAT}),
        ("Abs", ["latent"], "more", {}),
        ends=(FLOAT, FLOAT),
    )
    model.graph.output.append(helper.make_tensor_value_info("more", FLOAT, ["B", 3]))
    halve_output(model, "latent")
    np.testing.assert_array_equal(run(model, GIVEN), -GIVEN)


@pytest.mark.parametrize("name", ["halve_input", "halve_output"])
def test_a_float16_boundary_is_unchanged(name):
    from leakrt.engines.build import surgery

    model = chain(("Neg", ["image"], "latent", {}), ends=(HALF, HALF))
    before = model.SerializeToString()
    getattr(surgery, name)(model, "image" if name == "halve_input" else "latent")
    assert model.SerializeToString() == before


def test_a_graph_without_norms_is_unchanged():
    from leakrt.engines.build.surgery import spell_out_instance_norm

    model = chain(("Neg", ["image"], "latent", {}), ends=(FLOAT, FLOAT))
    before = model.SerializeToString()
    assert spell_out_instance_norm(model) == 0
    assert model.SerializeToString() == before
