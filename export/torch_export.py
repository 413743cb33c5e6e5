"""PyTorch to ONNX, through the TorchScript exporter: the newer one writes opset 18, which can't be brought to 17."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import torch
from torch import nn

from ..core.errors import require
from ..core.graphs import GraphSpec
from .onnx_graphs import BATCH, OPSET, finish

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
    return finish(onnx.load_model_from_string(buffer.getvalue()), graph)


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]  # noqa: ANN202
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
