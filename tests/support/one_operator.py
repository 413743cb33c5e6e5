"""One ONNX operator on the torch backend and on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from leakrt.export.weights import network_of
from leakrt.runtime.backends.torch.network import Arithmetic, TorchNetwork

CASE = ("operator", "shape", "constants", "attributes", "low", "outputs", "swap")
IMAGE, ROWS = (2, 6, 21, 12), (3, 4, 7)


def floats(*shape: int, seed: int = 1, low: float = -2.0, high: float = 2.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def ints(*values: int):
    return np.array(values, np.int64)


def model_of(
    operator: str, shape, constants, *, attributes, outputs: int = 1, swap: bool = False, opset: int = 17
) -> bytes:
    """One operator on `x` and constants, summed up where it gives several."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    names, tensors = [], []
    for i, constant in enumerate(constants):
        names.append("" if constant is None else f"c{i}")
        if constant is not None:
            tensors.append(onnx.numpy_helper.from_array(np.asarray(constant), f"c{i}"))
    inputs = [*names, "x"] if swap else ["x", *names]
    written = ["y"] if outputs == 1 else [f"y{i}" for i in range(outputs)]
    nodes = [helper.make_node(operator, inputs, written, **attributes)]
    if outputs > 1:
        nodes.append(helper.make_node("Concat", list(reversed(written)), ["y"], axis=attributes.get("axis", 0)))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def by_onnxruntime(model: bytes, x):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]


def by_torch(model: bytes, x):
    network = TorchNetwork(network_of(model, "g"), "g", Arithmetic(), device=torch.device("cpu"))
    with torch.inference_mode():
        return network(torch.from_numpy(x))[0].numpy()


def case(operator, *, shape=IMAGE, constants=(), low=-2.0, name="", outputs=1, swap=False, **attributes):
    """A row for `gives_what_onnx_runtime_gives`."""
    label = f"{operator}{'-' if name else ''}{name}"
    return pytest.param(operator, shape, constants, attributes, low, outputs, swap, id=label)


def assert_same(operator, shape, constants, *, attributes, low, outputs, swap, opset: int = 17) -> None:
    """What torch gives is what ONNX Runtime gives."""
    model = model_of(operator, shape, constants, attributes=attributes, outputs=outputs, swap=swap, opset=opset)
    x = floats(*shape, low=low)
    wanted, found = by_onnxruntime(model, x), by_torch(model, x)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
