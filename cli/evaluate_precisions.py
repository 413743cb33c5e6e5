"""`leakrt evaluate BUNDLE DATA --precision all`: compare the precisions of a bundle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.figures import figure
from .console import ConsoleProgress, printable, table
from .evaluation_images import choose, tell_failures, trained_bundle

if TYPE_CHECKING:
    from ..core.bundle import Bundle
    from ..core.verdict import Verdict
    from ..runtime.detector import Detector
    from ..train.comparison import PrecisionResult
    from ..train.evaluation import DecisionMetrics


def evaluate_precisions(
    path: Path, data: Path, split: str, *, open_set: Path | None, backend: str, device: int, json: bool
) -> int:
    """Classify the same images at every usable precision, print a comparison and return the exit code."""
    import json as json_module

    from ..core.bundle import Bundle
    from ..core.files import cache_folder
    from ..core.variants import refusal_notes

    bundle = Bundle(path)
    bundle.require_precision("fp32")
    detectors, refused = _load(bundle, backend, device)
    chosen = choose(
        bundle.spec, trained_bundle(bundle), data, split=split, open_set=open_set, cache=cache_folder() / "latents"
    )
    verdicts = _classify(detectors, chosen.paths)
    tell_failures(verdicts["fp32"])
    results = [
        _result(bundle, d, verdicts, precision=precision, labels=chosen.closed.labels)
        for precision, d in detectors.items()
    ]
    if json:
        measured = {r.precision: r.to_json() for r in results}
        found = {"precisions": measured, "refused": refused, **chosen.examined.to_json()}
        print(json_module.dumps(found, ensure_ascii=False))
    else:
        print(precisions_table(results))
        kept = [note for precision in detectors for note in refusal_notes(bundle.provenance, precision)]
        for why in (*refused.values(), *kept):
            print(printable(why), file=sys.stderr)
    return 1 if any(r.evaluation.failed for r in results) else 0


def _load(bundle: Bundle, backend: str, device: int) -> tuple[dict[str, Detector], dict[str, str]]:
    """Load a Detector for each precision that is usable here; return also why the others are not."""
    from ..core.errors import BackendError, BundleError, EngineError
    from ..runtime.detector import Detector

    detectors, refused = {}, {}
    for precision in bundle.precisions:
        try:
            detectors[precision] = Detector.load(bundle.path, backend=backend, precision=precision, device=device)
        except (BackendError, BundleError, EngineError) as error:
            if precision == "fp32":
                raise
            refused[precision] = str(error)
    return detectors, refused


def _classify(detectors: dict[str, Detector], paths: Sequence[Path]) -> dict[str, list[Verdict]]:
    """Return verdicts by precision.

    Each image runs at every precision before the next image, so that the timings share the same machine load.
    """
    found: dict[str, list[Verdict]] = {precision: [] for precision in detectors}
    streams = [detector.check_stream(paths, batch=1) for detector in detectors.values()]
    with ConsoleProgress("images") as progress:
        for done, row in enumerate(zip(*streams, strict=True), 1):
            for verdicts, verdict in zip(found.values(), row, strict=True):
                verdicts.append(verdict)
            progress("classify", done, len(paths))
    return found


def _result(
    bundle: Bundle, detector: Detector, verdicts: dict[str, list[Verdict]], *, precision: str, labels: Sequence[str]
) -> PrecisionResult:
    from ..train.comparison import PrecisionResult, agreement, latency
    from ..train.evaluation import evaluate

    found, closed = verdicts[precision], len(labels)
    return PrecisionResult(
        precision=precision,
        backend=detector.describe().backend,
        megabytes=bundle.variant_size(precision) / 1e6,
        evaluation=evaluate(
            found[:closed], labels, found[closed:], spec=bundle.spec, decision=bundle.decisions[precision]
        ),
        agreement=agreement(verdicts["fp32"][:closed], found[:closed]),
        latency=latency(found),
        caught=detector.counters.caught,
    )


def precisions_table(results: Sequence[PrecisionResult]) -> str:
    """Format one column per precision."""
    rows: list[tuple[str, ...]] = [("precision", *(r.precision for r in results))]
    rows.append(("backend", *(r.backend for r in results)))
    rows.append(("size", *(f"{r.megabytes:.2f} MB" for r in results)))
    closed = [r.evaluation.closed for r in results]
    rows.append(("macro AUC", *(figure(c.macro_auc) for c in closed)))
    rows.append(
        ("drop from fp32", *(figure(_difference(closed[0].macro_auc, c.macro_auc), form="+.5f") for c in closed))
    )
    rows.append(("balanced accuracy", *(figure(c.balanced_accuracy) for c in closed)))
    decided = [r.evaluation.decision for r in results]
    rows.append(("false alarms", *(f"{d.false_alarm_count} of {d.real_faces}" for d in decided)))
    rows.append(("95 % interval", *map(_interval, decided)))
    rows.append(("coverage", *(f"{d.coverage:.1%}" for d in decided)))
    same = [r.agreement for r in results]
    rows.append(("labels as fp32", *(f"{a.labels:.2%}" for a in same)))
    rows.append(("  confident half", *(f"{a.confident:.2%}" for a in same)))
    rows.append(("verdicts as fp32", *(f"{a.verdicts:.2%}" for a in same)))
    unseen = [r.evaluation.open for r in results]
    if all(unseen):
        rows.append(("open-set AUROC", *(figure(o.auroc) for o in unseen if o)))
    rows.append(("p50", *(f"{r.latency.p50:.2f} ms" for r in results)))
    rows.append(("p99", *(f"{r.latency.p99:.2f} ms" for r in results)))
    rows.append(("caught by finite check", *(str(r.caught) for r in results)))
    return table(rows)


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _interval(found: DecisionMetrics) -> str:
    if found.interval is None:
        return "not measured"
    return f"{found.interval[0]} to {found.interval[1]}{'' if found.inside_interval else ', OUTSIDE'}"
