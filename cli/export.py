"""`leakrt export`: export a run to a bundle, or add an fp16 variant to a bundle."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ConsoleProgress, coloured, printable, size, table
from .options import Json
from .refused import KEEP_REFUSED, changes_text, failed_text

if TYPE_CHECKING:
    from ..calibration.fp16.variant import HalfAttempt, HalfResult
    from ..core.bundle import Bundle
    from ..export.exporter import Exported


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="Finished run; with --precision fp16, a bundle.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE", help="Bundle to write: a zip file if the name ends in .zip, otherwise a folder."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32 exports a run; fp16 adds an fp16 variant to a bundle.")] = "fp32",
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="For fp16: labelled images of the run, for the acceptance test.")
    ] = None,
    false_alarm_rate: Annotated[
        float, typer.Option(help="Target share of real faces classified as generated or unknown.")
    ] = 0.05,
    exemplars: Annotated[
        bool, typer.Option("--exemplars/--no-exemplars", help="Store thumbnails of training images for explanations.")
    ] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing fp16 variant.")] = False,
    keep_refused: Annotated[bool, typer.Option("--keep-refused", help=f"For fp16: {KEEP_REFUSED}")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads for fp16; 0: one per physical core.")] = 0,
    json: Json = False,
) -> int:
    """Export a run to a bundle, or add an fp16 variant to a bundle.

    Exporting a run converts both networks to ONNX and compares them with their source on validation images. It fails if
    scores or verdicts differ. Thresholds are fitted to the target false-alarm rate on validation images.

    With --precision fp16, both graphs of a bundle are converted to fp16, except the nodes that change the scores most.
    If the variant fails its acceptance test, the bundle is not changed and the exit code is 1. With --keep-refused it
    is written all the same, marked as refused.
    """
    from ..core.errors import UsageError

    if precision == "fp32":
        if out is None:
            raise UsageError("exporting a run needs a path for the bundle; give --out BUNDLE")
        return _export_run(source, out, false_alarm_rate, exemplars=exemplars, json=json)
    if precision == "fp16":
        if (source / "run.json").is_file():
            raise UsageError(
                f"--precision fp16 takes a bundle, and {source} is a run; export it first, then add fp16 to its bundle"
            )
        if out is not None:
            raise UsageError(
                "--precision fp16 changes the bundle in place; omit --out, and copy the bundle first to keep it"
            )
        if data is None:
            raise UsageError(
                "--precision fp16 needs the labelled images of the run for its acceptance test; give --data DATA"
            )
        return _add_fp16(source, data, replace, keep_refused=keep_refused, threads=threads, json=json)
    advice = "use leakrt calibrate" if precision == "int8" else "choose fp32 or fp16"
    raise UsageError(f"--precision {precision} cannot be exported; {advice}")


def _export_run(run: Path, out: Path, false_alarm_rate: float, *, exemplars: bool, json: bool) -> int:
    import json as json_module

    from ..core.errors import require

    for module in ("torch", "onnx", "onnxslim", "sklearn"):
        require(module, "train")
    from ..core.bundle import Bundle
    from ..export.exporter import export_run
    from ..train.run import Run

    with ConsoleProgress("images") as progress:
        exported = export_run(Run.open(run), out, rate=false_alarm_rate, exemplars=exemplars, progress=progress)
    bundle = Bundle(out)  # opened again, which verifies what was written
    if json:
        print(json_module.dumps(_to_json(exported, bundle), ensure_ascii=False))
        return 0
    print(coloured(f"bundle {printable(str(out))}  {bundle.identity}  {size(sum(bundle.file_sizes.values()))}", "bold"))
    print(table(_rows(exported)))
    return 0


def _add_fp16(bundle: Path, data: Path, replace: bool, *, keep_refused: bool, threads: int, json: bool) -> int:
    import json as json_module

    from ..core.errors import require

    for module in ("torch", "onnx", "sklearn", "packaging"):
        require(module, "train")
    from ..calibration.acceptance.measuring import installed
    from ..calibration.fp16.variant import HalfOptions, add_fp16
    from ..core.bundle import Bundle
    from ..runtime.loaded import weights_of
    from ..runtime.threads import resolve_threads

    threads = resolve_threads(threads)
    options = HalfOptions(threads=threads, replace=replace, keep_refused=keep_refused)
    backends = installed(threads, weights=weights_of(Bundle(bundle)))
    with ConsoleProgress("images") as progress:
        result = add_fp16(bundle, data, options, backends=backends, progress=progress)
    if json:
        from ..train.data import left_out_of

        print(json_module.dumps({**_half_json(result), "left_out": left_out_of(data)}))
    else:
        print(_half_text(result))
    if result.written is None or result.refused:
        outcome = failed_text("fp16", kept=result.refused, asked=keep_refused)
        print(f"leakrt: every fp16 variant failed its acceptance test; {outcome}", file=sys.stderr)
    return 0 if result.written else 1


def _half_json(result: HalfResult) -> dict[str, object]:
    return {
        "written": None if result.written is None else str(result.written),
        "refused": result.refused,
        "search": [
            {
                "island": s.region,
                "score_error": s.error.relative if math.isfinite(s.error.relative) else None,  # JSON has no infinity
                "expected_disagreement": s.error.disagreement,
            }
            for s in result.steps
        ],
        "attempts": [
            {
                "half_share": a.step.half_share,
                "islands": sorted(f"{graph}: {node}" for graph, node in a.step.islands),
                "gate": {name: c.to_json() for name, c in a.comparisons.items()},
                "speedup": {name: times.to_json() for name, times in a.speedups.items()},
                "failures": list(a.failures),
            }
            for a in result.attempts
        ],
    }


def _half_text(result: HalfResult) -> str:
    rows = [("float32 island", "score error", "expected label changes", "float16 share of the VAE")]
    rows += [
        (
            printable(s.region) or "none, or only overflowing nodes",
            f"{s.error.relative:.2e}",
            f"{s.error.disagreement:.3%}",
            f"{s.half_share['vae_encoder']:.1%}",
        )
        for s in result.steps
    ]
    return "\n".join([table(rows), *map(_half_attempt, result.attempts)])


def _half_attempt(attempt: HalfAttempt) -> str:
    verdict = coloured("passed", "green") if not attempt.failures else coloured("failed", "red")
    lines = [f"{len(attempt.step.islands)} nodes in float32: {verdict}"]
    lines += [
        f"  {name}: macro AUC {c.macro_auc:.4f} (drop {c.macro_auc_drop:+.5f}), labels agree {c.agreement:.2%}, "
        f"{changes_text(c)}, {c.false_alarms} false alarms on {c.real_faces} real faces"
        for name, c in attempt.comparisons.items()
    ]
    for name, times in attempt.speedups.items():
        slow = "" if not times.may_be_slower else "; `auto` skips it on this backend, --precision fp16 selects it"
        lines.append(f"  {name}: {times}{slow}")
    return "\n".join([*lines, *(f"  {why}" for why in attempt.failures)])


def _to_json(exported: Exported, bundle: Bundle) -> dict[str, object]:
    return {
        "bundle": str(exported.path),
        "identity": bundle.identity,
        "files": bundle.file_sizes,
        "parity": exported.parity.to_json(),
        "decision": bundle.decisions["fp32"].to_json(),
        "validation": exported.validation.to_json(),
    }


def _rows(exported: Exported) -> list[tuple[str, ...]]:
    from ..core.figures import figure, percent

    parity, decision, closed = exported.parity, exported.validation.decision, exported.validation.closed
    verdicts = f"{parity.same_verdicts} of {parity.images} verdicts equal"
    alarms = f"{decision.false_alarm_count} on {decision.real_faces} real validation faces"
    return [
        ("parity", f"scores within {parity.relative_score_difference:.2g} relative, {verdicts}"),
        ("false alarms", f"target {100 * decision.false_alarm_target:g} %, {alarms}"),
        ("coverage", f"{percent(decision.coverage)} of all, {percent(decision.coverage_real)} of real faces"),
        ("validation", f"macro AUC {figure(closed.macro_auc)}, balanced accuracy {figure(closed.balanced_accuracy)}"),
    ]
