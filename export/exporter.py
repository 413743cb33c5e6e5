"""Export of a finished run to a bundle: graphs, parity, thresholds, golden image, exemplars."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.bounds import Bounds, observe
from ..core.bundle import TRAINING_NAME, Golden, density_name, graph_name, write_bundle
from ..core.errors import DataError, ImageError, StorageError
from ..core.exclusive import changing
from ..core.files import make_folder
from ..core.graphs import leak_encoder_graph, vae_encoder_graph
from ..core.images import read_image
from ..core.judging import Judge
from ..core.outputs import Array, LeakOutputs
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from ..core.versions import installed_versions
from ..train.evaluation import Evaluation, evaluate
from ..train.fit import FittedRun, fit_run
from ..train.leakage import record_of
from ..train.predict import verdicts
from ..train.run import Run, RunItem
from ..train.thresholds import FALSE_ALARM_RATE
from ..train.vae import VaeEncoder
from .leak_graph import export_leak_encoder
from .parity import GraphParity, Graphs, Source, measure, run_graphs
from .pixel_graph import append_pixel_encoder
from .sessions import GraphSession
from .thumbnails import make_exemplars, nearest_images
from .vae_graph import export_vae
from .weights import weights_file

PRECISION = "fp32"
PARITY_IMAGES = 64
_BACKEND = "onnxruntime"  # that parity is measured on
_GOLDEN_SIDE = 1024  # pixels; larger golden images are cropped, since every bundle contains one
_PACKAGES = ("leakrt", "torch", "onnx", "onnxruntime", "onnxslim", "numpy")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A written bundle with its measurements."""

    path: Path
    parity: GraphParity
    validation: Evaluation
    judge: Judge


def export_run(
    run: Run,
    out: Path,
    *,
    rate: float = FALSE_ALARM_RATE,
    exemplars: bool = True,
    progress: Progress = silent,
) -> Exported:
    """Export a finished run to the bundle `out`, a zip if its name ends in .zip, else a folder.

    An existing bundle at `out` is replaced once everything else has succeeded. Without `exemplars` the bundle contains
    no image of the data set, and its golden image is synthetic.

    Raises CheckpointError for an unfinished run, ModelError if the VAE is missing or a graph can't be exported,
    DataError if images of the run are missing, ParityError, UsageError, StorageError.
    """
    run.require_finished()
    check_target(out)
    vae = run.vae()
    fitted = fit_run(run, rate=rate, progress=progress)
    files = export_graphs(vae, fitted, progress=progress)
    graphs = load_graphs(files, run)
    source = Source(vae, fitted.encoder)
    parity = measure(source, graphs, fitted.judge, images=_parity_images(run, progress), progress=progress)
    validation, golden_item, bounds = _validate(fitted, progress)
    golden = _make_golden(graphs, run.spec, _golden_image(golden_item) if exemplars else drawn_image(run.spec))
    decision = replace(fitted.judge.decision, tolerance={_BACKEND: parity.tolerance}, bounds=bounds)
    files |= {
        density_name(PRECISION): fitted.judge.support.to_bytes(),
        "decision.json": json.dumps({PRECISION: decision.to_json()}, indent=2).encode(),
        "golden.npz": golden.to_bytes(),
    }
    files |= weights_file(files)
    if all(item.pixels for item in run.of("train")):
        files[TRAINING_NAME] = record_of(run).to_bytes()
    if exemplars:
        files["exemplars.npz"] = _exemplars(fitted, progress)
    make_folder(out.resolve().parent)
    with changing(out, progress):
        write_bundle(out, run.spec, files, provenance=provenance(run, parity, validation))
    return Exported(path=out, parity=parity, validation=validation, judge=fitted.judge)


def check_target(out: Path) -> None:
    """Raise StorageError if `out` exists and is not a bundle."""
    if out.is_dir():
        replaceable = (out / "manifest.json").is_file() or not any(out.iterdir())
    else:
        replaceable = not out.exists() or out.suffix == ".zip"
    if not replaceable or out.is_symlink():
        raise StorageError(f"{out} exists and is not a bundle; choose another path for --out")


def export_graphs(vae: VaeEncoder, fitted: FittedRun, *, progress: Progress = silent) -> dict[str, bytes]:
    """Return both graphs by their names in the bundle. Raises ModelError."""
    progress("export graphs", 0, 2)
    vae_encoder = append_pixel_encoder(export_vae(vae, fitted.run.spec), fitted.encoder, fitted.run.spec)
    progress("export graphs", 1, 2)
    leak_encoder = export_leak_encoder(fitted.encoder, fitted.run.spec)
    progress("export graphs", 2, 2)
    return {graph_name("vae_encoder", PRECISION): vae_encoder, graph_name("leak_encoder", PRECISION): leak_encoder}


def load_graphs(files: dict[str, bytes], run: Run) -> Graphs:
    """Load both graphs into ONNX Runtime. Raises ModelError."""
    threads = run.info.config.threads
    specs = (vae_encoder_graph(run.spec), leak_encoder_graph(run.spec))
    return Graphs(*(GraphSession(s, files[graph_name(s.stem, PRECISION)], threads) for s in specs))


def provenance(run: Run, parity: GraphParity, validation: Evaluation) -> dict[str, Any]:
    """Return the provenance for a bundle's manifest.

    It contains no absolute path and no time, so that equal runs give equal bundles.
    """
    vae = run.info.vae
    return {
        "data_fingerprint": run.info.data_fingerprint,
        "data_counts": run.info.counts,
        "training": run.info.config.to_json(),
        "vae": {"kind": vae.kind, "name": Path(vae.source).name, "scale": vae.scale, "fingerprint": vae.fingerprint},
        "metrics": {"split": "val", **validation.to_json()},
        "parity": {PRECISION: {"backend": _BACKEND, **parity.to_json()}},
        "versions": {"training": run.info.versions, "export": installed_versions(_PACKAGES)},
    }


def drawn_image(spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Return a synthetic golden image without a person: soft colours and seeded noise, uint8 [S + 13, S + 40, 3]."""
    height, width = spec.image_size + 13, spec.image_size + 40
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(spec.image_size)
    soft = np.stack([120 + 90 * np.sin(3 * x + k) * np.cos(2 * y - k) for k in range(3)], axis=-1)
    noise = np.empty((1, 1, height, width, 3), np.float32)
    _core.fill_normals(spec.noise_seed, 0, noise)
    return np.asarray(np.clip(np.rint(soft + 8 * noise[0, 0]), 0, 255), np.uint8)


def _parity_images(run: Run, progress: Progress) -> list[Array]:
    """Return preprocessed validation images. Items are sorted by class, so even spacing covers all classes."""
    items = run.of("val")
    chosen = np.unique(np.linspace(0, len(items) - 1, min(PARITY_IMAGES, len(items))).round().astype(int))
    images = []
    for i in chosen:
        images.append(np.empty((3, run.spec.image_size, run.spec.image_size), np.float32))
        _core.preprocess(_read(items[i]), images[-1])
        progress("reading images", len(images), len(chosen))
    return images


def _validate(fitted: FittedRun, progress: Progress) -> tuple[Evaluation, RunItem, Bounds]:
    """Return the evaluation on validation images, the most confidently correct one of them, and their bounds."""
    run, judge = fitted.run, fitted.judge
    items, outputs = run.of("val"), fitted.predict("val", progress=progress)
    found = verdicts(judge, [item.path for item in items], outputs)
    labels = [run.spec.class_names[item.label] for item in items]
    shares = [verdict.scores[label] for verdict, label in zip(found, labels, strict=True)]
    bounds = observe(fitted.latents("val", progress=progress), outputs)
    return evaluate(found, labels, [], spec=run.spec, decision=judge.decision), items[int(np.argmax(shares))], bounds


def _golden_image(item: RunItem) -> npt.NDArray[np.uint8]:
    """Return the image, cropped to its centre if it is large."""
    pixels = _read(item)
    height, width = pixels.shape[:2]
    side = min(_GOLDEN_SIDE, height, width)
    if max(height, width) <= _GOLDEN_SIDE:
        return pixels
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _make_golden(graphs: Graphs, spec: ModelSpec, image: npt.NDArray[np.uint8]) -> Golden:
    square = np.empty((1, 3, spec.image_size, spec.image_size), np.float32)
    _core.preprocess(image, square[0])
    _, outputs = run_graphs(graphs, spec, square)
    return Golden(image, {PRECISION: outputs.scores[0]}, {PRECISION: outputs.embedding[0]})


def _exemplars(fitted: FittedRun, progress: Progress) -> bytes:
    run = fitted.run
    outputs: LeakOutputs = fitted.predict("train", progress=progress)
    nearest = nearest_images(
        fitted.judge.support, outputs, run.labels("train").tolist(), branches=len(run.spec.branches)
    )
    paths: Sequence[str] = [item.path for item in run.of("train")]
    try:
        return make_exemplars(nearest, paths).to_bytes()
    except ImageError as error:
        raise DataError(
            f"a training image that serves as an exemplar is missing: {error}; restore it or use --no-exemplars"
        ) from error


def _read(item: RunItem) -> npt.NDArray[np.uint8]:
    try:
        return read_image(item.path).pixels
    except ImageError as error:
        raise DataError(f"a validation image for the parity check can't be read: {error}; restore the data") from error
