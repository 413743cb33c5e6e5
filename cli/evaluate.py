"""`leakrt evaluate`: measure a run or a bundle on labelled images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ConsoleProgress, printable
from .evaluate_grid import grids_text, heat_map, measure_grids, write_heat_maps
from .evaluate_precisions import evaluate_precisions
from .evaluation_images import choose, tell_failures, trained_bundle
from .evaluation_text import evaluation_text
from .leave_out import evaluate_leave_out
from .options import Backend, Device, Json

if TYPE_CHECKING:
    from ..core.decision import Decision
    from ..core.outputs import LeakOutputs
    from ..core.progress import Progress
    from ..core.spec import ModelSpec
    from ..core.support import Support
    from ..core.verdict import Verdict
    from ..runtime.prepare import Frame
    from ..train.leakage import Trained


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="Finished run or bundle.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Labelled images, in the layout of training.")],
    *,
    split: Annotated[str, typer.Option(help="Split: test, val or train; all if DATA has no splits.")] = "test",
    open_set: Annotated[
        Path | None,
        typer.Option("--open", metavar="FOLDER", help="Images of generators that training did not see."),
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS", help="Train RUN again without this class, or all in turn, and evaluate on it as unseen."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Precision of a bundle: auto, fp32, fp16 or int8; all compares them.")
    ] = "auto",
    backend: Backend = "auto",
    device: Device = 0,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write plots of confusion, ROC and reliability to this folder."),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also measure on compressed, resized, blurred and noisy copies.")
    ] = False,
    cameras: Annotated[
        bool, typer.Option("--cameras", help="Also measure on copies as other cameras and backgrounds give them.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a self-contained report to this file.")
    ] = None,
    json: Json = False,
) -> int:
    """Measure a run or a bundle on labelled images.

    Prints attribution among the known classes, false alarms and coverage. With --open, it also prints how well unknown
    generators are detected. DATA may lack classes: figures that need them are reported as not measured. Exits with code
    1 if an image could not be read.
    """
    import json as json_module

    from ..core.errors import UsageError, require

    require("sklearn", "train")
    if leave_out is not None:
        chosen_too = (open_set, plots, html) != (None, None, None) or robustness or cameras
        if chosen_too or (precision, backend, device) != ("auto", "auto", 0):
            raise UsageError("--leave-out takes RUN, DATA, --split and --json alone; omit the other options")
        require("torch", "train")
        return evaluate_leave_out(model, data, split, choice=leave_out, json=json)
    if precision == "all":
        if (model / "run.json").is_file() or (plots, html) != (None, None) or robustness or cameras:
            raise UsageError(
                "--precision all takes a bundle and no --plots, --html, --robustness or --cameras; "
                "export the run first, or omit them"
            )
        return evaluate_precisions(model, data, split, open_set=open_set, backend=backend, device=device, json=json)
    from ..train.evaluation import closed_results, open_results
    from ..train.evaluation import evaluate as measure

    opened = _open(model, precision, backend, device=device)
    chosen = choose(opened.spec, opened.trained, data, split=split, open_set=open_set, cache=opened.cache)
    outputs: list[LeakOutputs] | None = [] if html is not None else None
    with ConsoleProgress("images") as progress:
        verdicts = opened.classify(chosen.paths, progress, outputs)
    labels = chosen.closed.labels
    closed, others = verdicts[: len(labels)], verdicts[len(labels) :]
    tell_failures(verdicts)
    result = measure(closed, labels, others, spec=opened.spec, decision=opened.decision)
    names = [name for name, wanted in (("robustness", robustness), ("cameras", cameras)) if wanted]
    grids = measure_grids(names, opened.classify_frames, chosen.closed.paths, labels, spec=opened.spec)
    figures = {**result.to_json(), **chosen.examined.to_json()}
    figures |= {name: [cell.to_json() for cell in cells] for name, cells in grids.items()}
    text = "\n\n".join(filter(None, (evaluation_text(result), grids_text(grids, opened.decision))))
    print(json_module.dumps(figures, ensure_ascii=False) if json else text)
    if plots is not None:
        from ..train.plots import write_plots

        for path in write_plots(plots, closed_results(closed, labels, opened.spec), open_results(others)):
            print(f"wrote {printable(str(path))}", file=sys.stderr)
        write_heat_maps(plots, grids)
    if html is not None and outputs is not None:
        from ..train.evaluation_report import Judged, write_evaluation_report
        from ..train.predict import concatenate

        judged = Judged(
            verdicts=verdicts,
            labels=[*labels, *[None] * len(others)],
            outputs=concatenate(outputs, opened.spec),
            support=opened.support,
        )
        with ConsoleProgress("parts") as progress:
            maps = {name: heat_map(name, cells) for name, cells in grids.items()}
            write_evaluation_report(
                html, model.name, result, judged, spec=opened.spec, heat_maps=maps, progress=progress
            )
        print(f"wrote {printable(str(html))}", file=sys.stderr)
    return 1 if result.failed else 0


def _open(model: Path, precision: str, backend: str, *, device: int) -> _OpenedRun | _OpenedBundle:
    if not (model / "run.json").is_file():
        return _OpenedBundle(model, precision, backend, device=device)
    from ..core.errors import UsageError, require

    if device or (precision, backend) not in (("auto", "auto"), ("fp32", "torch")):
        raise UsageError(
            f"{model} is a run, which is evaluated in torch at fp32; export it to choose precision, backend or device"
        )
    require("torch", "train")
    return _OpenedRun(model)


class _OpenedRun:
    """A finished run, evaluated in torch."""

    def __init__(self, path: Path) -> None:
        from ..train.fit import open_fitted
        from ..train.leakage import Trained as TrainedOn
        from ..train.run import Run

        with ConsoleProgress("images") as progress:
            self._fitted = open_fitted(Run.open(path), progress=progress)
        self.spec: ModelSpec = self._fitted.judge.spec
        self.decision: Decision = self._fitted.judge.decision
        self.support: Support = self._fitted.judge.support
        self.trained: Trained = TrainedOn.of_run(self._fitted.run)
        self.cache = Path(self._fitted.run.info.cache)

    def classify(self, paths: Sequence[Path], progress: Progress, outputs: list[LeakOutputs] | None) -> list[Verdict]:
        """Return one verdict per image, and append the outputs behind them to `outputs`, if it is given."""
        from ..train.judge_images import judge_images

        return judge_images(self._fitted, paths, outputs=outputs, progress=progress)

    def classify_frames(self, frames: Iterable[Frame]) -> Iterator[Verdict]:
        """Yield one verdict per frame."""
        from ..train.judge_images import judge_frames

        return judge_frames(self._fitted, frames)


class _OpenedBundle:
    """A bundle on a backend."""

    def __init__(self, path: Path, precision: str, backend: str, *, device: int) -> None:
        from ..core.files import cache_folder
        from ..runtime.detector import Detector

        self._detector = Detector.load(path, backend=backend, precision=precision, device=device)
        self.spec: ModelSpec = self._detector.spec
        bundle = self._detector.bundle
        self.decision: Decision = bundle.decisions[self._detector.describe().precision]
        self.support: Support = bundle.support(self._detector.describe().precision)
        self.trained: Trained = trained_bundle(bundle)
        self.cache: Path = cache_folder() / "latents"

    def classify(self, paths: Sequence[Path], progress: Progress, outputs: list[LeakOutputs] | None) -> list[Verdict]:
        """Return one verdict per image, and append the outputs behind them to `outputs`, if it is given."""
        found = []
        for verdict in self._detector.check_stream(paths) if outputs is None else self._analysed(paths, outputs):
            found.append(verdict)
            progress("classify", len(found), len(paths))
        return found

    def classify_frames(self, frames: Iterable[Frame]) -> Iterator[Verdict]:
        """Yield one verdict per frame."""
        return self._detector.check_stream(frames)

    def _analysed(self, paths: Sequence[Path], outputs: list[LeakOutputs]) -> Iterator[Verdict]:
        for path in paths:
            (analysis,) = self._detector.analyse(path)
            if analysis.evidence is not None:
                outputs.append(analysis.evidence.outputs)
            yield analysis.verdict
