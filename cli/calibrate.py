"""`leakrt calibrate`: add an int8 variant to a bundle if it passes its acceptance test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.acceptance import MAX_DROP, Limits
from .console import ConsoleProgress, coloured, printable, table
from .options import Json, Threads
from .refused import KEEP_REFUSED, changes_text, failed_text

if TYPE_CHECKING:
    from ..calibration.acceptance.attempts import Attempt
    from ..calibration.int8.calibrate import CalibrationOptions, CalibrationResult
    from ..calibration.int8.refitting import Refitter


_Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Bundle with an fp32 variant. The int8 variant is added to it.")
]
_Data = Annotated[Path, typer.Argument(metavar="DATA", help="Labelled images of the run, in the layout of training.")]
_Images = Annotated[int, typer.Option(help="Number of training images to take value ranges from; at least 32.")]
_Method = Annotated[str, typer.Option(help="Range estimator: entropy, percentile, minmax or mse.")]
_Run = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Run that the bundle was exported from. Required by --refit.")
]
_Refit = Annotated[
    bool, typer.Option("--refit/--no-refit", help="Distil the leak encoder on int8 latents, or keep the fp32 one.")
]
_MaxDrop = Annotated[float, typer.Option(help="Largest loss of macro AUC on validation images.")]
_RangeImages = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Take value ranges from these images instead of training images.")
]
_MaxShift = Annotated[
    float, typer.Option(help="Largest Kolmogorov-Smirnov distance of a layer's values from those of validation images.")
]
_WeightBits = Annotated[
    int,
    typer.Option(help="Bits of the weights: 7 is exact on every CPU, 8 only on CPUs with int8 dot products (VNNI)."),
]
_Replace = Annotated[bool, typer.Option("--replace", help="Replace an existing int8 variant.")]
_KeepRefused = Annotated[bool, typer.Option("--keep-refused", help=KEEP_REFUSED)]
_Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a PNG with the error and the speed of int8 in each layer.")
]


def calibrate(
    bundle: _Bundle,
    data: _Data,
    *,
    images: _Images = 256,
    method: _Method = "percentile",
    run: _Run = None,
    refit: _Refit = True,
    max_drop: _MaxDrop = MAX_DROP,
    range_images: _RangeImages = None,
    max_shift: _MaxShift = 0.2,
    weight_bits: _WeightBits = 7,
    replace: _Replace = False,
    keep_refused: _KeepRefused = False,
    plot: _Plot = None,
    threads: Threads = 0,
    json: Json = False,
) -> int:
    """Add an int8 variant that passes its acceptance test.

    The test compares its verdicts on validation images with those of fp32. If every attempt fails, the bundle is not
    changed and the exit code is 1. With --keep-refused the last attempt is written all the same, marked as refused.
    """
    from ..core.errors import require

    for module in ("torch", "onnx", "sklearn"):
        require(module, "train")
    from ..calibration.acceptance.measuring import installed
    from ..calibration.int8.calibrate import CalibrationOptions
    from ..calibration.int8.calibrate import calibrate as run_calibration
    from ..core.files import cache_folder
    from ..runtime.threads import resolve_threads

    _check_choices(method, weight_bits, plot)
    threads = resolve_threads(threads)
    options = CalibrationOptions(
        images=images,
        method=method,
        limits=Limits(max_drop=max_drop),
        weight_bits=weight_bits,
        threads=threads,
        range_images=range_images,
        replace=replace,
        max_shift=max_shift,
        keep_refused=keep_refused,
    )
    refitter = _refitter(bundle, run) if refit else None
    cache = cache_folder() / "ranges"
    with ConsoleProgress() as progress:
        result = run_calibration(
            bundle, data, options, refitter=refitter, backends=installed(threads), cache=cache, progress=progress
        )
    code = _report(result, options, data, json=json)
    if plot is not None:
        _draw(plot, result)
    return code


def _check_choices(method: str, weight_bits: int, plot: Path | None) -> None:
    """Check options before the long computation starts. Raises UsageError."""
    from ..calibration.int8.methods import check_method
    from ..calibration.int8.qdq import WEIGHT_BITS
    from ..core.errors import UsageError
    from .options import check_picture

    check_method(method)
    if weight_bits not in WEIGHT_BITS:
        raise UsageError(
            f"--weight-bits {weight_bits}: not supported; choose one of: {', '.join(map(str, WEIGHT_BITS))}"
        )
    if plot is not None:
        check_picture(plot, "--plot", "layers.png")


def _refitter(bundle: Path, run: Path | None) -> Refitter:
    """Raises UsageError without a run; CheckpointError or BundleError if the bundle comes from another run."""
    from ..calibration.int8.refit import RefitConfig
    from ..calibration.int8.refitting import Refitter, teacher_of
    from ..core.bundle import Bundle
    from ..core.errors import UsageError
    from ..core.files import cache_folder
    from ..train.run import Run

    if run is None:
        raise UsageError("--refit needs the run that the bundle was exported from: give --run RUN, or use --no-refit")
    return Refitter(teacher_of(Run.open(run), Bundle(bundle)), RefitConfig(), cache_folder() / "latents", bundle=bundle)


def _draw(path: Path, result: CalibrationResult) -> None:
    from ..calibration.int8.picture import sensitivity_picture

    last = result.attempts[-1]
    sensitivity_picture(path, result.sensitivities, last.float_layers, fp32_ms=result.fp32_ms, int8_ms=result.int8_ms)


def _report(result: CalibrationResult, options: CalibrationOptions, data: Path, *, json: bool) -> int:
    """Print the result and return the exit code."""
    import json as json_module

    if json:
        from ..train.data import left_out_of

        print(json_module.dumps({**_to_json(result, options), "left_out": left_out_of(data)}))
    else:
        print(_text(result, options))
    outcome = failed_text("int8", kept=result.refused, asked=options.keep_refused)
    if result.written is None or result.refused:
        print(f"leakrt: every attempt failed its acceptance test; {outcome}", file=sys.stderr)
    return 0 if result.written else 1


def _to_json(result: CalibrationResult, options: CalibrationOptions) -> dict[str, object]:
    return {
        "written": None if result.written is None else str(result.written),
        "refused": result.refused,
        "images_shift": result.shift.to_json(options.max_shift),
        "attempts": [
            {
                "int8_share": a.share,
                "float_layers": list(a.float_layers),
                "leak_encoder_int8": a.leak_int8,
                "backends": {name: found.to_json(options.limits) for name, found in a.backends.items()},
                "failures": list(a.failures),
            }
            for a in result.attempts
        ],
        "sensitivity": [
            {
                "layer": s.layer.name,
                "share": s.share,
                "latent_error": s.latent_error,
                "score_error": s.score_error,
                "labels_moved": s.labels_moved,
                "fp32_ms": result.fp32_ms[s.layer.name],
                "variant_ms": result.int8_ms[s.layer.name],
            }
            for s in result.sensitivities
        ],
    }


def _text(result: CalibrationResult, options: CalibrationOptions) -> str:
    rows = [
        (
            "only this layer in int8",
            "share of work",
            "latent error",
            "score error",
            "labels moved",
            "fp32 ms",
            "variant ms",
        )
    ]
    rows += [
        (
            printable(s.layer.name),
            f"{s.share:.1%}",
            f"{s.latent_error:.4f}",
            f"{s.score_error:.4f}",
            f"{s.labels_moved:.1%}",
            f"{result.fp32_ms[s.layer.name]:.2f}",
            f"{result.int8_ms[s.layer.name]:.2f}",
        )
        for s in result.sensitivities
    ]
    shift = (
        f"images: the values of a layer are up to {result.shift.share:.1%} away from those of validation images "
        f"(Kolmogorov-Smirnov distance, limit {options.max_shift:.0%})"
    )
    return "\n".join([shift, table(rows), *map(_attempt, result.attempts)])


def _attempt(attempt: Attempt) -> str:
    leak = "int8" if attempt.leak_int8 else "float"
    verdict = coloured("passed", "green") if not attempt.failures else coloured("failed", "red")
    lines = [f"{attempt.share:.1%} of the VAE in int8, leak encoder in {leak}: {verdict}"]
    for name, found in ((name, backend.comparison) for name, backend in attempt.backends.items()):
        lines.append(
            f"  {name}: macro AUC {found.macro_auc:.4f} (drop {found.macro_auc_drop:+.4f}), labels agree "
            f"{found.agreement:.1%}, of confident images {found.agreement_confident:.2%}, {changes_text(found)}, "
            f"{attempt.backends[name].speedup}"
        )
    return "\n".join([*lines, *(f"  {why}" for why in attempt.failures)])
