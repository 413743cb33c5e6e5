"""Builder flags that stand for the types a graph holds, where networks are not strongly typed (TensorRT up to 10)."""

from __future__ import annotations

from .names import BuilderFlag, Trt


def weak_flags(trt: Trt, precision: str) -> list[BuilderFlag]:
    """The flags that let the builder use what the ONNX variant of a precision holds."""
    if precision == "fp16":
        return [trt.BuilderFlag.FP16]
    if precision == "int8":
        return [trt.BuilderFlag.FP16, trt.BuilderFlag.INT8]
    return []
