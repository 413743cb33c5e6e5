"""What other cameras do to each branch of a run: false alarms and misses of the latent branch, the pixel branch, both.

    python benchmarks/branch_cameras.py RUN LEAKBENCH [--made 12]

Takes all real validation images and --made of each maker. The threshold is the 95 % quantile of P(generated) over the
real images as stored, for each branch by itself, so that columns compare.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from leakrt import _core
from leakrt.cli.console import table
from leakrt.core.decision import probabilities
from leakrt.core.images import read_image
from leakrt.core.noising import Noising
from leakrt.train.image_latents import encode_images
from leakrt.train.labelled import labelled_images
from leakrt.train.perturbations import CAMERAS, perturbed
from leakrt.train.run import Run
from leakrt.train.two_branches import TwoBranchEncoder

SHOWN = ("as stored", "soft lens", "webcam", "denoised", "dark background")
BATCH = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--made", type=int, default=12, help="images of each maker")
    args = parser.parse_args()
    run = Run.open(args.run)
    found = labelled_images(args.data, "val")
    real_class, kept = run.spec.real_class, []
    for name in dict.fromkeys(found.labels):
        own = [path for path, label in zip(found.paths, found.labels, strict=True) if label == name]
        kept += [(path, name == real_class) for path in (own if name == real_class else own[: args.made])]
    images, real = [read_image(path).pixels for path, _ in kept], np.array([is_real for _, is_real in kept])
    rows: list[tuple[str, ...]] = [("false alarms (not noticed)", "latent branch", "pixel branch", "both")]
    thresholds: list[float] = []
    for name in SHOWN:
        generated = _generated(run, [perturbed(name, CAMERAS[name], image) for image in images])
        thresholds = thresholds or [float(np.quantile(values[real], 0.95)) for values in generated]
        cells = [
            f"{np.mean(v[real] >= t):.0%} ({np.mean(v[~real] < t):.0%})"
            for v, t in zip(generated, thresholds, strict=True)
        ]
        rows.append((name, *cells))
    print(table(rows))


def _generated(run: Run, images: list[np.ndarray]) -> list[np.ndarray]:
    """Return P(generated), float64 [N], by the latent branch, the pixel branch and both."""
    encoder, vae, noising, side = run.encoder(), run.vae(), Noising(run.spec), run.spec.image_size
    assert isinstance(encoder, TwoBranchEncoder)
    parts: list[list[np.ndarray]] = [[], []]
    for start in range(0, len(images), BATCH):
        batch = np.empty((len(images[start : start + BATCH]), 3, side, side), np.float32)
        for out, image in zip(batch, images[start : start + BATCH], strict=True):
            _core.preprocess(np.ascontiguousarray(image), out)
        noised = torch.from_numpy(noising(encode_images(vae, encoder, batch)))
        with torch.inference_mode():
            for found, branch, channels in zip(parts, encoder.branches, run.spec.branches, strict=True):
                found.append(branch(noised[:, :, channels].contiguous())[0].numpy())
    latent, pixel = (np.concatenate(part) for part in parts)
    first, second = encoder.weights.tolist()
    every = (latent, pixel, first * latent + second * pixel)
    return [1.0 - probabilities(scores, 1.0)[:, run.spec.real_index] for scores in every]


if __name__ == "__main__":
    main()
