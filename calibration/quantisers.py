"""Which quantisers there are: what decides where Q/DQ pairs stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..core.errors import UsageError
from .layers import Layer
from .modelopt import modelopt_quantise, modelopt_tensors, require_modelopt
from .qdq import observed_tensors, quantise

if TYPE_CHECKING:
    import onnx


class Observed(Protocol):
    """The tensors whose ranges are needed when all of the layers, or fewer, are int8."""

    def __call__(self, model: onnx.ModelProto, layers: Collection[Layer], /) -> tuple[str, ...]:
        """In topological order."""


class Quantise(Protocol):
    """The graph with the convolutions named in `quantised` as int8, at opset 17. Raises ModelError."""

    def __call__(
        self, model: bytes, name: str, quantised: Collection[str], ranges: Mapping[str, float], weight_bits: int, /
    ) -> bytes:
        """See `qdq.quantise`."""


@dataclass(frozen=True)
class Quantiser:
    """One of them."""

    observed: Observed
    quantise: Quantise


ONNXRUNTIME, MODELOPT = "onnxruntime", "modelopt"
_ALL = {ONNXRUNTIME: Quantiser(observed_tensors, quantise), MODELOPT: Quantiser(modelopt_tensors, modelopt_quantise)}


def quantiser(name: str) -> Quantiser:
    """The quantiser of that name. Raises UsageError listing the names there are, MissingExtraError."""
    if name not in _ALL:
        raise UsageError(f"no quantizer {name!r}; choose one of: {', '.join(_ALL)}")
    if name == MODELOPT:
        require_modelopt()
    return _ALL[name]
