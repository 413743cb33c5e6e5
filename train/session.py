"""A training session, from a data folder to a finished run: list, hash, encode, train."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import CheckpointError, UsageError
from ..core.files import recover, storage_error
from ..core.images import LeftOut
from ..core.locks import alone
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from ..core.versions import installed_versions
from .batches import LatentSet
from .branches import BRANCH_FILES, BRANCH_FOLDERS, train_branches
from .config import TrainConfig
from .contents import ContentCache
from .data import DataSet, list_data, load_data
from .latents import LatentCache
from .metrics_log import METRICS_FILE, TENSORBOARD_FOLDER, EpochMetrics
from .pixel_task import PixelData, PixelSet
from .pixels import PixelCache
from .record_cache import ImageRequest
from .run import ITEMS_FILE, RUN_FILE, Run, RunInfo, open_cache, training_views, write_items
from .trainer import BEST, LAST, TrainingData
from .vae import VaeDescription, VaeEncoder, open_vae

LOCK_FILE = ".lock"
LEAVE_OUT_FOLDER = "leave-out"  # runs without a class (train/leave_out.py)
_TRAINED = (RUN_FILE, ITEMS_FILE, *BRANCH_FILES, BEST, LAST, METRICS_FILE)  # only written here, under the lock
_OWNED = (*_TRAINED, "decision.json", "density.safetensors")
_PACKAGES = ("leakrt", "torch", "diffusers", "numpy", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Arguments of `leakrt train`. The spec's class names and VAE come from the data and the VAE."""

    data: Path
    more: tuple[Path, ...] = ()  # folders with more images of the same classes
    out: Path
    vae: str  # sd:ID_OR_FOLDER, onnx:FILE or builtin
    cache: Path
    config: TrainConfig
    spec: ModelSpec  # a template: class_names, vae_kind and vae_scale are replaced
    vae_scale: float | None = None
    restart: bool = False
    skip_bad: bool = False
    vae_output: str | None = None  # of an ONNX encoder; None: see `open_vae`
    without: str | None = None  # a class whose images are ignored


def train(
    request: TrainRequest,
    *,
    progress: Progress = silent,
    report: Callable[[EpochMetrics], None] = lambda row: None,
    note: Callable[[str], None] = lambda text: None,
    accept: Callable[[VaeEncoder, ModelSpec], None] = lambda vae, spec: None,
    left_out: Callable[[Sequence[LeftOut]], None] = lambda files: None,
) -> Run:
    """Train, or resume the run at `request.out`.

    `report` is called after each epoch, `note` with each remark on the data, `left_out` with the files that are not
    trained on. `accept` can reject a VAE by raising before any image is encoded.

    Raises DataError, ModelError, UsageError, CheckpointError (`out` holds a different run, or another process trains
    there), StorageError.
    """
    listing = list_data(request.data, more=request.more, without=request.without)
    if request.spec.real_class not in listing.classes:
        found = ", ".join(listing.classes)
        raise UsageError(f"no class is named {request.spec.real_class!r}; choose one of {found} with --real-class")
    vae = open_vae(request.vae, request.vae_scale, request.spec.image_size, output=request.vae_output)
    for text in vae.notes:
        note(text)
    accept(vae, request.spec)
    cache = open_cache(request.cache, vae.description)
    with _locked_folder(request.out):
        data = load_data(
            listing, ContentCache(request.cache), request.config.threads, skip_bad=request.skip_bad, progress=progress
        )
        left_out(data.left_out)
        for text in data.notes:
            note(text)
        info = _describe(request, data, vae.description)
        _prepare_folder(request, info)
        write_items(request.out, data)
        info.write(request.out)
        latents = _encode(data, cache, vae, config=request.config, progress=progress)
        pixels = _pixels(data, info, progress) if info.spec.branch_channels else None
        train_branches(request.out, info, latents, pixels=pixels, progress=progress, report=report)
        replace(info, finished=True).write(request.out)
    return Run.open(request.out)


def _describe(request: TrainRequest, data: DataSet, vae: VaeDescription) -> RunInfo:
    spec = replace(request.spec, class_names=data.classes, vae_kind=vae.kind, vae_scale=vae.scale)
    return RunInfo(
        spec=spec,
        config=request.config,
        vae=vae,
        data_root=os.pathsep.join(str(folder.resolve()) for folder in (data.root, *data.more)),
        data_fingerprint=data.fingerprint,
        counts=data.counts(),
        cache=str(request.cache.resolve()),
        versions={"python": platform.python_version(), **installed_versions(_PACKAGES)},
        finished=False,
    )


@contextmanager
def _locked_folder(out: Path) -> Iterator[None]:
    """Create the run's folder if needed and lock it; a new folder that stays empty is removed at the end.

    Raises CheckpointError, StorageError.
    """
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / RUN_FILE).exists() and any(not _is_leftover(path.name) for path in out.iterdir()):
            raise CheckpointError(f"{out} is not empty and holds no training run; choose another folder for --out")
    except OSError as error:
        raise storage_error(out, error) from error
    busy = CheckpointError(f"another process is training in {out}; wait for it, or choose another --out")
    try:
        with alone(out / LOCK_FILE, busy):
            yield
    finally:
        if made:
            with suppress(OSError):  # the folder is not empty
                out.rmdir()


def _prepare_folder(request: TrainRequest, info: RunInfo) -> None:
    """Clear the run's folder for --restart, or check that its run matches the request."""
    if request.restart:
        _clear(request.out)
    if (request.out / RUN_FILE).exists():
        _check_same(RunInfo.read(request.out / RUN_FILE), info, request.out)
    for name in _TRAINED:
        recover(request.out / name)


def _is_leftover(name: str) -> bool:
    """Whether an interrupted run can have left the file before writing its run.json."""
    return name in (ITEMS_FILE, LOCK_FILE) or (name.startswith(".") and name.endswith(".part"))


def _clear(out: Path) -> None:
    """Remove the files of a run and nothing else. run.json goes last, since it marks the folder as a run."""
    try:
        for folder in (LEAVE_OUT_FOLDER, *(f"{part}/{TENSORBOARD_FOLDER}" for part in (".", *BRANCH_FOLDERS))):
            shutil.rmtree(out / folder, ignore_errors=True)
        for name in reversed(_OWNED):
            (out / name).unlink(missing_ok=True)
        for folder in BRANCH_FOLDERS:
            with suppress(FileNotFoundError):
                (out / folder).rmdir()
    except OSError as error:
        raise storage_error(out, error) from error


def _check_same(old: RunInfo, new: RunInfo, out: Path) -> None:
    pairs = ((old.spec.to_json(), new.spec.to_json()), (old.config.to_json(), new.config.to_json()))
    differing = [
        f"{name} (was {was[name]}, now {now[name]})" for was, now in pairs for name in now if was[name] != now[name]
    ]
    if old.data_fingerprint != new.data_fingerprint:
        differing.append("data set")
    if old.vae.fingerprint != new.vae.fingerprint:
        differing.append("VAE")
    if differing:
        raise CheckpointError(
            f"{out} holds a run with a different {'; '.join(differing)}; choose another --out, "
            "or overwrite it with --restart"
        )


def _encode(
    data: DataSet, cache: LatentCache, vae: VaeEncoder, *, config: TrainConfig, progress: Progress
) -> TrainingData:
    views = training_views(config)
    wanted = [
        ImageRequest(item.path, digest, views if item.split == "train" else (0,))
        for item, digest in zip(data.items, data.hashes, strict=True)
    ]
    cache.fill(vae, wanted, config.threads, progress=progress)
    train_digests = [data.hashes[i] for i in data.indices("train")]
    val_digests = [data.hashes[i] for i in data.indices("val")]
    return TrainingData(
        LatentSet(cache.table(train_digests, views), data.labels("train")),
        LatentSet(cache.table(val_digests, [0]), data.labels("val")),
    )


def _pixels(data: DataSet, info: RunInfo, progress: Progress) -> PixelData:
    cache = PixelCache(Path(info.cache), info.spec.image_size)
    wanted = {
        split: [ImageRequest(data.items[i].path, data.hashes[i], (0,)) for i in data.indices(split)]
        for split in ("train", "val")
    }
    cache.fill([image for images in wanted.values() for image in images], info.config.threads, progress=progress)
    tables = {split: cache.table([image.digest for image in images], [0]) for split, images in wanted.items()}
    return PixelData(
        PixelSet(tables["train"], data.labels("train")),
        PixelSet(tables["val"], data.labels("val")),
    )
