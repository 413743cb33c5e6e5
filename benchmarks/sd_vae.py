"""The whole Detector with Stable Diffusion's VAE encoder at 256 pixels, against the same networks in eager PyTorch.

    python benchmarks/sd_vae.py [--rounds 7] [--threads N]

Both networks have random weights: the time does not depend on them. The Detector (preprocess, VAE encoder, noising,
leak encoder, decision) and eager PyTorch (VAE encoder, noising, leak encoder) run in turn in one process with the same
number of threads. Needs the train extra.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from sd_networks import Networks, eager, write
from timing import in_turn

from leakrt.cli.console import table
from leakrt.runtime.detector import Detector
from leakrt.runtime.threads import resolve_threads

TARGET = 0.85


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    threads = resolve_threads(args.threads)
    torch.set_num_threads(threads)
    networks = Networks.random()
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        detector = Detector.load(
            write(Path(folder) / "bundle", networks, frame), backend="onnxruntime", threads=threads
        )
    taken = in_turn({"ours": lambda: detector.check(frame), "theirs": eager(networks)}, args.rounds)
    ours, theirs = (np.median(taken[name]) for name in ("ours", "theirs"))
    measured = f"{ours / theirs:.2f}  ({ours:.0f} / {theirs:.0f} ms, {threads} threads)"
    print(table([("figure", "measured", "target"), ("Detector.check / eager torch", measured, f"at most {TARGET}")]))


if __name__ == "__main__":
    main()
