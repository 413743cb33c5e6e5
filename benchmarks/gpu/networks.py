"""The graphs of networks.json with random weights: as `core.weights` networks, and as ONNX, which needs onnx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leakrt.core.graphs import GraphSpec
from leakrt.core.spec import ModelSpec
from leakrt.core.weights import Network, Node
from leakrt.export.graph_io import parse_graph
from leakrt.export.onnx_graphs import OPSET, finish

PATH = Path(__file__).with_name("networks.json")


def read() -> tuple[ModelSpec, dict[str, Any], dict[str, int]]:
    """The spec, what `draw` needs of each graph by its stem, and floating-point operations of one image by part."""
    body = json.loads(PATH.read_text())
    return ModelSpec.from_json(body["spec"]), body["networks"], body["flops_per_image"]


def draw(described: Mapping[str, Any], seed: int) -> Network:
    """A network whose weights have the spread that is described; the same for the same seed."""
    rng = np.random.default_rng(seed)
    nodes = tuple(
        Node(
            operator=operator,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            attributes={k: _attribute(v) for k, v in attributes.items()},
        )
        for operator, inputs, outputs, attributes in described["nodes"]
    )
    tensors = {name: _tensor(tensor, rng) for name, tensor in described["tensors"].items()}
    return Network(input=described["input"], outputs=tuple(described["outputs"]), nodes=nodes, tensors=tensors)


def onnx_of(network: Network, graph: GraphSpec) -> bytes:
    """The network as a checked ONNX file of the bundle format. Raises ModelError."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node(n.operator, list(n.inputs), list(n.outputs), f"{n.operator} {i}", **n.attributes)
        for i, n in enumerate(network.nodes)
    ]
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        for names in ([network.input], network.outputs)
    ]
    weights = [numpy_helper.from_array(np.ascontiguousarray(t), name) for name, t in network.tensors.items()]
    made = helper.make_graph(nodes, graph.stem, *values, weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)])
    return finish(model, graph)


def half_of(model: bytes, stem: str) -> bytes:
    """The graph in float16, but for what sums many values or magnifies a rounding in the leak encoder's head."""
    from leakrt.calibration.fp16.convert import convert

    parsed = parse_graph(model, stem)
    islands = [n.name for n in parsed.graph.node if stem == "leak_encoder" and n.op_type != "Conv"]
    return convert(parsed, stem, islands)


def _attribute(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _tensor(described: Mapping[str, Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    shape, dtype = described["shape"], described["dtype"]
    if "values" in described:
        return np.array(described["values"], dtype).reshape(shape)
    reach = 3**0.5 * described["std"]  # of a uniform distribution, so that a variance stays positive
    return (described["mean"] + reach * (2.0 * rng.random(shape, np.float32) - 1.0)).astype(dtype)
