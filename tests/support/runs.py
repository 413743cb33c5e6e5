"""A small real training run for tests: images of noise in three textures, an ONNX encoder, few epochs. Needs torch."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bundles import vae_encoder

from leakrt.core.spec import ModelSpec

CLASSES = ("blocky", "real", "smooth")
COUNTS = {"train": 24, "val": 20, "test": 6}  # of each class; 19 real faces carry a false-alarm rate of 5 %
SPEC = ModelSpec(
    class_names=("real", "other"),
    real_class="real",
    image_size=32,
    vae_kind="onnx",
    vae_scale=0.5,
    timesteps=(0, 60),
    noise_seed=3,
    draws=2,
    embedding_dim=12,
    prototypes_per_class=2,
)


def texture(name: str, seed: int, *, size: int = 40) -> npt.NDArray[np.uint8]:
    """uint8 [size, size + 3, 3]: noise that is fine (real), in 4 x 4 blocks, smooth, or in stripes (no class)."""
    rng = np.random.default_rng(seed)
    fine = rng.normal(128, 45, (size + 4, size + 8, 3))
    if name == "blocky":
        fine = np.kron(fine[::4, ::4], np.ones((4, 4, 1)))
    elif name == "smooth":
        fine = 128 + 2.2 * (sum(np.roll(fine, (i, j), (0, 1)) for i in range(3) for j in range(3)) / 9 - 128)
    elif name == "stripes":
        fine = np.repeat(fine[:, :1], fine.shape[1], axis=1)
    fine = fine[:size, : size + 3] + rng.normal(0, 6, (size, size + 3, 3))
    return np.clip(fine, 0, 255).astype(np.uint8)


def write_images(folder: Path, name: str, count: int, *, first_seed: int = 0) -> None:
    """`count` images of one texture as PNG files."""
    from PIL import Image

    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(texture(name, first_seed + i)).save(folder / f"{i:03d}.png")


def write_data(root: Path) -> Path:
    """train/ val/ test/ of the three classes; no picture is in two of them."""
    for start, (split, count) in enumerate(COUNTS.items()):
        for k, name in enumerate(CLASSES):
            write_images(root / split / name, name, count, first_seed=10_000 * start + 1_000 * k)
    return root


def train_run(
    root: Path,
    data: Path,
    *,
    restart: bool = False,
    skip_bad: bool = False,
    spec: ModelSpec = SPEC,
    note: Callable[[str], None] = lambda text: None,
    **changes: object,
) -> Path:
    """Train at `root`/run through an ONNX encoder of random weights at `root`/vae.onnx; `changes` to the recipe."""
    from leakrt.train.config import TrainConfig
    from leakrt.train.session import TrainRequest, train

    encoder = root / "vae.onnx"
    encoder.write_bytes(vae_encoder(SPEC))
    recipe = {"epochs": 6, "batch_size": 8, "learning_rate": 5e-3, "widths": (8, 12), "threads": 1, "views": "plain"}
    config = TrainConfig(**{**recipe, **changes})
    vae, cache = f"onnx:{encoder}", root / "cache"
    train(
        TrainRequest(
            data=data,
            out=root / "run",
            vae=vae,
            cache=cache,
            config=config,
            spec=spec,
            vae_scale=0.5,
            restart=restart,
            skip_bad=skip_bad,
        ),
        note=note,
    )
    return root / "run"


def write_autoencoder(folder: Path) -> Any:
    """A small AutoencoderKL of random weights and scale 0.7, saved as diffusers does. Needs diffusers."""
    import diffusers
    import torch

    torch.manual_seed(0)
    module = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.7,
    ).eval()
    module.save_pretrained(folder)
    return module


@functools.cache
def tiny_run() -> Path:
    """The folder that holds data/, vae.onnx, cache/ and run/, made once for all tests; not to be written to."""
    root = Path(tempfile.mkdtemp(prefix="leakrt-run-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    train_run(root, write_data(root / "data"))
    return root


TWO_BRANCHES = replace(SPEC, branch_channels=4, embedding_dim=24)


@functools.cache
def two_branch_bundle() -> Path:
    """A bundle with a pixel branch, made once for all tests; not to be written to."""
    from leakrt.export.exporter import export_run
    from leakrt.train.config import PixelConfig
    from leakrt.train.run import Run

    root = Path(tempfile.mkdtemp(prefix="leakrt-two-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    pixel = PixelConfig(epochs=3, widths=(8, 12), crop=32)
    run = train_run(root, write_data(root / "data"), spec=TWO_BRANCHES, epochs=3, pixel=pixel)
    export_run(Run.open(run), root / "bundle")
    return root / "bundle"
