"""Run a graph on a stream of inputs and collect histograms of inner tensors, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...core.errors import require
from ...export.sessions import open_session, run_session
from .histogram import MagnitudeHistogram

if TYPE_CHECKING:
    import onnx

MAX_OPEN_BYTES = 192 << 20  # of inner tensors returned by one run

Array = npt.NDArray[np.float32]


class Observer:
    """Collects histograms of selected tensors of a float32 graph.

    A large graph runs several times per input, each time returning as many tensors as fit MAX_OPEN_BYTES.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> None:
        """Raises ModelError if ONNX Runtime can't load the graph."""
        self._name = model.graph.name or "graph"
        self._input = model.graph.input[0].name
        inner = [name for name in tensors if name != self._input]
        self._observes_input = self._input in tensors
        self._groups = list(_groups(inner, _sizes(model)))
        self._sessions = [open_session(self._name, _with_outputs(model, group), threads) for group in self._groups]

    def add(self, value: Array, histograms: Mapping[str, MagnitudeHistogram]) -> None:
        """Run one input row by row, and count the values of every tensor. Raises ModelError, DataError."""
        for row in range(len(value)):
            feed = {self._input: value[row : row + 1]}
            if self._observes_input:
                histograms[self._input].add(feed[self._input])
            for group, session in zip(self._groups, self._sessions, strict=True):
                for name, array in zip(group, run_session(self._name, session, group, feed=feed), strict=True):
                    histograms[name].add(array)


def _with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> bytes:
    onnx = require("onnx", "train")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in tensors
        if name not in present
    )
    return bytes(copy.SerializeToString())


def _groups(tensors: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    used = 0
    for name in tensors:
        size = sizes.get(name, 0)
        if group and used + size > MAX_OPEN_BYTES:
            yield group
            group, used = [], 0
        group.append(name)
        used += size
    if group:
        yield group


def _sizes(model: onnx.ModelProto) -> dict[str, int]:
    """Return the bytes of each float32 tensor for a batch of 1; 0 for dynamic sizes."""
    sizes = {}
    for value in (*model.graph.value_info, *model.graph.output):
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
        sizes[value.name] = 4 * int(np.prod([max(d, 0) for d in dims], dtype=np.int64))
    return sizes
