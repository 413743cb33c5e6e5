"""`leakrt evaluate`: measure a run or a bundle on labelled images."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ConsoleProgress, printable
from .evaluate_grid import grids_text, heat_map, measure_grids, write_heat_maps
from .evaluate_pairs import measure_pairs, pairs_text
from .evaluate_precisions import evaluate_precisions
from .evaluated_model import EvaluatedBundle, EvaluatedRun, open_model
from .evaluation_images import choose, tell_failures
from .evaluation_text import evaluation_text
from .leave_out import evaluate_leave_out
from .options import Backend, Device, Json

if TYPE_CHECKING:
    from ..core.outputs import LeakOutputs
    from ..core.spec import ModelSpec
    from ..runtime.detector import Detector
    from ..train.evaluation import Evaluation
    from ..train.evaluation_report import ClassifiedImages
    from ..train.robustness import Cell


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
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Compare with the files in FOLDER/CLASS that the images were cut from."),
    ] = None,
    faces: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="YuNet ONNX file that finds the face in the files of --pairs.")
    ] = None,
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
        chosen_too = (open_set, plots, html, pairs, faces) != (None,) * 5 or robustness or cameras
        if chosen_too or (precision, backend, device) != ("auto", "auto", 0):
            raise UsageError("--leave-out takes RUN, DATA, --split and --json alone; omit the other options")
        require("torch", "train")
        return evaluate_leave_out(model, data, split, choice=leave_out, json=json)
    if precision == "all":
        if (model / "run.json").is_file() or (plots, html, pairs, faces) != (None,) * 4 or robustness or cameras:
            raise UsageError(
                "--precision all takes a bundle, --split, --open, --backend, --device and --json; "
                "export a run first, and omit the other options"
            )
        return evaluate_precisions(model, data, split, open_set=open_set, backend=backend, device=device, json=json)
    from ..train.evaluation import closed_results, open_results
    from ..train.evaluation import evaluate as measure

    opened = open_model(model, precision, backend, device=device)
    chosen = choose(opened.spec, opened.trained, data, split=split, open_set=open_set, cache=opened.cache)
    paired = _paired(opened, pairs, faces)
    outputs: list[LeakOutputs] | None = [] if html is not None else None
    with ConsoleProgress("images") as progress:
        verdicts = opened.classify(chosen.paths, progress, outputs)
    labels = chosen.closed.labels
    closed, others = verdicts[: len(labels)], verdicts[len(labels) :]
    tell_failures(verdicts)
    result = measure(closed, labels, others, spec=opened.spec, decision=opened.decision)
    names = [name for name, wanted in (("robustness", robustness), ("cameras", cameras)) if wanted]
    grids = measure_grids(names, opened.classify_frames, chosen.closed.paths, labels=labels, spec=opened.spec)
    compared = (
        None if paired is None else measure_pairs(*paired, crops=closed, paths=chosen.closed.paths, labels=labels)
    )
    figures = {**result.to_json(), **chosen.examined.to_json()}
    figures |= {name: [cell.to_json() for cell in cells] for name, cells in grids.items()}
    figures |= {} if compared is None else {"pairs": compared.to_json()}
    texts = [evaluation_text(result), grids_text(grids, opened.decision)]
    texts += [] if compared is None else [pairs_text(compared)]
    print(json_module.dumps(figures, ensure_ascii=False) if json else "\n\n".join(filter(None, texts)))
    if plots is not None:
        from ..train.plots import write_plots

        for path in write_plots(plots, closed_results(closed, labels, opened.spec), open_results(others)):
            print(f"wrote {printable(str(path))}", file=sys.stderr)
        write_heat_maps(plots, grids)
    if html is not None and outputs is not None:
        from ..train.evaluation_report import ClassifiedImages
        from ..train.predict import concatenate

        judged = ClassifiedImages(
            verdicts=verdicts,
            labels=[*labels, *[None] * len(others)],
            outputs=concatenate(outputs, opened.spec),
            support=opened.support,
        )
        _write_html(html, model.name, result, judged=judged, spec=opened.spec, grids=grids)
    return 1 if result.failed else 0


def _paired(
    opened: EvaluatedRun | EvaluatedBundle, pairs: Path | None, faces: Path | None
) -> tuple[Path, Detector] | None:
    """Return the folder of --pairs and the detector for its files, None without --pairs. Raises UsageError."""
    from ..core.errors import UsageError

    if (pairs is None) != (faces is None):
        raise UsageError("--pairs FOLDER and --faces MODEL belong together; give both, or omit both")
    if pairs is None or faces is None:
        return None
    if isinstance(opened, EvaluatedRun):
        raise UsageError("--pairs takes a bundle, which finds faces; export the run first")
    return pairs, opened.with_faces(faces)


def _write_html(
    path: Path,
    name: str,
    result: Evaluation,
    *,
    judged: ClassifiedImages,
    spec: ModelSpec,
    grids: Mapping[str, Sequence[Cell]],
) -> None:
    from ..train.evaluation_report import write_evaluation_report

    with ConsoleProgress("parts") as progress:
        maps = {grid: heat_map(grid, cells) for grid, cells in grids.items()}
        write_evaluation_report(path, name, result, judged=judged, spec=spec, heat_maps=maps, progress=progress)
    print(f"wrote {printable(str(path))}", file=sys.stderr)
