"""`leakrt quickstart`: run every stage on rendered pictures, from data to verdicts and a report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ConsoleProgress, coloured, table

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..core.verdict import Verdict
    from ..demo.run import DemoResult

_SHOWN = 3  # verdicts per class in the table


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the results. Finished stages in it are reused.")] = Path(
        "quickstart"
    ),
    *,
    seed: Annotated[int, typer.Option(help="Random seed of the pictures and of training.")] = 0,
    fast: Annotated[
        bool, typer.Option("--fast", help="Use few pictures and steps, only to test that every stage runs.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard the results in OUT and start from scratch.")
    ] = False,
) -> int:
    """Run every stage on rendered pictures and write a report.

    Renders portraits and photographs them with a simulated camera: the class `real`. Small generators, trained here,
    make the other classes; one of them is withheld from training. Then trains a detector, exports it, and classifies
    pictures that training did not see.
    """
    from ..core.errors import require

    for module in ("torch", "diffusers", "sklearn", "matplotlib", "onnx"):
        require(module, "train")
    from ..demo.dataset import SyntheticPlan
    from ..demo.report import write_report
    from ..demo.run import DemoSizes, claim_folder, run_demo

    begin = time.perf_counter()
    sizes = DemoSizes.fast(seed) if fast else DemoSizes(plan=SyntheticPlan(seed=seed))
    with claim_folder(out):
        result = run_demo(out, sizes, restart=restart, stage=_stage)
        print(_verdict_table(result.closed, result.labels, result.unseen))
        print(_text(result))
        report = write_report(out, result)
    print(f"\nreport: {report}  ({time.perf_counter() - begin:.0f} s in total)")
    bundle, vae = (shlex.quote(str(out / name)) for name in ("bundle", "vae"))
    print(f"next:   leakrt check {bundle} YOUR_IMAGE.jpg   |   leakrt train YOUR_DATA --vae sd:{vae} ...")
    return 0


@contextmanager
def _stage(name: str) -> Iterator[Progress]:
    from ..demo.run import STAGES

    begin = time.perf_counter()
    heading = f"[{STAGES.index(name) + 1}/{len(STAGES)}] {name}"
    print(coloured(heading, "bold", stream=sys.stderr), file=sys.stderr)
    with ConsoleProgress() as progress:
        yield progress
    print(f"      {time.perf_counter() - begin:.1f} s", file=sys.stderr)


def _verdict_table(closed: Sequence[Verdict], labels: Sequence[str], unseen: Sequence[Verdict]) -> str:
    rows: list[tuple[str, ...]] = [("made by", "verdict", "label", "P", "reason")]
    truths = list(zip(labels, closed, strict=True)) + [("unseen", v) for v in unseen]
    for name in dict.fromkeys(truth for truth, _ in truths):
        for verdict in [v for truth, v in truths if truth == name][:_SHOWN]:
            why = verdict.reasons[0] if verdict.reasons else ""
            rows.append((name, str(verdict.verdict), verdict.label, f"{verdict.probability:.2f}", why))
    return coloured("verdicts on held-out pictures", "bold") + "\n" + table(rows)


def _text(result: DemoResult) -> str:
    from .evaluation_text import evaluation_text

    rows: list[tuple[str, ...]] = [("stage, ms", "p50", "p90", "p99")]
    rows += [(name, *(f"{value:.2f}" for value in values)) for name, values in result.latency.items()]
    return f"\n{evaluation_text(result.evaluation)}\n\n{coloured('latency', 'bold')}\n{table(rows)}"
