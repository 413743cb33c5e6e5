"""The report of an evaluation: one self-contained HTML file."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from sklearn.metrics import balanced_accuracy_score

from ..core.errors import ImageError
from ..core.figures import figure, percent
from ..core.files import atomic_write
from ..core.html import cards, page, picture, table
from ..core.images.thumbnail import thumbnail
from ..core.outputs import LeakOutputs
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from ..core.support import Support
from ..core.verdict import Verdict
from .embedding_map import UNSEEN, EmbeddingMap, draw_map
from .evaluation import Evaluation, closed_results, open_results
from .metrics import macro_auc
from .plots import render, write_plots

_RESAMPLES = 200
_MISTAKES, _SIDE = 24, 160  # pictures, pixels
_BRANCHES = ("VAE latents", "pixels")  # in the order of `ModelSpec.branches`


@dataclass(frozen=True, kw_only=True)
class ClassifiedImages:
    """Images that were classified, with the outputs behind their verdicts."""

    verdicts: Sequence[Verdict]
    labels: Sequence[str | None]  # None for an image of the open set
    outputs: LeakOutputs  # a row per verdict without an error, in order
    support: Support


def write_evaluation_report(
    path: Path,
    model: str,
    result: Evaluation,
    *,
    judged: ClassifiedImages,
    spec: ModelSpec,
    heat_maps: Mapping[str, bytes] | None = None,
    progress: Progress = silent,
) -> None:
    """Write the report of an evaluation of `model`, which is a name to show.

    `heat_maps` holds the PNG of each grid of perturbations. Raises MissingExtraError, StorageError.
    """
    known = [(v, label) for v, label in zip(judged.verdicts, judged.labels, strict=True) if label is not None]
    unseen = [v for v, label in zip(judged.verdicts, judged.labels, strict=True) if label is None]
    verdicts, labels = [v for v, _ in known], [label for _, label in known]
    parts = [f"<h1>{html.escape(model)}</h1><p>{_subtitle(result)}</p>"]
    steps: tuple[Callable[[], str], ...] = (
        lambda: _headline(result, verdicts, labels, spec=spec),
        lambda: _plots(verdicts, labels, unseen, spec=spec),
        lambda: _heat_maps(heat_maps or {}),
        lambda: _embeddings(judged, spec),
        lambda: _weights(judged, spec),
        lambda: _mistakes(known, spec),
    )
    for done, step in enumerate(steps, 1):
        parts.append(step())
        progress("report", done, len(steps))
    atomic_write(path, page(f"LeakRT: {model}", parts).encode())


def _subtitle(result: Evaluation) -> str:
    unseen = f", {result.open.images} of unseen makers" if result.open else ""
    failed = f"; {result.failed} could not be classified" if result.failed else ""
    missing = f" Not measured: {html.escape(result.not_measured)}." if result.missing else ""
    return f"{result.closed.images} images of known classes{unseen}{failed}.{missing}"


def _headline(result: Evaluation, verdicts: Sequence[Verdict], labels: Sequence[str], *, spec: ModelSpec) -> str:
    decision, unseen = result.decision, result.open
    area, recall = _intervals(verdicts, labels, spec)
    low, high = decision.interval or (0, 0)
    expected = f"{low} to {high} expected at {percent(decision.false_alarm_target)}" if decision.interval else ""
    values = [
        ("macro AUC", figure(result.closed.macro_auc), area),
        ("balanced accuracy", figure(result.closed.balanced_accuracy, form=".3f"), recall),
        ("false alarms", f"{decision.false_alarm_count} of {decision.real_faces}", expected),
        ("generated, called real", percent(decision.generated_called_real), ""),
        ("coverage", percent(decision.coverage), "images that get a verdict"),
        ("calibration error", figure(result.closed.ece, form=".3f"), "of the likeliest class"),
    ]
    if unseen is not None:
        values.append(("unseen makers, AUROC", figure(unseen.auroc_real, form=".3f"), "against real faces"))
        values.append(("unseen makers, called real", percent(unseen.called_real), ""))
    return cards(values)


def _intervals(verdicts: Sequence[Verdict], labels: Sequence[str], spec: ModelSpec) -> tuple[str, str]:
    """Return the 95 % intervals of macro AUC and balanced accuracy over resampled images, as text."""
    results = closed_results(verdicts, labels, spec)
    if results.missing:
        return "", ""
    draw = np.random.default_rng(0)
    groups = [np.flatnonzero(results.labels == k) for k in range(len(spec.class_names))]
    found = []
    for _ in range(_RESAMPLES):
        rows = np.concatenate([draw.choice(group, len(group)) for group in groups])
        area = macro_auc(results.labels[rows], results.probabilities[rows])
        assert area is not None  # every class is resampled
        found.append((area, float(balanced_accuracy_score(results.labels[rows], results.predicted[rows]))))
    low, high = np.quantile(np.array(found), [0.025, 0.975], axis=0)
    return f"{low[0]:.4f} to {high[0]:.4f}", f"{low[1]:.3f} to {high[1]:.3f}"


def _plots(verdicts: Sequence[Verdict], labels: Sequence[str], unseen: Sequence[Verdict], *, spec: ModelSpec) -> str:
    with TemporaryDirectory() as folder:
        files = write_plots(Path(folder), closed_results(verdicts, labels, spec), open_results(unseen))
        pictures = "".join(picture(path.read_bytes(), "png", path.stem) for path in files)
    return f'<h2>Attribution</h2><div class="plots">{pictures}</div>'


def _heat_maps(heat_maps: Mapping[str, bytes]) -> str:
    maps = [
        f'<div class="plot">{picture(data, "png", f"heat map of {name}")}</div>' for name, data in heat_maps.items()
    ]
    return f"<h2>Perturbed copies</h2>{''.join(maps)}" if maps else ""


def _embeddings(judged: ClassifiedImages, spec: ModelSpec) -> str:
    kept = _classified(judged)
    finite = np.flatnonzero(np.isfinite(judged.outputs.embedding).all(axis=1))
    if len(finite) < 3:
        return ""
    data = EmbeddingMap(
        embeddings=judged.outputs.embedding[finite],
        groups=tuple(UNSEEN if kept[i][1] is None else str(kept[i][1]) for i in finite),
        prototypes=tuple(kept[i][0].prototype for i in finite),
    )
    drawn = render(lambda axes: draw_map(axes, data), len(spec.class_names), wide=True)
    note = "Each point is an image. A star marks the images that are nearest to one prototype, or pair of prototypes."
    return f'<h2>Embeddings</h2><p>{note}</p><div class="plot">{picture(drawn, "png", "map of the embeddings")}</div>'


def _weights(judged: ClassifiedImages, spec: ModelSpec) -> str:
    """Return mean step weights by class and, with two branches, the share of the evidence that each one gave."""
    groups: dict[str, list[int]] = {}
    kept = _classified(judged)
    for row, (_, label) in enumerate(kept):
        groups.setdefault(UNSEEN if label is None else label, []).append(row)
    several = len(spec.branches) > 1
    shares = _branch_shares(judged, spec) if several else np.empty((len(kept), 0))
    head = ["class", *(f"t = {t}" for t in spec.timesteps), *(_BRANCHES if several else ())]
    rows = []
    for name, own in groups.items():
        steps = judged.outputs.step_weights[own].mean(axis=0)
        rows.append([name, *(percent(float(w), form=".0f") for w in steps)])
        rows[-1] += [percent(float(s), form=".0f") for s in shares[own].mean(axis=0)]
    note = "The mean weight of each diffusion step in the pooled embedding"
    more = ", and the mean share of each branch in the evidence for the winner over the runner-up" if several else ""
    return f"<h2>Steps{' and branches' if several else ''}</h2><p>{note}{more}.</p>{table(head, rows)}"


def _branch_shares(judged: ClassifiedImages, spec: ModelSpec) -> npt.NDArray[np.float64]:
    """Return each branch's share of |evidence| for the winner over the runner-up, float64 [N, branches]."""
    found = []
    for h, w in zip(judged.outputs.embedding, judged.outputs.gates, strict=True):
        nearest = judged.support.prototype_distances(h, w, branches=len(spec.branches)).min(axis=-1)
        first, second = np.argsort(nearest.sum(axis=0))[:2]
        evidence = np.abs(nearest[:, second] - nearest[:, first])
        found.append(evidence / max(float(evidence.sum()), 1e-12))
    return np.array(found).reshape(len(found), len(spec.branches))


def _mistakes(known: Sequence[tuple[Verdict, str]], spec: ModelSpec) -> str:
    """Show the wrong verdicts on known classes with the highest probability; abstentions are not wrong."""
    wrong = [(v, label) for v, label in known if v.verdict in ("real", "generator") and v.label != label]
    wrong.sort(key=lambda pair: -pair[0].probability)
    tiles = [_tile(v, label) for v, label in wrong[:_MISTAKES]]
    crossed = sum((label == spec.real_class) != (v.label == spec.real_class) for v, label in wrong)
    note = f"{len(wrong)} wrong verdicts, {crossed} of them between real and generated; the most confident ones:"
    body = f'<p>{note}</p><div class="tiles">{"".join(tiles)}</div>' if wrong else "<p>No wrong verdict.</p>"
    return f"<h2>Most confident mistakes</h2>{body}"


def _tile(verdict: Verdict, label: str) -> str:
    try:
        image = picture(thumbnail(verdict.path, side=_SIDE), "jpeg", Path(verdict.path).name)
    except ImageError:
        image = "(moved)"
    share = percent(verdict.probability, form=".0f")
    caption = f"{html.escape(label)}, called <b>{html.escape(verdict.label)}</b> {share}"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _classified(judged: ClassifiedImages) -> list[tuple[Verdict, str | None]]:
    pairs = zip(judged.verdicts, judged.labels, strict=True)
    return [(v, label) for v, label in pairs if v.error is None]
