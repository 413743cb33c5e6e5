"""`leakrt export`: a finished run to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ConsoleProgress, coloured, printable, size, table

if TYPE_CHECKING:
    from ..core.bundle import Bundle
    from ..export.exporter import Exported


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished training run.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Where the bundle goes; a zip if it ends in .zip.")],
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of real faces that may be called generated or unknown.")
    ] = 0.05,
    exemplars: Annotated[
        bool, typer.Option("--exemplars/--no-exemplars", help="Keep thumbnails of training images for explanations.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Export a finished run to a bundle.

    Both networks become ONNX graphs, are compared with their source on validation images, and are refused when scores
    or verdicts differ. Thresholds are fitted to the stated false-alarm rate on validation images.
    """
    import json as json_module

    from ..core.errors import require

    for module in ("torch", "onnx", "onnxslim", "sklearn"):
        require(module, "train")
    from ..core.bundle import Bundle
    from ..export.exporter import export_run
    from ..train.run import Run

    with ConsoleProgress("images") as progress:
        exported = export_run(Run.open(run), out, false_alarm_rate, exemplars, progress)
    bundle = Bundle(out)  # read back: what was written is what loads
    if json:
        print(json_module.dumps(_to_json(exported, bundle), ensure_ascii=False))
        return
    print(coloured(f"bundle {printable(str(out))}  {bundle.identity}  {size(sum(bundle.file_sizes.values()))}", "bold"))
    print(table(_rows(exported)))


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
    parity, decision, closed = exported.parity, exported.validation.decision, exported.validation.closed
    verdicts = f"{parity.same_verdicts} of {parity.images} verdicts the same"
    alarms = f"{decision.false_alarm_count} of {decision.real_faces} real validation faces"
    return [
        ("parity", f"scores within {parity.relative_score_difference:.2g} relative, {verdicts}"),
        ("false alarms", f"{100 * decision.false_alarm_target:g} % stated, {alarms}"),
        ("coverage", f"{100 * decision.coverage:.1f} % of all, {100 * decision.coverage_real:.1f} % of real faces"),
        ("validation", f"macro AUC {closed.macro_auc:.4f}, balanced accuracy {closed.balanced_accuracy:.4f}"),
    ]
