"""`leakrt inspect`: what is in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import coloured, printable, size, table

if TYPE_CHECKING:
    from ..runtime.bundle_report import BundleReport, GraphReport

_Rows = list[tuple[str, ...]]


def inspect(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle, a folder or a zip.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify a bundle and show what it holds."""
    import json as json_module

    from ..runtime.bundle_report import inspect_bundle

    report = inspect_bundle(bundle)
    if json:
        print(json_module.dumps(report.to_json(), ensure_ascii=False))
        return
    print(coloured(f"bundle {printable(report.path)}  {report.identity}", "bold"))
    for title, rows in _sections(report):
        print(f"\n{coloured(title, 'bold')}\n{table([tuple(map(printable, row)) for row in rows])}")


def _sections(report: BundleReport) -> list[tuple[str, _Rows]]:
    files: _Rows = [(f.name, size(f.bytes), f.sha256) for f in report.files]
    sections = [("model", _flat(report.spec.to_json())), ("files, all with the SHA-256 of the manifest", files)]
    sections += [(f"graph {graph.name}", _graph(graph)) for graph in report.graphs]
    sections += [(f"decision {precision}", _flat(fields)) for precision, fields in report.decisions.items()]
    provenance = _flat(report.provenance)
    return [*sections, ("provenance", provenance)] if provenance else sections


def _graph(graph: GraphReport) -> _Rows:
    counted = [("opset", graph.opset), ("nodes", graph.nodes), ("parameters", graph.parameters)]
    unknown = "not known; install onnx to count it: pip install onnx"
    rows: _Rows = [(name, unknown if n is None else f"{n:,}") for name, n in counted]
    rows += [("input", value) for value in graph.inputs] + [("output", value) for value in graph.outputs]
    return [*rows, ("producer", graph.producer)] if graph.producer else rows


def _flat(data: Mapping[str, Any], prefix: str = "") -> _Rows:
    """Nested objects as rows with dotted names."""
    rows: _Rows = []
    for name, value in data.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _text(value)))
    return rows


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
