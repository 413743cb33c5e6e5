"""The stages of the quickstart: make data, train, export, classify and measure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..core.errors import StorageError
from ..core.files import atomic_write, make_folder, recover
from ..core.images import find_images
from ..core.locks import alone
from ..core.progress import Progress
from ..core.spec import ModelSpec
from ..core.verdict import Verdict
from ..export.exporter import export_run
from ..runtime.detector import Detector
from ..runtime.threads import resolve_threads
from ..train.config import TrainConfig
from ..train.evaluation import Evaluation, evaluate
from ..train.labelled import labelled_images, open_images
from ..train.session import TrainRequest, train
from .dataset import REAL, SyntheticPlan, make_data_set
from .vae_training import train_vae

STAGES = (
    "make pictures",
    "train a small VAE",
    "train the detector",
    "export and bundle",
    "check held-out pictures",
    "measure latency",
)
_PICTURES, _VAE = "pictures.json", "vae.json"  # settings that the files next to them were made with
_ROUNDS, _WARM_UP = 100, 5

Stage = Callable[[str], AbstractContextManager[Progress]]  # starts one of STAGES


@dataclass(frozen=True, kw_only=True)
class DemoSizes:
    """The size of the data set and of the training."""

    plan: SyntheticPlan
    epochs: int = 14
    vae_steps: int = 800

    @classmethod
    def fast(cls, seed: int) -> DemoSizes:
        """Return the smallest sizes that run every stage."""
        plan = SyntheticPlan(size=64, train=24, val=24, test=8, generator_steps=20, seed=seed)
        return cls(plan=plan, epochs=2, vae_steps=10)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The verdicts, figures and latency of the quickstart."""

    evaluation: Evaluation
    closed: tuple[Verdict, ...]
    labels: tuple[str, ...]
    unseen: tuple[Verdict, ...]
    latency: Mapping[str, tuple[float, float, float]]  # stage to p50, p90, p99 in milliseconds
    detector: Detector


@contextmanager
def claim_folder(out: Path) -> Iterator[None]:
    """Create `out` if missing, lock it, and clean up after an interrupted run.

    Raises StorageError if another process uses the folder.
    """
    make_folder(out)
    with alone(
        out / ".lock", StorageError(f"another quickstart is running in {out}; wait for it, or choose another --out")
    ):
        for name in (_PICTURES, _VAE, "vae", "report.html"):
            recover(out / name)
        yield


def run_demo(out: Path, sizes: DemoSizes, *, restart: bool, stage: Stage) -> DemoResult:
    """Run all stages in `out`. Finished stages are reused, unless `restart`.

    Raises the errors of the stages, including StorageError.
    """
    plan, data, vae = sizes.plan, out / "data", out / "vae"
    if restart:  # without their stamps, pictures and VAE are made again, and everything that depends on them
        for name in (_PICTURES, _VAE):
            (out / name).unlink(missing_ok=True)
    with stage(STAGES[0]) as progress:
        made = _make_data(out, plan, progress)
    with stage(STAGES[1]) as progress:
        made |= _make_vae(data, vae, sizes, progress=progress)
    config = TrainConfig(epochs=sizes.epochs, seed=plan.seed, threads=resolve_threads(0), widths=(32, 64, 128))
    spec = ModelSpec(
        class_names=(REAL, "not real"), real_class=REAL, image_size=plan.size, embedding_dim=64, prototypes_per_class=4
    )
    request = TrainRequest(
        data=data, out=out / "run", vae=f"sd:{vae}", cache=out / "latents", config=config, spec=spec, restart=made
    )
    with stage(STAGES[2]) as progress:
        run = train(request, progress=progress)
    with stage(STAGES[3]) as progress:
        exported = export_run(run, out / "bundle", progress=progress)
    test, unseen = labelled_images(data, "test"), open_images(out / "open").paths
    detector = Detector.load(out / "bundle")
    with stage(STAGES[4]) as progress:
        verdicts = _check(detector, [*test.paths, *unseen], progress)
    closed, opened = verdicts[: len(test.paths)], verdicts[len(test.paths) :]
    with stage(STAGES[5]) as progress:
        latency = _latency(detector, test.paths[0], progress)
    return DemoResult(
        evaluation=evaluate(closed, test.labels, opened, spec=detector.spec, decision=exported.judge.decision),
        closed=tuple(closed),
        labels=test.labels,
        unseen=tuple(opened),
        latency=latency,
        detector=detector,
    )


def _make_data(out: Path, plan: SyntheticPlan, progress: Progress) -> bool:
    """Make the pictures unless those of the same plan exist. Returns whether they were made."""
    stamp, wanted = out / _PICTURES, json.dumps(asdict(plan)).encode()
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return False
    stamp.unlink(missing_ok=True)  # after an interruption the pictures may come from two plans
    make_data_set(out, plan, progress=progress)
    atomic_write(stamp, wanted)
    return True


def _make_vae(data: Path, vae: Path, sizes: DemoSizes, *, progress: Progress) -> bool:
    """Train the VAE unless one with the same settings exists. Returns whether it was trained."""
    images = find_images(data / "train")
    stamp, wanted = vae.parent / _VAE, json.dumps([len(images), sizes.vae_steps, sizes.plan.seed]).encode()
    if stamp.is_file() and stamp.read_bytes() == wanted and vae.is_dir():
        return False
    train_vae(images, vae, sizes.vae_steps, seed=sizes.plan.seed, progress=progress)
    atomic_write(stamp, wanted)
    return True


def _check(detector: Detector, paths: Sequence[Path], progress: Progress) -> list[Verdict]:
    verdicts = []
    for verdict in detector.check_stream(paths):
        verdicts.append(verdict)
        progress("check", len(verdicts), len(paths))
    return verdicts


def _latency(detector: Detector, path: Path, progress: Progress) -> dict[str, tuple[float, float, float]]:
    """Return p50, p90 and p99 of each stage in milliseconds, one image at a time."""
    rows = []
    for done in range(_WARM_UP + _ROUNDS):
        begin = time.perf_counter()
        stages = dict(detector.check(path).latency_ms)
        stages["end to end"] = 1e3 * (time.perf_counter() - begin)
        rows.append(stages)
        progress("latency", done + 1, _WARM_UP + _ROUNDS)
    names = list(rows[-1])
    quantiles = {n: np.percentile([r[n] for r in rows[_WARM_UP:]], (50, 90, 99)) for n in names}
    return {name: (float(q[0]), float(q[1]), float(q[2])) for name, q in quantiles.items()}
