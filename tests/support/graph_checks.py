"""What tests of exported graphs look at. Needs onnx."""

from __future__ import annotations

from collections import Counter
from typing import Any

from leakrt.core.graphs import GraphSpec


def operators(model: bytes) -> Counter:
    """How often each operator stands in a graph."""
    import onnx

    return Counter(node.op_type for node in onnx.load_model_from_string(model).graph.node)


def session(model: bytes) -> Any:
    """A graph in ONNX Runtime."""
    import onnxruntime as ort

    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def half_output(model: bytes, name: str) -> bytes:
    """The graph with its last node's output, of that name, cast to float16."""
    import onnx

    parsed, half = onnx.load_model_from_string(model), onnx.TensorProto.FLOAT16
    parsed.graph.node[-1].output[0] = "inner"
    parsed.graph.node.append(onnx.helper.make_node("Cast", ["inner"], [name], to=half))
    parsed.graph.output[0].type.tensor_type.elem_type = half
    return parsed.SerializeToString()


def check_declared(model: bytes, graph: GraphSpec) -> None:
    """Names and shapes are those of the format, all fixed but the batch."""
    loaded = session(model)
    pairs = [[(v.name, v.shape) for v in values] for values in (loaded.get_inputs(), loaded.get_outputs())]
    graph.check_declared(*pairs)
    assert all(isinstance(n, int) for _, shape in (*pairs[0], *pairs[1]) for n in shape[1:])
