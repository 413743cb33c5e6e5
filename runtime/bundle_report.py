"""The contents of a bundle, for `leakrt inspect`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..core.acceptance import Comparison, Speedup
from ..core.bundle import Bundle
from ..core.errors import ModelError
from ..core.spec import ModelSpec
from ..core.variants import accepted_backends, comparison, measured_backends, refusal, speedup, worth_taking


@dataclass(frozen=True)
class FileReport:
    """One file of the bundle."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class AcceptanceReport:
    """The result of a precision's acceptance test on a backend."""

    precision: str
    backend: str
    passed: bool
    speedup: Speedup  # over fp32 on that backend, measured when the variant was created
    auto: bool  # whether `auto` may choose it there
    figures: Comparison | None  # compared with fp32 on validation images; None if the manifest omits it
    refused: bool = False  # whether the variant failed when it was created, and was kept: only its name selects it


@dataclass(frozen=True, kw_only=True)
class GraphReport:
    """One ONNX graph. `opset`, `nodes` and `parameters` are None if the onnx package is not installed."""

    name: str
    producer: str
    inputs: tuple[str, ...]  # "NAME [dimensions]"
    outputs: tuple[str, ...]
    opset: int | None
    nodes: int | None
    parameters: int | None


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """The contents of a verified bundle."""

    path: str
    identity: str
    spec: ModelSpec
    files: tuple[FileReport, ...]
    graphs: tuple[GraphReport, ...]
    decisions: Mapping[str, Mapping[str, Any]]  # precision to the fields of its Decision
    gates: tuple[AcceptanceReport, ...]
    provenance: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "spec": self.spec.to_json()}


def inspect_bundle(path: str | Path) -> BundleReport:
    """Open and verify a bundle and read its graphs. Raises BundleError, ModelError."""
    bundle = Bundle(path)
    return BundleReport(
        path=str(path),
        identity=bundle.identity,
        spec=bundle.spec,
        files=tuple(FileReport(name, size, bundle.hashes[name]) for name, size in bundle.file_sizes.items()),
        graphs=tuple(_graphs(bundle)),
        decisions={precision: decision.to_json() for precision, decision in bundle.decisions.items()},
        gates=tuple(_gates(bundle)),
        provenance=bundle.provenance,
    )


def _gates(bundle: Bundle) -> Iterator[AcceptanceReport]:
    provenance = bundle.provenance
    for precision in bundle.precisions:
        passed = accepted_backends(provenance, precision)
        for backend in measured_backends(provenance, precision):
            times, auto = speedup(provenance, precision, backend), worth_taking(provenance, precision, backend)
            figures = comparison(provenance, precision, backend)
            yield AcceptanceReport(
                precision=precision,
                backend=backend,
                passed=backend in passed,
                speedup=times,
                auto=auto,
                figures=figures,
                refused=bool(refusal(provenance, precision)),
            )


def _graphs(bundle: Bundle) -> Iterator[GraphReport]:
    read = _with_onnx if importlib.util.find_spec("onnx") else _with_onnxruntime
    for name in bundle.file_sizes:
        if name.endswith(".onnx"):
            yield read(name, bundle.read(name))


def _with_onnx(name: str, model: bytes) -> GraphReport:
    import onnx

    try:
        proto = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's errors share no base with onnx's
        raise ModelError(f"{name} is not an ONNX graph ({' '.join(str(error).split())[:200]})") from error
    weights = {tensor.name: prod(tensor.dims) for tensor in proto.graph.initializer}
    return GraphReport(
        name=name,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=tuple(_tensor(value) for value in proto.graph.input if value.name not in weights),
        outputs=tuple(map(_tensor, proto.graph.output)),
        opset=next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None),
        nodes=len(proto.graph.node),
        parameters=sum(weights.values()),
    )


def _tensor(value: Any) -> str:
    dimensions = (str(d.dim_param or d.dim_value) for d in value.type.tensor_type.shape.dim)
    return f"{value.name} [{', '.join(dimensions)}]"


def _with_onnxruntime(name: str, model: bytes) -> GraphReport:
    from .backends.onnxruntime import session

    loaded = session(name, model, 1)
    inputs, outputs = (tuple(map(_declared, nodes)) for nodes in (loaded.get_inputs(), loaded.get_outputs()))
    return GraphReport(
        name=name,
        producer=loaded.get_modelmeta().producer_name,
        inputs=inputs,
        outputs=outputs,
        opset=None,
        nodes=None,
        parameters=None,
    )


def _declared(node: Any) -> str:
    return f"{node.name} [{', '.join(map(str, node.shape))}]"
