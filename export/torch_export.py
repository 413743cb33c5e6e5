"""Export of PyTorch modules to ONNX through the TorchScript exporter.

The newer exporter writes opset 18, which can't be converted to 17. The TorchScript exporter writes every size as a
computation on shapes, even known ones; onnxslim folds these.
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

_BATCH = 2  # of the traced example; a batch of 1 would hide broadcasting


def export_module(module: nn.Module, graph: GraphSpec) -> bytes:
    """Export a module that maps `graph.input` to `graph.outputs` to a validated ONNX file. Raises ModelError."""
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
    """Fold constants and remove unused nodes. Raises ModelError."""
    onnxslim = require("onnxslim", "train")
    try:
        slimmed: onnx.ModelProto = onnxslim.slim(model)
    except Exception as error:  # onnxslim raises its own, onnx's and sympy's exceptions
        reason = one_line(error)
        raise ModelError(f"{name}: onnxslim can't simplify the exported graph ({reason}); report this") from error
    return slimmed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's deprecation warning."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
