"""`leakrt inspect`: verify a bundle or an engine and print its contents."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .bundle_text import Rows, bundle_sections
from .console import coloured, duration, printable, size, table
from .options import Json

if TYPE_CHECKING:
    from ..engines.inspect import EngineReport

_MOST_NODES = 4  # shown of a fused group; --json prints all


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Bundle (a folder or a zip file) or *.engine file.")],
    *,
    json: Json = False,
) -> None:
    """Verify a bundle or an engine and print its contents.

    An engine is loaded only if it is in the engine cache and a GPU of this machine can run it (experimental except for
    TensorRT 8.5.3). Otherwise the contents come from the JSON file next to it.
    """
    from ..engines.inspect import is_engine

    if is_engine(path):
        _engine(path, json)
    else:
        _bundle(path, json)


def _bundle(path: Path, json: bool) -> None:
    import json as json_module

    from ..runtime.bundle_report import inspect_bundle

    report = inspect_bundle(path)
    if json:
        print(json_module.dumps(report.to_json(), ensure_ascii=False))
        return
    _show(f"bundle {report.path}  {report.identity}", bundle_sections(report))


def _engine(path: Path, json: bool) -> None:
    import json as json_module

    from ..engines.cache.cache import default_cache
    from ..engines.inspect import inspect_engine

    report = inspect_engine(path, default_cache())
    if json:
        print(json_module.dumps(report.to_json(), ensure_ascii=False))
        return
    _show(f"engine {report.path}  {report.record.key.digest[:8]}", _engine_sections(report))


def _show(title: str, sections: list[tuple[str, Rows]]) -> None:
    print(coloured(printable(title), "bold"))
    for heading, rows in sections:
        print(f"\n{coloured(heading, 'bold')}\n{table([tuple(map(printable, row)) for row in rows])}")


def _engine_sections(report: EngineReport) -> list[tuple[str, Rows]]:
    record, key = report.record, report.record.key
    built: Rows = [
        ("graph", f"{key.graph}, {key.precision}, batch {', '.join(map(str, key.batches))}"),
        ("for", key.place),
        ("with", f"{key.flavour} {key.version}, flags {', '.join(key.flags)}"),
        ("built", f"{record.created} in {duration(record.seconds)}, by leakrt {record.leakrt}"),
        ("from", f"bundle {record.bundle}, ONNX {key.onnx}"),
        ("file", f"{size(record.size)}, SHA-256 {record.sha256}"),
        *(("tensor", tensor) for tensor in key.tensors),
        *(("memory", f"{size(count)} of {kind}, reported by the builder") for kind, count in record.memory.items()),
    ]
    if report.context_memory:
        built.append(("memory", f"{size(report.context_memory)} per execution context"))
    built += [
        (f"parity of {p.output}", f"error {p.error:.2e} of its spread, limit {p.limit:.2e}") for p in record.parity
    ]
    built += [("refused", why) for why in record.refused]
    if report.closed:
        built.append(("not loaded", report.closed))
    sizes = "one batch size" if len(key.batches) == 1 else f"{len(key.batches)} batch sizes"
    state = f"compiled for {sizes}" if report.layers else "parsed, before fusion"
    count = len(report.layers) or len(record.layers)
    layers: Rows = [(precision, str(n)) for precision, n in report.precisions.items()]
    sections = [("built", built), (f"{count} layers, {state}, by precision", layers)]
    groups = Counter((g.kind or "-", g.precision or "-", g.nodes) for g in report.fused)
    rows: Rows = [
        (f"{count} x", kind, precision, str(len(nodes)), _nodes(nodes))
        for (kind, precision, nodes), count in groups.items()  # each batch size has its own layers, mostly identical
    ]
    heading = f"{len(rows)} fused groups: count, kind, precision, nodes"
    return [*sections, (heading, rows)] if rows else sections


def _nodes(nodes: tuple[str, ...]) -> str:
    shown = " + ".join(nodes[:_MOST_NODES])
    return shown if len(nodes) <= _MOST_NODES else f"{shown} + {len(nodes) - _MOST_NODES} more"
