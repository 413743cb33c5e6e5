"""The tables that `leakrt inspect` prints for a bundle. They omit long fields, which `--json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .console import size

if TYPE_CHECKING:
    from ..core.acceptance import Comparison
    from ..runtime.bundle_report import AcceptanceReport, BundleReport, GraphReport

Rows = list[tuple[str, ...]]
# Fields of a manifest that other tables show, or that are too long for a screen.
_VARIANT_LONG = ("gate", "refused", "sensitivity", "islands", "search", "images_fingerprint")
_METRICS_LONG = ("class_names", "confusion", "per_class_auc", "verdicts")


def bundle_sections(report: BundleReport) -> list[tuple[str, Rows]]:
    """Return headings, each with the rows of its table."""
    files: Rows = [(f.name, size(f.bytes), f.sha256) for f in report.files]
    found: list[tuple[str, Rows]] = [
        ("model", _flat(report.spec.to_json())),
        ("files, with verified SHA-256", files),
        ("graphs", _graphs(report.graphs)),
        ("tensors, identical at every precision", _tensors(report.graphs)),
    ]
    if report.gates:
        found.append(("acceptance tests, on validation images", _gates(report.gates)))
    if kept := _refused(report):
        found.append(("refused variants that were kept, and why", kept))
    found.append(("decision", _decisions(report.decisions)))
    provenance = _provenance(report.provenance)
    return [*found, ("provenance (--json prints all of it)", provenance)] if provenance else found


def _graphs(graphs: Sequence[GraphReport]) -> Rows:
    rows: Rows = [("", "opset", "nodes", "parameters", "producer")]
    for graph in graphs:
        counts = (graph.opset, graph.nodes, graph.parameters)
        rows.append((graph.name, *("?" if n is None else f"{n:,}" for n in counts), graph.producer))
    if any(graph.opset is None for graph in graphs):
        rows.append(("?", "not counted; run: pip install onnx", "", "", ""))
    return rows


def _tensors(graphs: Sequence[GraphReport]) -> Rows:
    first = {graph.name.partition(".")[0]: graph for graph in reversed(graphs)}
    return [
        (stem, ", ".join(graph.inputs), f"-> {', '.join(graph.outputs)}") for stem, graph in reversed(first.items())
    ]


def _gates(gates: Sequence[AcceptanceReport]) -> Rows:
    columns = ("macro AUC", "labels", "confident half", "verdicts", "crossings", "false alarms")
    rows: Rows = [("", "result", "speed over fp32", *columns, "")]
    for gate in gates:
        times, passed = gate.speedup, "passed" if gate.passed else "failed"
        fast = f"{times.median:.2f} x ({times.low:.2f} to {times.high:.2f})"
        rows.append((f"{gate.precision} on {gate.backend}", passed, fast, *_figures(gate.figures), _use(gate)))
    return rows


def _refused(report: BundleReport) -> Rows:
    from ..core.variants import refusal

    return [(precision, why) for precision in report.decisions for why in refusal(report.provenance, precision)]


def _figures(found: Comparison | None) -> tuple[str, ...]:
    if found is None:
        return ("",) * 6
    agreements = f"{found.agreement:.1%}", f"{found.agreement_confident:.1%}", f"{found.verdict_agreement:.1%}"
    crossings = "?" if found.changes is None else str(found.changes.crossings)
    return f"{-found.macro_auc_drop:+.4f}", *agreements, crossings, f"{found.false_alarms} of {found.real_faces}"


def _use(gate: AcceptanceReport) -> str:
    if gate.refused:
        return f"refused: only --precision {gate.precision} selects it"
    if not gate.passed:
        return "not used on this backend"
    return "" if gate.auto else "may be slower than fp32: auto skips it, --precision selects it"


def _decisions(decisions: Mapping[str, Mapping[str, Any]]) -> Rows:
    """One column per precision."""
    columns = {precision: {row[0]: row[1] for row in _flat(fields)} for precision, fields in decisions.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return [("", *columns), *((name, *(column.get(name, "") for column in columns.values())) for name in names)]


def _provenance(recorded: Mapping[str, Any]) -> Rows:
    rest = dict(recorded)
    variants, counts, metrics = (rest.pop(name, None) for name in ("variants", "data_counts", "metrics"))
    rows: Rows = []
    if isinstance(counts, Mapping):
        rows.append(("images", ", ".join(f"{split} {_total(by_class)}" for split, by_class in counts.items())))
    if isinstance(metrics, Mapping):
        kept = {k: v for k, v in metrics.items() if v is not None and k not in _METRICS_LONG}
        rows += _flat(kept, prefix="metrics.")
    rows += _flat(rest)
    for precision, variant in variants.items() if isinstance(variants, Mapping) else ():
        if isinstance(variant, Mapping):
            rows += _flat({k: v for k, v in variant.items() if k not in _VARIANT_LONG}, prefix=f"{precision}.")
    return rows


def _total(by_class: object) -> str:
    counts = by_class.values() if isinstance(by_class, Mapping) else ()
    return f"{sum(n for n in counts if isinstance(n, int)):,} of {len(counts)} classes"


def _flat(data: Mapping[str, Any], *, prefix: str = "") -> Rows:
    """Flatten nested objects into rows with dotted names."""
    rows: Rows = []
    for name, value in data.items():
        if isinstance(value, Mapping):
            rows += _flat(value, prefix=f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _text(value)))
    return rows


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
