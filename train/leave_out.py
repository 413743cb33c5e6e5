"""Leave-one-out: a run trained again without one class, and evaluated on that class as an unseen maker."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError, UsageError
from ..core.progress import Progress, silent
from .evaluation import evaluate
from .fit import open_fitted
from .judge_images import judge_images
from .labelled import LabelledImages
from .metrics_log import EpochMetrics
from .run import Run
from .session import LEAVE_OUT_FOLDER, TrainRequest, train

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class LeftOutMaker:
    """How a detector that was trained without one maker judges its images. A metric is None if it lacks images."""

    name: str
    images: int
    auroc: float | None  # of real faces against the maker, by P(generated)
    auroc_density: float | None  # of all known classes against the maker, by log-density
    oscr: float | None
    called_real: float
    called_generated: float
    false_alarm_rate: float | None
    macro_auc: float | None  # of the classes that were trained

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return asdict(self)


def makers_to_leave_out(run: Run, choice: str) -> tuple[str, ...]:
    """Return the class named by --leave-out, or every class but the real one for "all". Raises UsageError."""
    spec = run.spec
    makers = tuple(name for name in spec.class_names if name != spec.real_class)
    if len(makers) < 2:
        raise UsageError(f"{run.path} has only one class of generated images; leaving it out leaves nothing to train")
    if choice == ALL:
        return makers
    if choice not in makers:
        raise UsageError(f"--leave-out {choice}: choose one of {', '.join(makers)}, or all")
    return (choice,)


def leave_out(
    run: Run,
    name: str,
    images: LabelledImages,
    *,
    progress: Progress = silent,
    report: Callable[[EpochMetrics], None] = lambda row: None,
) -> LeftOutMaker:
    """Train the run again without the class `name`, in RUN/leave-out/NAME, and evaluate it on `images`.

    Spec, configuration, VAE, caches and data are those of the run. A finished training is used again, an unfinished one
    resumes. Raises DataError if `images` has none of that class or the data of the run is missing, and the exceptions
    of `train`.
    """
    if name not in images.labels:
        raise DataError(f"no image of class {name} to evaluate on; choose another --split or DATA")
    folders = [Path(part) for part in run.info.data_root.split(os.pathsep)]
    vae = run.info.vae
    request = TrainRequest(
        data=folders[0],
        more=tuple(folders[1:]),
        out=run.path / LEAVE_OUT_FOLDER / name,
        vae=vae.option,
        vae_scale=vae.scale,
        vae_output=vae.named_output,
        cache=Path(run.info.cache),
        config=run.info.config,
        spec=run.spec,
        without=name,
    )
    fitted = open_fitted(train(request, progress=progress, report=report), progress=progress)
    order = [k for k, label in enumerate(images.labels) if label != name]
    unseen = [k for k, label in enumerate(images.labels) if label == name]
    verdicts = judge_images(fitted, [images.paths[k] for k in (*order, *unseen)], progress=progress)
    labels: Sequence[str] = [images.labels[k] for k in order]
    spec, decision = fitted.judge.spec, fitted.judge.decision
    found = evaluate(verdicts[: len(order)], labels, verdicts[len(order) :], spec=spec, decision=decision)
    assert found.open is not None
    return LeftOutMaker(
        name=name,
        images=found.open.images,
        auroc=found.open.auroc_real,
        auroc_density=found.open.auroc_density,
        oscr=found.open.oscr,
        called_real=found.open.called_real,
        called_generated=found.open.called_generated,
        false_alarm_rate=found.decision.false_alarm_rate,
        macro_auc=found.closed.macro_auc,
    )
