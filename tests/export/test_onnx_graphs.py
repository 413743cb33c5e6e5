"""Requirements on every exported graph."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
from onnx import TensorProto, helper, numpy_helper

from leakrt.core.errors import ModelError
from leakrt.core.graphs import GraphSpec, TensorSpec
from leakrt.export.onnx_graphs import IR_VERSION, OPSET, check_reduce_axes, convert_opset, finish

GRAPH = GraphSpec("toy", TensorSpec("image", (3, 8, 8)), (TensorSpec("latent", (3,)),))


def model(nodes, initializers=(), opset=OPSET, output="latent"):
    tensors = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, "h", "w"])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "toy", tensors, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def reduce_with_input(kind="ReduceSum", axes_name="axes"):
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    return model([helper.make_node(kind, ["image", axes_name], ["latent"], keepdims=0)], [axes] if axes_name else [])


def mean():
    return model([helper.make_node("ReduceMean", ["image"], ["latent"], axes=[2, 3], keepdims=0)])


def test_a_reduce_with_its_axes_as_an_input_is_refused():
    with pytest.raises(ModelError, match=r"toy: ReduceSum latent takes its axes as an input"):
        finish(reduce_with_input(), GRAPH)


def test_any_reduce_is_checked_and_an_empty_axes_input_passes():
    with pytest.raises(ModelError, match="ReduceMax"):
        check_reduce_axes(reduce_with_input("ReduceMax"), "toy")
    check_reduce_axes(reduce_with_input(axes_name=""), "toy")
    check_reduce_axes(mean(), "toy")


def test_only_the_batch_of_a_finished_graph_is_dynamic():
    done = onnx.load_model_from_string(finish(mean(), GRAPH))
    assert (done.opset_import[0].version, done.ir_version) == (OPSET, IR_VERSION)
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in done.graph.input]
    assert shapes == [["batch", 3, 8, 8]]
    assert [d.dim_value for d in done.graph.output[0].type.tensor_type.shape.dim][1:] == [3]


def test_a_graph_of_another_shape_or_name_is_refused():
    wider = GraphSpec("toy", GRAPH.input, (TensorSpec("latent", (4,)),))
    with pytest.raises(ModelError, match="not valid ONNX"):
        finish(mean(), wider)
    with pytest.raises(ModelError, match=r"latent \[B, 3\] is needed"):
        finish(model([helper.make_node("ReduceMean", ["image"], ["z"], axes=[2, 3], keepdims=0)], output="z"), GRAPH)


def test_older_operators_are_converted():
    old = model([helper.make_node("ReduceMean", ["image"], ["latent"], axes=[2, 3], keepdims=0)], opset=10)
    assert convert_opset(old, "old").opset_import[0].version == OPSET


def test_operators_that_can_not_be_converted_are_reported():
    split = helper.make_node("Split", ["image"], ["latent", "rest"], axis=1, num_outputs=2)
    newer = model([split], opset=18)
    with pytest.raises(ModelError, match="onnx:f has opset 18 and can't be converted to 17"):
        convert_opset(newer, "onnx:f")
    foreign = mean()
    foreign.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert [entry.domain for entry in convert_opset(foreign, "onnx:f").opset_import] == [""]  # no node uses it
    foreign.graph.node[0].domain = "com.microsoft"
    with pytest.raises(ModelError, match=r"operators of com\.microsoft"):
        convert_opset(foreign, "onnx:f")


@pytest.mark.parametrize("opset", [18, 19, 21])
def test_an_operator_without_an_adapter_is_kept_if_it_is_valid_at_opset_17(opset):
    from onnx import TensorProto, helper, numpy_helper

    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "pads")
    nodes = [helper.make_node("Pad", ["x", "pads"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 1, "H", "W"]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [pads])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    converted = convert_opset(model, "mine")
    assert [(entry.domain, entry.version) for entry in converted.opset_import] == [("", 17)]
    onnx.checker.check_model(converted, full_check=True)
    assert [node.op_type for node in converted.graph.node if node.op_type == "Pad"] == ["Pad"]


def test_an_operator_with_inputs_newer_than_opset_17_is_refused():
    from onnx import TensorProto, helper, numpy_helper

    pads = numpy_helper.from_array(np.array([1, 1], np.int64), "pads")
    axes = numpy_helper.from_array(np.array([2], np.int64), "axes")
    node = helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"])  # axes were added in opset 18
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 1, "H", "W"]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [pads, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(ModelError, match="has opset 18 and can't be converted to 17"):
        convert_opset(model, "mine")
