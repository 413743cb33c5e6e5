"""Bundles of several precisions whose graphs can be made to fail on bright images. Needs onnx."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from acceptance_figures import results_with_figures
from bundles import TINY_SPEC, bundle_files, leak_encoder, noise_image, vae_encoder

from leakrt.core.bounds import Bounds
from leakrt.core.bundle import Golden, density_name, graph_name, write_bundle
from leakrt.core.decision import Decision

SPEC = TINY_SPEC
BRIGHT = np.full((60, 52, 3), 250, np.uint8)  # what `broken` fails on; its noise keeps it from being flat
BRIGHT[::3, ::5] = 225
BOUNDS = Bounds(latent=12.0, latent_rms_low=0.01, latent_rms_high=6.0, latent_edge=0.5, embedding=60.0, scores=400.0)


def broken(model: bytes, output: str, value: float) -> bytes:
    """The graph with `output` replaced by one value for what BRIGHT gives it.

    The mean of its image is 0.95, of noise images about 0; that of its noised latents is -2.9, of theirs over -2.3.
    """
    import onnx
    from onnx import helper, numpy_helper

    parsed = onnx.load_model_from_string(model)
    for node in parsed.graph.node:
        node.output[:] = [f"{name}_right" if name == output else name for name in node.output]
    is_image = parsed.graph.input[0].name == "image"
    weights = {"limit": np.float32(0.6 if is_image else -2.5), "wrong": np.float32(value)}
    parsed.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in weights.items())
    rank = len(parsed.graph.input[0].type.tensor_type.shape.dim)
    wanted = len(next(o for o in parsed.graph.output if o.name == output).type.tensor_type.shape.dim)
    mean = helper.make_node("ReduceMean", [parsed.graph.input[0].name], ["mean"], axes=list(range(1, rank)), keepdims=1)
    flat = helper.make_node("Reshape", ["mean", "flat_shape"], ["flat_mean"])
    parsed.graph.initializer.append(numpy_helper.from_array(np.int64([-1] + [1] * (wanted - 1)), "flat_shape"))
    parsed.graph.node.extend(
        [
            mean,
            flat,
            helper.make_node("Greater" if is_image else "Less", ["flat_mean", "limit"], ["bad"]),
            helper.make_node("Where", ["bad", "wrong", f"{output}_right"], [output]),
        ]
    )
    return parsed.SerializeToString()


def guarded_bundle(
    path: Path,
    broken_in: Mapping[str, tuple[str, str, float]],
    *,
    precisions: Sequence[str] = ("fp32", "fp16", "int8"),
    gates: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    refused: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write a bundle whose precisions are all float32 graphs of the same weights.

    `broken_in`: precision to (graph, output, value), failing as `broken` does. `gates`: precision to its gate block;
    without it all passed on ONNX Runtime. A gate's figures hold, and int8 is what it should be, where it says no other.
    `refused`: precision to the reasons of a mark.
    """
    shape = (len(SPEC.class_names), SPEC.prototypes_per_class, SPEC.embedding_dim)
    prototypes = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    graphs = {"vae_encoder": vae_encoder(SPEC, seed=0), "leak_encoder": leak_encoder(SPEC, prototypes, seed=1)}
    files = bundle_files(SPEC, graphs["vae_encoder"], graphs["leak_encoder"], prototypes=prototypes)
    golden = Golden.from_bytes(files["golden.npz"])
    decision = replace(Decision.from_json(json.loads(files["decision.json"])["fp32"]), bounds=BOUNDS)
    for precision in precisions:
        for stem, model in graphs.items():
            where, output, value = broken_in.get(precision, ("", "", 0.0))
            files[graph_name(stem, precision)] = broken(model, output, value) if where == stem else model
        files[density_name(precision)] = files[density_name("fp32")]
    rounded = replace(decision, tolerance={"onnxruntime": 0.02})  # as calibration states it
    decisions = {p: (decision if p == "fp32" else rounded).to_json() for p in precisions}
    files["decision.json"] = json.dumps(decisions).encode()
    files["golden.npz"] = Golden(
        golden.image,
        dict.fromkeys(precisions, golden.scores["fp32"]),
        dict.fromkeys(precisions, golden.embedding["fp32"]),
    ).to_bytes()
    passed = {p: {"onnxruntime": {"passed": True}} for p in precisions if p != "fp32"} if gates is None else gates
    told = {p: {"int8_share": 0.95, "gate": results_with_figures(p, gate)} for p, gate in passed.items()}
    for precision, reasons in (refused or {}).items():
        told[precision]["refused"] = list(reasons)
    write_bundle(path, SPEC, files, provenance={"variants": told})
    return path


def frames(count: int, bad: int) -> list[npt.NDArray[np.uint8]]:
    """Noise images, the one at `bad` bright."""
    return [BRIGHT if i == bad else noise_image(i) for i in range(count)]
