"""Names of the TensorRT classes, for annotations.

TensorRT is imported at run time under one of two module names, so mypy sees all of its classes as Any. Annotate every
variable of such a class with one of these names: tests/engines/test_api_names.py reads the annotations and checks each
attribute, and each `trt.NAME`, against the public names of every supported version.
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
