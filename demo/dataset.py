"""The quickstart's data set: rendered portraits, photographed by a simulated camera and copied by generators.

    FOLDER/data/{train,val,test}/{real,transposed,nearest,pixelshuffle}/0001.jpg
    FOLDER/open/unseen/0001.jpg

A photograph and its copies are in one split and share one JPEG setting, so that neither reveals a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import storage_error
from ..core.progress import Progress, silent
from .camera import Compression, draw_compression, draw_exposure, encode_jpeg, photograph
from .decoders import SEEN, UNSEEN, Generators, Pictures, train_generators
from .scenes import render_scene

REAL = "real"
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class SyntheticPlan:
    """The size of the data set. Counts are scenes, before generators copy them."""

    size: int = 128  # pixels
    train: int = 220
    val: int = 80
    test: int = 60
    generator_steps: int = 200  # few, so that traces are coarse enough for a small VAE to keep
    seed: int = 0

    @property
    def scenes(self) -> int:
        """Number of scenes in all splits."""
        return self.train + self.val + self.test


def make_data_set(folder: Path, plan: SyntheticPlan, *, progress: Progress = silent) -> None:
    """Write the data set to `folder`. The same plan gives the same bytes on one machine. Raises StorageError."""
    photographs, compressions = take_photographs(plan, progress=progress)
    generators = train_generators(photographs[: plan.train], plan.generator_steps, plan.seed, progress=progress)
    bounds = {"train": (0, plan.train), "val": (plan.train, plan.train + plan.val), "test": (-plan.test, None)}
    for split, (start, end) in bounds.items():
        chosen = slice(start, end)
        for name in (REAL, *SEEN):
            pictures = _pictures(name, photographs[chosen], generators)
            _write(folder / "data" / split / name, pictures, compressions[chosen])
    _write(
        folder / "open" / UNSEEN, _pictures(UNSEEN, photographs[-plan.test :], generators), compressions[-plan.test :]
    )


def take_photographs(plan: SyntheticPlan, *, progress: Progress = silent) -> tuple[Pictures, list[Compression]]:
    """Return photographs of all scenes, uint8 RGB [N, S, S, 3], and the JPEG setting of each."""
    photographs = np.empty((plan.scenes, plan.size, plan.size, 3), np.uint8)
    compressions = []
    for index in range(plan.scenes):
        rng = np.random.default_rng([plan.seed, index])
        photographs[index] = photograph(render_scene(rng, plan.size), draw_exposure(rng), rng)
        compressions.append(draw_compression(rng))
        progress("taking photographs", index + 1, plan.scenes)
    return photographs, compressions


def _pictures(name: str, photographs: Pictures, generators: Generators) -> Pictures:
    if name == REAL:
        return photographs
    parts = [generators.generate(name, photographs[i : i + _BATCH]) for i in range(0, len(photographs), _BATCH)]
    return np.concatenate(parts)


def _write(folder: Path, pictures: Pictures, compressions: list[Compression]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, (picture, compression) in enumerate(zip(pictures, compressions, strict=True)):
            (folder / f"{index:04d}.jpg").write_bytes(encode_jpeg(picture, compression))
        for left_over in folder.glob("[0-9][0-9][0-9][0-9].jpg"):  # from an earlier, larger plan
            if int(left_over.stem) >= len(pictures):
                left_over.unlink()
    except OSError as error:
        raise storage_error(folder, error) from error
