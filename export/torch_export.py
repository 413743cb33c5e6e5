"""PyTorch to ONNX, through the TorchScript exporter: the newer one writes opset 18, which can't be brought to 17.

It writes every size as a computation on shapes, though all but the batch are known; onnxslim folds those.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..core.errors import ModelError, one_line, require
from ..core.graphs import GraphSpec
from .onnx_graphs import BATCH, OPSET, finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

_BATCH = 2  # of the traced example: with 1 a broadcast could be mistaken for a shape


def export_module(module: nn.Module, graph: GraphSpec) -> bytes:
    """A module that takes `graph.input` and gives `graph.outputs`, as a checked ONNX file. Raises ModelError."""
    onnx = require("onnx", "train")
    buffer = io.BytesIO()
    names = [tensor.name for tensor in graph.outputs]
    example = torch.zeros(_BATCH, *graph.input.shape)
    with _quiet(), torch.inference_mode():
        torch.onnx.export(
            module.eval(),
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=[graph.input.name],
            output_names=names,
            dynamic_axes={name: {0: BATCH} for name in [graph.input.name, *names]},
            do_constant_folding=True,
        )
    return finish(_simplify(onnx.load_model_from_string(buffer.getvalue()), graph.stem), graph)


def _simplify(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Fold what is constant and drop what is unused: 382 nodes of a small AutoencoderKL become 118."""
    onnxslim = require("onnxslim", "train")
    try:
        slimmed: onnx.ModelProto = onnxslim.slim(model)
    except Exception as error:  # onnxslim raises kinds of its own, of onnx and of sympy
        reason = one_line(error)
        raise ModelError(f"{name}: onnxslim can't simplify the exported graph ({reason}); report this") from error
    return slimmed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter announces its age at every call."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
