"""Parse ONNX into a TensorRT network, and add optimisation profiles for the batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.errors import ModelError, require
from .flavour import Flavour
from .logger import Messages, explain
from .names import (
    Builder,
    IBuilderConfig,
    ILayer,
    ILogger,
    INetworkDefinition,
    IOptimizationProfile,
    ITensor,
    OnnxParser,
    ParserError,
)


@dataclass(frozen=True)
class NetworkLayer:
    """A parsed layer, before fusion."""

    name: str
    kind: str  # such as CONVOLUTION
    dtype: str  # of the first output, such as HALF


@dataclass(frozen=True)
class ParsedNetwork:
    """A network and its parser, which owns the weights and must outlive the build."""

    network: INetworkDefinition
    parser: OnnxParser


def parse_network(
    flavour: Flavour, builder: Builder, logger: ILogger, *, messages: Messages, model: bytes, dla: bool, name: str
) -> ParsedNetwork:
    """Parse an ONNX graph. Raises ModelError with the operators that the parser doesn't support."""
    network: INetworkDefinition = builder.create_network(flavour.network_flags(dla))
    parser: OnnxParser = flavour.trt.OnnxParser(network, logger)
    if parser.parse(model):
        return ParsedNetwork(network, parser)
    problems = []
    for index in range(parser.num_errors):
        problem: ParserError = parser.get_error(index)
        problems.append(" ".join(f"{_node(model, problem.node())}{problem.desc()}".split()))
    raise ModelError(f"{name}: {flavour} can't parse the graph: {explain(problems or messages.errors)}")


def _node(model: bytes, index: int) -> str:
    """Return a prefix such as "Conv conv1: " for a node, since 8.5 reports only its index; empty if out of range."""
    onnx = require("onnx", "tensorrt")
    try:
        nodes = onnx.load_model_from_string(model).graph.node
    except Exception:  # not ONNX, which the parser has already reported
        return ""
    return f"{nodes[index].op_type} {nodes[index].name}: " if 0 <= index < len(nodes) else ""


def add_profiles(
    builder: Builder, config: IBuilderConfig, network: INetworkDefinition, *, batches: Sequence[int]
) -> None:
    """Add one profile per batch size, with that size as minimum, optimum and maximum.

    The builder then knows every shape, and a CUDA graph is captured for a fixed size. Raises ModelError if a dimension
    other than the batch is dynamic.
    """
    tensor: ITensor = network.get_input(0)
    shape = tuple(tensor.shape)
    if shape[0] != -1 or any(n <= 0 for n in shape[1:]):
        raise ModelError(
            f"{tensor.name} has shape {list(shape)}, where only the batch may be dynamic; export the bundle again"
        )
    for batch in batches:
        profile: IOptimizationProfile = builder.create_optimization_profile()
        sized = (batch, *shape[1:])
        profile.set_shape(tensor.name, sized, sized, sized)
        config.add_optimization_profile(profile)


def describe_layers(network: INetworkDefinition) -> tuple[NetworkLayer, ...]:
    """Return the layers of a parsed network, in order."""
    return tuple(_describe(network.get_layer(index)) for index in range(network.num_layers))


def _describe(layer: ILayer) -> NetworkLayer:
    dtype = ""
    if layer.num_outputs:
        tensor: ITensor = layer.get_output(0)
        dtype = _word(tensor.dtype)
    return NetworkLayer(str(layer.name), _word(layer.type), dtype)


def _word(value: object) -> str:
    """Return the member name of an enumeration value; only that part is the same in every version."""
    return str(value).rsplit(".", 1)[-1]
