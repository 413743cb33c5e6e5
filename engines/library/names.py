"""The TensorRT classes that this stage and runtime/gpu hold objects of.

TensorRT is imported late and goes by two module names, so to mypy they are all Any. Every variable that holds such an
object is annotated with one of these names: tests/engines/test_api_names.py reads the annotations and checks each
attribute used on it, and each `trt.NAME`, against the public names of every supported version.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Trt: TypeAlias = Any  # the module `tensorrt` or `tensorrt_rtx`
Builder: TypeAlias = Any
BuilderFlag: TypeAlias = Any
EngineInspector: TypeAlias = Any
IBuilderConfig: TypeAlias = Any
ICudaEngine: TypeAlias = Any
IExecutionContext: TypeAlias = Any
IHostMemory: TypeAlias = Any
ILayer: TypeAlias = Any
ILogger: TypeAlias = Any
INetworkDefinition: TypeAlias = Any
IOptimizationProfile: TypeAlias = Any
IRuntimeConfig: TypeAlias = Any
ITensor: TypeAlias = Any
ITimingCache: TypeAlias = Any
OnnxParser: TypeAlias = Any
ParserError: TypeAlias = Any
Runtime: TypeAlias = Any
