"""The whole Detector with Stable Diffusion's VAE encoder at 256 pixels, against the same networks in eager PyTorch.

    python benchmarks/sd_vae.py [--rounds 7] [--threads N]

Both networks have random weights: the time does not depend on them. The Detector (preprocess, VAE encoder, noising,
leak encoder, decision) and eager PyTorch (VAE encoder, noising, leak encoder) run in turn in one process with the same
number of threads. Needs the train extra.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from timing import milliseconds

from leakrt.cli.console import table
from leakrt.core import noise
from leakrt.core.bundle import Golden, density_name, graph_name, write_bundle
from leakrt.core.decision import Decision
from leakrt.core.graphs import vae_encoder_graph
from leakrt.core.schedule import step_coefficients
from leakrt.core.spec import ModelSpec
from leakrt.core.support import Support
from leakrt.export.leak_graph import export_leak_encoder
from leakrt.export.torch_export import export_module
from leakrt.export.vae_graph import ScaledEncoder
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
from leakrt.runtime.detector import Detector
from leakrt.runtime.pipeline import Pipeline
from leakrt.runtime.threads import resolve_threads
from leakrt.train.config import TrainConfig
from leakrt.train.leak_encoder import LeakEncoder

TARGET = 0.85
# stabilityai/sd-vae-ft-mse, config.json
SD_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    threads = resolve_threads(args.threads)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    spec = ModelSpec(class_names=("real", "generated"), real_class="real", image_size=256)
    vae, leak = ScaledEncoder(AutoencoderKL(**SD_VAE), spec.vae_scale).eval(), LeakEncoder(spec, TrainConfig()).eval()
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        detector = Detector.load(
            _write(Path(folder) / "bundle", spec, vae, leak, frame), "onnxruntime", threads=threads
        )
    eager = _eager(spec, vae, leak)
    pairs = np.array(
        [(milliseconds(lambda: detector.check(frame)), milliseconds(eager)) for _ in range(args.rounds + 1)][1:]
    )
    ours, theirs = np.median(pairs, axis=0)
    measured = f"{ours / theirs:.2f}  ({ours:.0f} / {theirs:.0f} ms, {threads} threads)"
    print(table([("figure", "measured", "target"), ("Detector.check / eager torch", measured, f"at most {TARGET}")]))


def _write(path: Path, spec: ModelSpec, vae: ScaledEncoder, leak: LeakEncoder, frame: np.ndarray[Any, Any]) -> Path:
    """A whole bundle of the two networks, its golden outputs taken from its own graphs."""
    graphs = export_module(vae, vae_encoder_graph(spec)), export_leak_encoder(leak, spec)
    identity = np.eye(spec.embedding_dim, dtype=np.float32)
    prototypes = np.asarray(leak.prototypes.detach().numpy(), np.float32)
    support = Support(np.zeros(spec.embedding_dim, np.float32), identity, identity, 1.0, prototypes)
    pipeline = Pipeline(spec, support, OnnxRuntimeBackend(Variant(spec, "fp32", *graphs), 0), 0)
    image = pipeline.image_buffer()
    pipeline.preprocess(frame, image)
    outputs = pipeline.run([image]).outputs
    decision = Decision(1.0, 0.9, 0.5, -1e9, 0.05, 100, 5)
    files = {
        graph_name("vae_encoder", "fp32"): graphs[0],
        graph_name("leak_encoder", "fp32"): graphs[1],
        density_name("fp32"): support.to_bytes(),
        "decision.json": json.dumps({"fp32": decision.to_json()}).encode(),
        "golden.npz": Golden(frame, {"fp32": outputs.scores[0]}, {"fp32": outputs.embedding[0]}).to_bytes(),
    }
    write_bundle(path, spec, files, {"trained_on": "nothing: random weights"})
    return path


def _eager(spec: ModelSpec, vae: ScaledEncoder, leak: LeakEncoder) -> Callable[[], Any]:
    """The same networks as they are trained, on the same noise."""
    picture = torch.zeros(1, 3, spec.image_size, spec.image_size)
    bank = torch.from_numpy(noise.normals(spec.noise_seed, 0, spec.draws, len(spec.timesteps), spec.latent_shape))
    steps = torch.from_numpy(step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize))
    a, s = (steps[None, :, i, None, None, None] for i in (0, 1))

    def run() -> Any:
        with torch.inference_mode():
            return leak(a * vae(picture)[:, None] + s * bank)

    return run


if __name__ == "__main__":
    main()
