"""The RUN folder of a training run.

run.json           spec, training configuration, VAE, data fingerprint and counts, versions, whether it is finished
items.json         every image with its class, split and hash
best.safetensors   weights of the epoch with the best validation macro AUC
last.safetensors   weights, optimiser and history of the last complete epoch
metrics.csv        one row per epoch; tensorboard/ holds the same if TensorBoard is installed
decision.json, density.safetensors   fitted after training (train/fit.py)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..core.errors import BundleError, CheckpointError, DataError, LeakRTError
from ..core.fields import mistyped
from ..core.files import atomic_write, read_bounded
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from .checkpoint import Checkpoint
from .config import TrainConfig
from .contents import Content
from .data import DataSet, Item, hash_image
from .latents import VIEW_COUNTS, LatentCache, copy_views
from .layout import SPLITS, Split
from .metrics_log import EpochMetrics, read_metrics
from .record_cache import ImageRequest
from .trainer import BEST
from .two_branches import Encoder, make_encoder
from .vae import Array, VaeDescription, VaeEncoder, reopen_vae

FORMAT_VERSION = 1
RUN_FILE, ITEMS_FILE = "run.json", "items.json"
_RUN_LIMIT, _ITEMS_LIMIT = 4 << 20, 1 << 30  # bytes; an item takes about 400
_DIGEST = re.compile("[0-9a-f]{64}")
_AGAIN = "train again with --restart"


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Contents of `run.json`."""

    spec: ModelSpec
    config: TrainConfig
    vae: VaeDescription
    data_root: str
    data_fingerprint: str
    counts: dict[str, dict[str, int]]  # split to class name to images
    cache: str  # folder of the latent cache
    versions: dict[str, str]
    finished: bool

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        parts = {"spec": self.spec.to_json(), "config": self.config.to_json(), "vae": self.vae.to_json()}
        return {"format_version": FORMAT_VERSION, **asdict(self), **parts}

    @classmethod
    def read(cls, path: Path) -> RunInfo:
        """Read `run.json`. Raises CheckpointError that states the problem."""
        data = _read_json(path, _RUN_LIMIT)
        _check_version(path, data.pop("format_version", None) if isinstance(data, dict) else None)
        if data.keys() != cls.__dataclass_fields__.keys():
            raise CheckpointError(f"{path} lacks fields or has unknown ones; train again with this version")
        for problem in mistyped(cls, data):
            raise CheckpointError(f"{path}: {problem}; {_AGAIN}")
        try:
            data["spec"] = ModelSpec.from_json(data["spec"])
            data["config"] = TrainConfig.from_json(data["config"])
            data["vae"] = VaeDescription.from_json(data["vae"])
        except (BundleError, CheckpointError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        info = cls(**data)
        if not all(map(_is_path, (info.cache, info.data_root, info.vae.source))):
            raise CheckpointError(f"{path} contains an invalid file name; {_AGAIN}")
        return info

    def write(self, folder: Path) -> None:
        """Write `run.json` into a run's folder. Raises StorageError."""
        atomic_write(folder / RUN_FILE, json.dumps(self.to_json(), indent=2).encode())


@dataclass(frozen=True, kw_only=True)
class RunItem:
    """One image of a run."""

    path: str
    label: int  # class index
    split: Split
    digest: str  # SHA-256 of the file
    pixels: str = ""  # content hashes (train/contents.py); empty in runs that don't record them
    look: str = ""


_FIELDS = frozenset(RunItem.__dataclass_fields__)
_OPTIONAL = frozenset({"pixels", "look"})


class Run:
    """A training run on disk. Attributes: `path`, `info`, `items`."""

    def __init__(self, path: Path, info: RunInfo, items: tuple[RunItem, ...]) -> None:
        self.path, self.info, self.items = path, info, items

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read the run at `path`. Raises CheckpointError if there is none or it is damaged."""
        folder = Path(path)
        if not (folder / RUN_FILE).is_file():
            raise CheckpointError(f"{folder} is not a training run: it has no {RUN_FILE}; make one with: leakrt train")
        info = RunInfo.read(folder / RUN_FILE)
        return cls(folder, info, _read_items(folder / ITEMS_FILE, len(info.spec.class_names)))

    @property
    def spec(self) -> ModelSpec:
        """The detector's spec."""
        return self.info.spec

    def require_finished(self) -> None:
        """Raise CheckpointError if training is not finished."""
        if not self.info.finished:
            raise CheckpointError(f"{self.path} is not finished; run the same leakrt train command again to resume")

    def encoder(self) -> Encoder:
        """Load the leak encoder with the best weights, in evaluation mode. Raises CheckpointError."""
        tensors = dict(Checkpoint.read(self.path / BEST).tensors)
        with torch.device("meta"):  # check shapes before allocating: sizes in run.json are untrusted
            wanted = make_encoder(self.info.spec, self.info.config).state_dict()
        differing = sorted(k for k in wanted.keys() | tensors.keys() if _shape(wanted, k) != _shape(tensors, k))
        if differing:
            reason = f"{len(differing)} tensors are missing, unknown or of another shape, such as {differing[0]}"
            raise CheckpointError(f"{self.path / BEST} does not match the run ({reason}); train again with --restart")
        encoder = make_encoder(self.info.spec, self.info.config)
        encoder.load_state_dict(tensors)
        return encoder.eval()

    def best(self) -> EpochMetrics:
        """Return the metrics of the epoch with the best weights. Raises CheckpointError."""
        try:
            return read_metrics(Checkpoint.read(self.path / BEST).state)
        except TypeError as error:
            raise CheckpointError(f"{self.path / BEST} has no metrics; train again with --restart") from error

    def of(self, split: Split) -> list[RunItem]:
        """Return the images of one split, in the order of `labels` and `latents`."""
        return [item for item in self.items if item.split == split]

    def labels(self, split: Split) -> npt.NDArray[np.int64]:
        """Return the class indices of one split, int64 [N]."""
        return np.array([item.label for item in self.of(split)], np.int64)

    def requests(self, split: Split) -> list[ImageRequest]:
        """Return the image files of one split, each in its plain view."""
        return [ImageRequest(Path(item.path), item.digest, (0,)) for item in self.of(split)]

    def vae(self) -> VaeEncoder:
        """Open the VAE that the run was trained with. Raises ModelError if it was moved or changed."""
        return reopen_vae(self.info.vae)

    def latents(self, split: Split, *, progress: Progress = silent) -> Array:
        """Return the VAE's latents of one split from the cache, float32 [N, 4, S/8, S/8]; missing ones are encoded.

        Raises DataError if an image to encode was moved or changed, ModelError if the VAE was.
        """
        wanted = self.requests(split)
        cache = open_cache(Path(self.info.cache), self.info.vae)
        missing = cache.missing(wanted)
        if missing:
            _check_present(missing)
            cache.fill(self.vae(), missing, self.info.config.threads, progress=progress)
        return np.asarray(cache.table([image.digest for image in wanted], [0]).plain(), np.float32)


def open_cache(root: Path, vae: VaeDescription) -> LatentCache:
    """Open or create the latent cache of a VAE. Raises StorageError."""
    side = vae.image_size // 8
    return LatentCache(root, vae.fingerprint, (4, side, side))


def training_views(config: TrainConfig) -> tuple[int, ...]:
    """Return the views of a training image that the configuration selects, then those of its augmented copies."""
    return (*range(VIEW_COUNTS[config.views]), *copy_views(config.copies))


def write_items(folder: Path, data: DataSet) -> tuple[RunItem, ...]:
    """Write `items.json`. Raises StorageError."""
    rows = zip(data.items, data.hashes, data.contents, strict=True)
    items = tuple(_run_item(item, digest, content) for item, digest, content in rows)
    atomic_write(folder / ITEMS_FILE, json.dumps([asdict(item) for item in items]).encode())
    return items


def _run_item(item: Item, digest: str, content: Content) -> RunItem:
    return RunItem(
        path=str(item.path.resolve()),
        label=item.class_index,
        split=item.split,
        digest=digest,
        pixels=content.pixels,
        look=content.look,
    )


def _read_items(path: Path, classes: int) -> tuple[RunItem, ...]:
    rows = _read_json(path, _ITEMS_LIMIT)
    if not isinstance(rows, list) or not all(_is_item(row, classes) for row in rows):
        raise CheckpointError(f"{path} is damaged: it must list images with path, label, split and digest; {_AGAIN}")
    return tuple(RunItem(**row) for row in rows)


def _is_item(row: object, classes: int) -> bool:
    if not isinstance(row, dict) or not (_FIELDS - _OPTIONAL <= row.keys() <= _FIELDS) or mistyped(RunItem, row):
        return False
    if any(row.get(name) and _DIGEST.fullmatch(row[name]) is None for name in _OPTIONAL):
        return False
    whole = 0 <= row["label"] < classes and row["split"] in SPLITS and _is_path(row["path"])
    return whole and _DIGEST.fullmatch(row["digest"]) is not None


def _is_path(text: str) -> bool:
    """Whether the text is a valid file name: not empty, encodable and without NUL."""
    try:
        return text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _check_version(path: Path, version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CheckpointError(f"{path} is not a training run: it states no format version; {_AGAIN}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {version}, this LeakRT reads up to {FORMAT_VERSION}; upgrade it: pip install -U leakrt"
        )


def _shape(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _check_present(missing: Sequence[ImageRequest]) -> None:
    for image in missing:
        try:
            same = hash_image(image.path) == image.digest
        except LeakRTError as error:
            raise DataError(f"an image of the run is missing: {error}; restore the data") from error
        if not same:
            raise DataError(f"{image.path} is not the file that the run was trained on; restore the data")


def _read_json(path: Path, limit: int) -> Any:
    try:
        return json.loads(read_bounded(path, limit))
    except OSError as error:
        raise CheckpointError(f"{path} can't be read ({error.strerror}); {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); {_AGAIN}") from error
