"""uint8 codes around 128 for int8 codes around 0: the same values, and every convolution of a Q/DQ graph in int8."""

from __future__ import annotations

import platform

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
import onnxruntime as ort
from bundles import TINY_SPEC, vae_encoder
from onnx import TensorProto, helper, numpy_helper

from leakrt.core.unsigned_codes import codes_for_this_cpu, unsigned_codes


def pair(name, source, scale="scale", zero="zero"):
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [f"{name}_codes"], f"{name}_q"),
        helper.make_node("DequantizeLinear", [f"{name}_codes", scale, zero], [name], f"{name}_dq"),
    ]


def model_of(*nodes, zero=None, extra=()):
    """x float32 [B, 3, 9, 7] to y, through `nodes`; a scale, a zero point and a weight are there."""
    weight = np.random.default_rng(0).uniform(-1, 1, (4, 3, 3, 3)).astype(np.float32)
    constants = [
        numpy_helper.from_array(np.float32(0.05), "scale"),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]) if zero is None else zero,
        numpy_helper.from_array(weight, "w"),
        *extra,
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, 9, 7])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", None, None, None])
    graph = helper.make_graph(list(nodes), "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def run(model, seed=0, optimised=False):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = np.random.default_rng(seed).uniform(-9, 9, (2, 3, 9, 7)).astype(np.float32)  # beyond 127 x 0.05 both ways
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]


def zero_points(model):
    parsed = onnx.load_model_from_string(model)
    return {t.name: numpy_helper.to_array(t) for t in parsed.graph.initializer if t.data_type in (2, 3)}


@pytest.mark.parametrize("zero", [None, numpy_helper.from_array(np.int8(0), "zero")])
def test_values_are_the_same_to_the_last_bit_whatever_way_the_zero_is_stored(zero):
    model = model_of(*pair("y", "x"), zero=zero)
    found = unsigned_codes(model)
    onnx.checker.check_model(onnx.load_model_from_string(found), full_check=True)
    assert (zero_points(found)["zero"].dtype, int(zero_points(found)["zero"])) == (np.uint8, 128)
    for seed in range(3):
        np.testing.assert_array_equal(run(found, seed), run(model, seed))


def test_types_that_were_inferred_before_do_not_contradict_the_codes():
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model_of(*pair("y", "x"))))
    assert any(v.type.tensor_type.elem_type == TensorProto.INT8 for v in model.graph.value_info)
    found = unsigned_codes(model.SerializeToString())
    np.testing.assert_array_equal(run(found), run(model.SerializeToString()))


def test_weights_keep_their_int8():
    scales = numpy_helper.from_array(np.full(4, 0.01, np.float32), "scales")
    zeros = numpy_helper.from_array(np.zeros(4, np.int8), "zeros")
    weight = [
        helper.make_node("QuantizeLinear", ["w", "scales", "zeros"], ["w_codes"], axis=0),
        helper.make_node("DequantizeLinear", ["w_codes", "scales", "zeros"], ["w_back"], axis=0),
    ]
    conv = helper.make_node("Conv", ["x_back", "w_back"], ["c"])
    model = model_of(*weight, *pair("x_back", "x"), conv, *pair("y", "c"), extra=(scales, zeros))
    found = unsigned_codes(model)
    assert {n: z.dtype.name for n, z in zero_points(found).items()} == {"zero": "uint8", "zeros": "int8"}
    np.testing.assert_array_equal(run(found), run(model))


def test_weights_that_are_stored_as_codes_keep_their_int8():
    codes = np.random.default_rng(1).integers(-64, 65, (4, 3, 3, 3), dtype=np.int8)
    extra = (numpy_helper.from_array(np.float32(0.02), "w_scale"), numpy_helper.from_array(codes, "w_codes"))
    weight = helper.make_node("DequantizeLinear", ["w_codes", "w_scale", "w_zero"], ["w_back"])
    conv = helper.make_node("Conv", ["x_back", "w_back"], ["c"])
    zero = helper.make_tensor("w_zero", TensorProto.INT8, [], [0])
    model = model_of(weight, *pair("x_back", "x"), conv, *pair("y", "c"), extra=(*extra, zero))
    found = unsigned_codes(model)
    kinds = {name: value.dtype.name for name, value in zero_points(found).items()}
    assert kinds == {"zero": "uint8", "w_zero": "int8", "w_codes": "int8"}
    np.testing.assert_array_equal(run(found), run(model))


def unlike(kind):
    """Graphs of which no zero point may change."""
    other = helper.make_tensor("other", TensorProto.INT8, [], [0])
    return {
        "a zero point that is not zero": model_of(*pair("y", "x"), zero=helper.make_tensor("zero", 3, [], [5])),
        "uint8 already": model_of(*pair("y", "x"), zero=helper.make_tensor("zero", 2, [], [128])),
        "codes that another operator reads": model_of(
            pair("y", "x")[0], helper.make_node("Cast", ["y_codes"], ["y"], to=TensorProto.FLOAT)
        ),
        "another zero point on the way back": model_of(
            pair("y", "x")[0], helper.make_node("DequantizeLinear", ["y_codes", "scale", "other"], ["y"]), extra=[other]
        ),
        "a zero that is a value, too": model_of(
            *pair("a", "x"),
            helper.make_node("Cast", ["zero"], ["z"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["a", "z"], ["y"]),
        ),
        "no pair": model_of(helper.make_node("Relu", ["x"], ["y"])),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "a zero point that is not zero",
        "uint8 already",
        "codes that another operator reads",
        "another zero point on the way back",
        "a zero that is a value, too",
        "no pair",
    ],
)
def test_what_would_not_mean_the_same_stays_as_it_is(kind):
    assert unsigned_codes(unlike(kind)) == unlike(kind)


@pytest.mark.parametrize("zero", [["zero"], []])
def test_codes_that_a_graph_within_reads_stay_as_they_are(zero):
    """Without a zero point of its own an inner DequantizeLinear would take 128 more for a larger value."""
    read = helper.make_node("DequantizeLinear", ["a_codes", "scale", *zero], ["t"])
    branch = helper.make_graph([read], "b", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)])
    choice = helper.make_node("If", ["yes"], ["i"], then_branch=branch, else_branch=branch)
    yes = numpy_helper.from_array(np.array(True), "yes")
    model = model_of(*pair("a", "x"), choice, helper.make_node("Add", ["a", "i"], ["y"]), extra=[yes])
    assert np.array_equal(run(unsigned_codes(model)), run(model))


def test_a_graph_that_is_cut_short_comes_back_as_it_is_or_with_its_codes_changed_alone():
    model = model_of(*pair("y", "x"))
    for end in range(len(model)):
        found = unsigned_codes(model[:end])
        assert found == model[:end] or b"\x80" in found


def test_it_is_for_x86_alone(monkeypatch):
    model = model_of(*pair("y", "x"))
    for machine, changed in (("x86_64", True), ("AMD64", True), ("aarch64", False), ("arm64", False)):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert (codes_for_this_cpu(model) != model) == changed


def test_onnx_runtime_then_runs_a_convolution_that_several_nodes_read_in_int8(tmp_path):
    """The reason for it: when this holds without, `unsigned_codes` can go."""
    scales = numpy_helper.from_array(np.full(4, 0.01, np.float32), "scales")
    zeros = numpy_helper.from_array(np.zeros(4, np.int8), "zeros")
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "scales", "zeros"], ["w_codes"], axis=0),
        helper.make_node("DequantizeLinear", ["w_codes", "scales", "zeros"], ["w_back"], axis=0),
        *pair("x_back", "x"),
        helper.make_node("Conv", ["x_back", "w_back"], ["c"]),
        *pair("c_back", "c"),
        helper.make_node("Sigmoid", ["c_back"], ["s"]),
        helper.make_node("Mul", ["c_back", "s"], ["m"]),
        helper.make_node("Sin", ["c_back"], ["n"]),
        helper.make_node("Add", ["m", "n"], ["y"]),
    ]
    model = model_of(*nodes, extra=(scales, zeros))
    assert "QLinearConv" in optimised_operators(unsigned_codes(model), tmp_path)


def optimised_operators(model, folder):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node}


def test_a_float_graph_comes_back_untouched():
    model = vae_encoder(TINY_SPEC)
    assert unsigned_codes(model) is model
