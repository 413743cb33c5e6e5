"""`leakrt train`: train a detector on labelled images."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import ConsoleProgress, printable
from .options import Threads

if TYPE_CHECKING:
    from ..core.images import LeftOut
    from ..core.spec import ModelSpec
    from ..train.metrics_log import EpochMetrics
    from ..train.run import Run
    from ..train.session import TrainRequest
    from ..train.vae import VaeEncoder


def train(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA",
            help="Folder of images: one subfolder per class, or train/, val/ and test/ of them. Further folders add"
            " images of the same classes.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run directory. An unfinished run resumes.")],
    *,
    vae: Annotated[str, typer.Option(help="VAE encoder: sd:ID_OR_FOLDER, onnx:FILE or builtin.")] = "builtin",
    vae_output: Annotated[
        str | None, typer.Option(help="Output of onnx:FILE with the posterior mean, if the file has several outputs.")
    ] = None,
    vae_scale: Annotated[
        float | None, typer.Option(help="Factor from posterior mean to latent; by default the encoder's own.")
    ] = None,
    real_class: Annotated[str, typer.Option(help="Name of the class of camera images.")] = "real",
    timesteps: Annotated[
        str, typer.Option(help="Diffusion steps to simulate, each 0 to 999, separated by commas.")
    ] = "0,20,60,150",
    schedule: Annotated[str, typer.Option(help="Noise schedule: scaled_linear or linear.")] = "scaled_linear",
    image_size: Annotated[int, typer.Option(help="Input size of the encoder, in pixels; the input is square.")] = 256,
    draws: Annotated[int, typer.Option(help="Noise draws to average per verdict.")] = 1,
    branch_channels: Annotated[
        int, typer.Option(help="Channels of the pixel branch, which sees what the VAE discards; 0 trains none.")
    ] = 12,
    embedding_dim: Annotated[int, typer.Option(help="Size of each branch's embedding.")] = 128,
    prototypes: Annotated[int, typer.Option(help="Prototypes per class.")] = 6,
    epochs: Annotated[int, typer.Option(help="Passes over the training images, of the latent branch.")] = 16,
    pixel_epochs: Annotated[int, typer.Option(help="Passes over the training images, of the pixel branch.")] = 12,
    augment: Annotated[
        float, typer.Option(help="Share of training images that are augmented: tone, noise, resampling, compression.")
    ] = 0.6,
    copies: Annotated[
        int, typer.Option(help="Augmented copies of each image that the VAE encodes; 0 augments no latents.")
    ] = 3,
    batch_size: Annotated[int, typer.Option(help="Images per optimiser step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of the one-cycle schedule.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW, on all weights.")] = 1e-2,
    step_dropout: Annotated[
        float, typer.Option(help="Probability of dropping a diffusion step from the attention pool.")
    ] = 0.15,
    entropy_weight: Annotated[float, typer.Option(help="Weight of the step-entropy bonus.")] = 0.1,
    label_smoothing: Annotated[float, typer.Option(help="Share of the label spread over all classes.")] = 0.0,
    views: Annotated[str, typer.Option(help="Views of each training image: plain, flip or dihedral.")] = "flip",
    seed: Annotated[int, typer.Option(help="Random seed. The same seed gives the same weights.")] = 0,
    threads: Threads = 0,
    cache: Annotated[Path | None, typer.Option(help="Latent cache; by default $XDG_CACHE_HOME/leakrt/latents.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Overwrite RUN and start from scratch.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Omit unreadable images instead of stopping.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: run, epochs, best, seconds, left_out.")
    ] = False,
) -> int:
    """Train a detector on labelled face images.

    The VAE encodes each image once; latents are cached. After an interruption, the same command resumes from the last
    complete epoch and gives the same weights.
    """
    begin = time.perf_counter()
    _require_extras()
    from ..core.files import cache_folder
    from ..runtime.threads import resolve_threads
    from ..train.config import PixelConfig, TrainConfig
    from ..train.session import TrainRequest

    config = TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        step_dropout=step_dropout,
        entropy_weight=entropy_weight,
        label_smoothing=label_smoothing,
        views=views,
        seed=seed,
        threads=resolve_threads(threads),
        augment=augment if copies else 0.0,
        copies=copies if augment else 0,
        pixel=PixelConfig(epochs=pixel_epochs, augment=augment),
    )
    spec = _template(
        real_class,
        timesteps,
        schedule,
        image_size=image_size,
        draws=draws,
        branch_channels=branch_channels,
        embedding_dim=embedding_dim,
        prototypes=prototypes,
    )
    folder = cache or cache_folder() / "latents"
    left_out: list[LeftOut] = []
    request = TrainRequest(
        data=data[0],
        more=tuple(data[1:]),
        out=out,
        vae=vae,
        cache=folder,
        config=config,
        spec=spec,
        vae_scale=vae_scale,
        restart=restart,
        skip_bad=skip_bad,
        vae_output=vae_output,
    )
    run = _train(request, left_out)
    result = _result(run, time.perf_counter() - begin, left_out)
    print(json.dumps(result) if as_json else _summary(run))
    return 0


def _require_extras() -> None:
    from ..core.errors import require

    require("torch", "train")
    require("sklearn", "train")


def _template(
    real_class: str,
    timesteps: str,
    schedule: str,
    *,
    image_size: int,
    draws: int,
    branch_channels: int,
    embedding_dim: int,
    prototypes: int,
) -> ModelSpec:
    from ..core.spec import ModelSpec
    from .options import numbers

    return ModelSpec(
        class_names=(real_class, f"not {real_class}"),  # replaced by the classes of the data
        real_class=real_class,
        image_size=image_size,
        schedule=schedule,
        timesteps=numbers(timesteps, "--timesteps", "0,20,60,150"),
        draws=draws,
        embedding_dim=2 * embedding_dim if branch_channels else embedding_dim,
        prototypes_per_class=prototypes,
        branch_channels=branch_channels,
    )


def _train(request: TrainRequest, left_out: list[LeftOut]) -> Run:
    from ..train.session import train as train_run

    with ConsoleProgress() as progress:
        return train_run(
            request, progress=progress, report=_report_epoch, note=_note, accept=_accept, left_out=left_out.extend
        )


def _accept(vae: VaeEncoder, spec: ModelSpec) -> None:
    """Raises ModelError before training if `leakrt export` would refuse an ONNX encoder after it."""
    from ..export.vae_graph import export_vae
    from ..train.onnx_vae import OnnxVae

    if isinstance(vae, OnnxVae):
        export_vae(vae, spec)


def _report_epoch(row: EpochMetrics) -> None:
    print(
        f"epoch {row.epoch:3d}  loss {row.train_loss:.3f}  val loss {row.val_loss:.3f}  "
        f"val AUC {row.val_macro_auc:.4f}  balanced accuracy {row.val_balanced_accuracy:.4f}",
        file=sys.stderr,
    )


def _note(text: str) -> None:
    print(f"leakrt: note: {printable(text)}", file=sys.stderr)


def _summary(run: Run) -> str:
    counts = {split: sum(classes.values()) for split, classes in run.info.counts.items()}
    images = ", ".join(f"{count} {split}" for split, count in counts.items())
    command = f"leakrt export {shlex.quote(str(run.path))} --out BUNDLE"
    return f"{run.path}: {len(run.spec.class_names)} classes, {images} images. Next: {command}"


def _result(run: Run, seconds: float, left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """Return the object of `--json`. `seconds` is the time of this command, even if it resumed a run."""
    best = asdict(run.best())
    figures = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
    return {
        "run": str(run.path),
        "class_names": list(run.spec.class_names),
        "images": run.info.counts,
        "epochs": run.info.config.epochs,
        "best": {"epoch": best["epoch"], **figures},
        "seconds": seconds,
        "left_out": [one.to_json() for one in left_out],
    }
