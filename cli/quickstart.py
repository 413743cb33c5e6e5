"""`leakrt quickstart`: the whole way, from no data at all to verdicts and a report."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .console import ConsoleProgress, coloured, table

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..core.verdict import Verdict
    from ..runtime.detector import Detector
    from ..train.synthetic import SyntheticPlan
    from .quickstart_report import QuickstartResult

_T = TypeVar("_T")
_STAGES = 6
_SHOWN = 3  # verdicts of each class in the table
_VAE_STEPS = 800
_PICTURES, _VAE = "pictures.json", "vae.json"  # say which settings made what stands beside them


def quickstart(
    out: Annotated[Path, typer.Option(help="Where everything is kept; what is whole there is used again.")] = Path(
        "quickstart"
    ),
    seed: Annotated[int, typer.Option(help="Of the pictures and of all training.")] = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Few pictures and steps: to see that everything runs.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Make everything anew, whatever stands at OUT.")] = False,
) -> int:
    """Make pictures, train on them, export, check, write a report.

    Everything is real but the pictures: rendered portraits, a simulated camera as the real class, and small trained
    generators, one of which training never sees. What is checked was held out of training.
    """
    from ..core.errors import require

    for module in ("torch", "diffusers", "sklearn", "matplotlib", "onnx"):
        require(module, "train")
    from .quickstart_report import write_report

    begin = time.perf_counter()
    with _alone_in(out):
        result = _run(out, seed, fast, restart)
        print(_verdict_table(result.closed, result.labels, result.unseen))
        print(_text(result))
        report = write_report(out, result)
    print(f"\nreport: {report}  ({time.perf_counter() - begin:.0f} s in all)")
    bundle, vae = (shlex.quote(str(out / name)) for name in ("bundle", "vae"))
    print(f"next:   leakrt check {bundle} YOUR_IMAGE.jpg   |   leakrt train YOUR_DATA --vae sd:{vae} ...")
    return 0


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """OUT, made where it is missing, with no other quickstart in it and nothing that a killed one left half-written."""
    from ..core.errors import StorageError
    from ..core.files import make_folder, recover
    from ..core.locks import alone

    make_folder(out)
    with alone(
        out / ".lock", StorageError(f"another quickstart is at work in {out}; wait for it, or choose another --out")
    ):
        for name in (_PICTURES, _VAE, "vae", "report.html"):
            recover(out / name)
        yield


def _run(out: Path, seed: int, fast: bool, restart: bool) -> QuickstartResult:
    from ..core.spec import ModelSpec
    from ..export.exporter import export_run
    from ..runtime.detector import Detector
    from ..runtime.threads import resolve_threads
    from ..train.config import TrainConfig
    from ..train.evaluation import evaluate
    from ..train.labelled import labelled_images, open_images
    from ..train.session import TrainRequest, train
    from ..train.synthetic import REAL, SyntheticPlan
    from .quickstart_report import QuickstartResult

    plan = SyntheticPlan(seed=seed)
    epochs, vae_steps = 14, _VAE_STEPS
    if fast:
        plan, epochs, vae_steps = SyntheticPlan(64, 24, 24, 8, 20, seed), 2, 10
    data, vae = out / "data", out / "vae"
    if restart:
        _forget(out)
    made = _stage(1, "make pictures", lambda p: _make_data(out, plan, p))
    made |= _stage(2, "train a small VAE", lambda p: _make_vae(data, vae, vae_steps, seed, p))
    config = TrainConfig(epochs=epochs, seed=seed, threads=resolve_threads(0), widths=(32, 64, 128))
    spec = ModelSpec((REAL, "not real"), REAL, image_size=plan.size, embedding_dim=64, prototypes_per_class=4)
    request = TrainRequest(data, out / "run", f"sd:{vae}", out / "latents", config, spec, restart=made)
    run = _stage(3, "train the detector", lambda p: train(request, p))
    exported = _stage(4, "export and bundle", lambda p: export_run(run, out / "bundle", progress=p))
    test, unseen = labelled_images(data, "test"), open_images(out / "open").paths
    detector = Detector.load(out / "bundle")
    verdicts = _stage(5, "check held-out pictures", lambda p: _check(detector, [*test.paths, *unseen], p))
    closed, opened = verdicts[: len(test.paths)], verdicts[len(test.paths) :]
    figures = evaluate(closed, test.labels, opened, detector.spec, exported.judge.decision)
    latency = _stage(6, "measure latency", lambda p: _latency(detector, test.paths[0], p))
    return QuickstartResult(figures, tuple(closed), test.labels, tuple(opened), latency, detector)


def _stage(number: int, name: str, work: Callable[[Progress], _T]) -> _T:
    begin = time.perf_counter()
    print(coloured(f"[{number}/{_STAGES}] {name}", "bold", sys.stderr), file=sys.stderr)
    with ConsoleProgress() as progress:
        result = work(progress)
    print(f"      {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return result


def _forget(out: Path) -> None:
    """Trust nothing that stands there: without their stamps pictures and VAE are made again, and what rests on them."""
    for stamp in (_PICTURES, _VAE):
        (out / stamp).unlink(missing_ok=True)


def _make_data(out: Path, plan: SyntheticPlan, progress: Progress) -> bool:
    """Make the pictures, or keep those of the same plan; whether they were made."""
    from ..core.files import atomic_write
    from ..train.synthetic import make_data_set

    stamp, wanted = out / _PICTURES, json.dumps(asdict(plan)).encode()
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return False
    stamp.unlink(missing_ok=True)  # killed half-way, what lies there is no whole set of either plan
    make_data_set(out, plan, progress)
    atomic_write(stamp, wanted)
    return True


def _make_vae(data: Path, vae: Path, steps: int, seed: int, progress: Progress) -> bool:
    """Train the VAE on the training pictures, or keep the one of the same settings; whether it was trained."""
    from ..core.files import atomic_write
    from ..core.images import find_images
    from ..train.vae_training import train_vae

    images = find_images(data / "train")
    stamp, wanted = vae.parent / _VAE, json.dumps([len(images), steps, seed]).encode()
    if stamp.is_file() and stamp.read_bytes() == wanted and vae.is_dir():
        return False
    train_vae(images, vae, steps, seed, progress)
    atomic_write(stamp, wanted)
    return True


def _check(detector: Detector, paths: Sequence[Path], progress: Progress) -> list[Verdict]:
    verdicts = []
    for verdict in detector.check_stream(paths):
        verdicts.append(verdict)
        progress("check", len(verdicts), len(paths))
    return verdicts


def _latency(detector: Detector, path: Path, progress: Progress) -> dict[str, tuple[float, float, float]]:
    """p50, p90 and p99 of each stage in milliseconds, one image at a time."""
    import numpy as np

    rounds, rows = 100, []
    for done in range(rounds + 5):
        begin = time.perf_counter()
        stages = dict(detector.check(path).latency_ms)
        stages["end to end"] = 1e3 * (time.perf_counter() - begin)
        rows.append(stages)
        progress("latency", done + 1, rounds + 5)
    names = list(rows[-1])
    quantiles = {n: np.percentile([r[n] for r in rows[5:]], (50, 90, 99)) for n in names}
    return {name: (float(q[0]), float(q[1]), float(q[2])) for name, q in quantiles.items()}


def _verdict_table(closed: Sequence[Verdict], labels: Sequence[str], unseen: Sequence[Verdict]) -> str:
    rows: list[tuple[str, ...]] = [("made by", "verdict", "label", "P", "why")]
    truths = list(zip(labels, closed, strict=True)) + [("unseen", v) for v in unseen]
    for name in dict.fromkeys(truth for truth, _ in truths):
        for verdict in [v for truth, v in truths if truth == name][:_SHOWN]:
            why = verdict.reasons[0] if verdict.reasons else ""
            rows.append((name, str(verdict.verdict), verdict.label, f"{verdict.probability:.2f}", why))
    return coloured("verdicts on held-out pictures", "bold") + "\n" + table(rows)


def _text(result: QuickstartResult) -> str:
    from .evaluation_text import evaluation_text

    rows: list[tuple[str, ...]] = [("stage, ms", "p50", "p90", "p99")]
    rows += [(name, *(f"{value:.2f}" for value in values)) for name, values in result.latency.items()]
    return f"\n{evaluation_text(result.figures)}\n\n{coloured('latency', 'bold')}\n{table(rows)}"
