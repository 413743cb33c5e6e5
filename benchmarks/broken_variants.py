"""Variants broken on purpose, for the acceptance test to refuse: each takes a sound variant and changes one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from leakrt.core.outputs import LeakOutputs
from leakrt.core.spec import ModelSpec

Graphs = tuple[bytes, bytes]  # VAE encoder, leak encoder
Weights = npt.NDArray[np.floating]  # [channels out, channels in, height, width]


def weights_scaled(graphs: Graphs) -> Graphs:
    """The weights of the VAE encoder's first convolution are 10 % too large."""
    return _changed(graphs, 0, lambda w: w * 1.1)


def channel_zeroed(graphs: Graphs) -> Graphs:
    """The output channel with the largest weights in a convolution in the middle of the VAE encoder is zero."""
    return _changed(graphs, None, _without_largest)


def three_bits(graphs: Graphs) -> Graphs:
    """The weights of a convolution in the middle of the VAE encoder have 3 bits, one scale for all of them."""
    return _changed(graphs, None, lambda w: np.round(w / (step := np.abs(w).max() / 3)) * step)


def overflow(graphs: Graphs) -> Graphs:
    """The weights of the VAE encoder's first convolution are so large that its outputs exceed float16."""
    return _changed(graphs, 0, lambda w: w * (6e4 / np.abs(w).max()))


GRAPHS: dict[str, Callable[[Graphs], Graphs]] = {
    "weights scaled": weights_scaled,
    "channel zeroed": channel_zeroed,
    "3-bit layer": three_bits,
    "overflow": overflow,
}


def other_noise(spec: ModelSpec) -> ModelSpec:
    """The spec with another noise seed."""
    return replace(spec, noise_seed=spec.noise_seed + 1)


def classes_swapped(outputs: LeakOutputs, spec: ModelSpec) -> LeakOutputs:
    """The outputs with the scores of the first two generators swapped, so that no verdict's kind changes."""
    first, second = [k for k in range(len(spec.class_names)) if k != spec.real_index][:2]
    order = np.arange(len(spec.class_names))
    order[[first, second]] = second, first
    return replace(outputs, scores=outputs.scores[:, order])


def _without_largest(weights: Weights) -> Weights:
    kept = weights.copy()
    kept[np.abs(weights).sum(axis=(1, 2, 3)).argmax()] = 0
    return kept


def _changed(graphs: Graphs, layer: int | None, change: Callable[[Weights], Weights]) -> Graphs:
    """Change the weights of a convolution of the VAE encoder, by number; None is the one in the middle."""
    model = onnx.load_model_from_string(graphs[0])
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names = [node.input[1] for node in model.graph.node if node.op_type == "Conv" and node.input[1] in stored]
    tensor = stored[names[len(names) // 2 if layer is None else layer]]
    weights = numpy_helper.to_array(tensor)
    found = change(weights.astype(np.float64)).astype(weights.dtype)
    assert not np.array_equal(found, weights), "the change must change something"
    tensor.CopyFrom(numpy_helper.from_array(found, tensor.name))
    return model.SerializeToString(), graphs[1]
