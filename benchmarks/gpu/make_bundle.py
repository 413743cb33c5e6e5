"""A bundle with Stable Diffusion's VAE at 256 px and random weights, fp32 and fp16, and what it has to give.

Nothing is fetched and nothing exported: the graphs are those of networks.json. What ONNX Runtime makes of them on the
CPU in float32 lies beside the bundle, for the chains to be compared with. Random weights have no verdicts to test, so
fp16 has passed no acceptance test: `Detector.load` refuses it, and parts load it by name. The tolerances are set by
hand, so that a chain that computes something else is refused.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import networks
import numpy as np
from part import Part

from leakrt.core.bundle import Golden, density_name, graph_name, write_bundle
from leakrt.core.decision import Decision
from leakrt.core.files import sha256_bytes
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.core.outputs import LeakOutputs
from leakrt.core.spec import ModelSpec
from leakrt.core.support import Support
from leakrt.core.weights import WEIGHTS_NAME, Network, to_bytes
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
from leakrt.runtime.pipeline import Pipeline

BACKENDS = ("torch", "tensorrt", "tensorrt_rtx", "onnxruntime")
# Of the largest score. fp16 is compared with fp32 here: random weights keep no margin that a trained head would.
_TOLERANCE = {"fp32": 2e-4, "fp16": 1e-2}
_PROVENANCE = {"trained_on": "nothing: random weights"}
_SIZES = ((256, 256), (300, 260), (1080, 1920), (41, 733))  # of frames: height, width


def main() -> None:
    """Draw, convert, run once on the CPU, write."""
    part = Part(__doc__)
    for module in ("onnx", "onnxruntime"):
        try:
            __import__(module)
        except ImportError as error:
            part.skip(f"{module} is missing ({error})")
    begin = time.perf_counter()
    spec, described, cost = networks.read()
    part.set("flops_per_image", cost)
    stamp, source = part.work / "bundle.stamp", sha256_bytes(networks.PATH.read_bytes() + Path(__file__).read_bytes())
    if stamp.exists() and stamp.read_text() == source:
        part.set("made", "before; nothing has changed")
        part.end()
    stamp.unlink(missing_ok=True)
    drawn = {stem: networks.draw(described[stem], seed) for seed, stem in enumerate(described)}
    graphs = {g.stem: networks.onnx_of(drawn[g.stem], g) for g in (vae_encoder_graph(spec), leak_encoder_graph(spec))}
    halves = {stem: networks.half_of(model, stem) for stem, model in graphs.items()}
    part.set("graphs_s", time.perf_counter() - begin)
    frames = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i, size in enumerate(_SIZES)]
    smooth = [np.ascontiguousarray(np.cumsum(f.astype(np.int64), 0) // 97 % 256).astype(np.uint8) for f in frames]
    blank = _blank(spec)
    backend = OnnxRuntimeBackend(Variant(spec, "fp32", graphs["vae_encoder"], graphs["leak_encoder"]), 0)
    pipeline = Pipeline(spec, blank, backend, threads=0)
    outputs = _run(pipeline, smooth)
    part.set("cpu_s", time.perf_counter() - begin)
    write_bundle(
        part.work / "bundle", spec, _files(spec, drawn, graphs, halves, smooth[0], outputs), provenance=_PROVENANCE
    )
    np.savez(
        part.work / "expected.npz",
        **{f"frame_{i}": frame for i, frame in enumerate(smooth)},
        **{name: getattr(outputs, name) for name in LeakOutputs.__dataclass_fields__},
    )
    part.set("scores", outputs.scores)
    stamp.write_text(source)
    part.set("bytes", sum(path.stat().st_size for path in (part.work / "bundle").iterdir()))
    part.end()


def _run(pipeline: Pipeline, frames: list[np.ndarray]) -> LeakOutputs:
    images = [pipeline.image_buffer() for _ in frames]
    for frame, image in zip(frames, images, strict=True):
        pipeline.preprocess(frame, image)
    return pipeline.run(images).outputs


def _files(
    spec: ModelSpec,
    drawn: dict[str, Network],
    graphs: dict[str, bytes],
    halves: dict[str, bytes],
    frame: np.ndarray,
    outputs: LeakOutputs,
) -> dict[str, bytes]:
    """All files of the bundle; both precisions are held against the fp32 scores of `frame`."""
    reach = max(1.0, float(np.abs(outputs.scores).max()))
    blocks = {
        precision: Decision(
            temperature=1.0,
            alarm_threshold=0.9,
            real_threshold=0.5,
            density_threshold=-1e9,
            false_alarm_rate=0.05,
            validation_real=100,
            validation_alarms=5,
            tolerance=dict.fromkeys(BACKENDS, share * reach),
        ).to_json()
        for precision, share in _TOLERANCE.items()
    }
    golden = Golden(frame, dict.fromkeys(blocks, outputs.scores[0]), dict.fromkeys(blocks, outputs.embedding[0]))
    models = {"fp32": graphs, "fp16": halves}
    variants = {graph_name(stem, p): model for p, both in models.items() for stem, model in both.items()}
    support = _blank(spec).to_bytes()
    return variants | {
        **{density_name(precision): support for precision in blocks},
        "decision.json": json.dumps(blocks).encode(),
        "golden.npz": golden.to_bytes(),
        WEIGHTS_NAME: to_bytes(drawn),
    }


def _blank(spec: ModelSpec) -> Support:
    """A density over five thousand points, as many as a trained bundle keeps at most."""
    dim, rng = spec.embedding_dim, np.random.default_rng(0)
    prototypes = rng.standard_normal((len(spec.class_names), spec.prototypes_per_class, dim)).astype(np.float32)
    points = rng.standard_normal((5000, dim)).astype(np.float32)
    return Support(
        mean=np.zeros(dim, np.float32),
        projection=np.eye(dim, dtype=np.float32),
        points=points,
        bandwidth=1.0,
        prototypes=prototypes,
    )


if __name__ == "__main__":
    main()
