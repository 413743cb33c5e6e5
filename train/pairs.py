"""Agreement between the verdicts on crops and on the files that they were cut from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from ..core.binomial import clopper_pearson
from ..core.errors import DataError
from ..core.images import find_images
from ..core.spec import ModelSpec
from ..core.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Side:
    """The figures of one side: the crops, or the files."""

    false_alarms: int
    real_faces: int
    false_alarm_interval: tuple[float, float] | None  # 95 %, Clopper-Pearson
    abstained: float  # share of all pairs
    auroc: Mapping[str, float | None]  # of real faces against each class, by P(generated)


@dataclass(frozen=True, kw_only=True)
class PairFigures:
    """How verdicts on files agree with those on their crops."""

    pairs: int  # both sides were classified
    without_partner: int  # crops that have no file of their name
    without_face: int  # files in which no face was found; not among the pairs
    failed: int  # pairs of which one side could not be read; not among the pairs
    same_verdict: float
    same_verdict_interval: tuple[float, float]  # 95 %, Clopper-Pearson
    same_label: float
    crops: Side
    files: Side

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return asdict(self)


def partners(paths: Sequence[Path], labels: Sequence[str], folder: Path) -> list[Path | None]:
    """Return for each crop the image in FOLDER/CLASS whose name differs at most in its suffix; None if there is none.

    Raises DataError if no crop has one, or two images of a class have one name.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in find_images(folder):
        key = (path.parent.name, path.stem)
        if key in found:
            raise DataError(f"{found[key]} and {path} have the same name; rename or remove one of them")
        found[key] = path
    chosen = [found.get((label, path.stem)) for path, label in zip(paths, labels, strict=True)]
    if not any(chosen):
        raise DataError(f"{folder} has no image CLASS/NAME with the class and name of an evaluated one")
    return chosen


def compare_pairs(
    crops: Sequence[Verdict], files: Sequence[Verdict | None], labels: Sequence[str], *, spec: ModelSpec
) -> PairFigures:
    """Compare verdicts on crops with those on their files; None stands for a crop without a file.

    Raises DataError if no pair was classified on both sides.
    """
    present = [(c, f, label) for c, f, label in zip(crops, files, labels, strict=True) if f is not None]
    read = [(c, f, label) for c, f, label in present if c.error is None and f.error is None]
    pairs = [(c, f, label) for c, f, label in read if c.scores and f.scores]
    if not pairs:
        raise DataError(f"no pair was classified: of {len(present)} files, {len(read) - len(pairs)} show no face")
    same = sum(c.verdict == f.verdict for c, f, _ in pairs)
    classes = [label for _, _, label in pairs]
    return PairFigures(
        pairs=len(pairs),
        without_partner=sum(f is None for f in files),
        without_face=len(read) - len(pairs),
        failed=len(present) - len(read),
        same_verdict=same / len(pairs),
        same_verdict_interval=clopper_pearson(same, len(pairs)),
        same_label=sum(_likeliest(c) == _likeliest(f) for c, f, _ in pairs) / len(pairs),
        crops=_side([c for c, _, _ in pairs], classes, spec),
        files=_side([f for _, f, _ in pairs], classes, spec),
    )


def _likeliest(verdict: Verdict) -> str:
    return max(verdict.scores, key=lambda name: verdict.scores[name])


def _side(verdicts: Sequence[Verdict], labels: Sequence[str], spec: ModelSpec) -> Side:
    kinds, classes = np.array([v.verdict for v in verdicts]), np.array(labels)
    generated = np.array([1.0 - v.scores[spec.real_class] for v in verdicts])
    real = classes == spec.real_class
    alarms, faces = int(np.isin(kinds[real], ("generator", "unknown")).sum()), int(real.sum())
    return Side(
        false_alarms=alarms,
        real_faces=faces,
        false_alarm_interval=clopper_pearson(alarms, faces) if faces else None,
        abstained=float((kinds == "abstain").mean()),
        auroc={
            name: float(roc_auc_score(classes[real | (classes == name)] == name, generated[real | (classes == name)]))
            if faces
            else None
            for name in sorted(set(labels) - {spec.real_class})
        },
    )
