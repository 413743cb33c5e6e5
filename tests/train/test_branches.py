"""Runs with a pixel branch: training, resuming, export and verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from bundles import vae_encoder
from runs import SPEC, write_data

from leakrt.core.errors import CheckpointError
from leakrt.export.exporter import export_run
from leakrt.runtime.detector import Detector
from leakrt.runtime.explain import explain
from leakrt.train.checkpoint import Checkpoint
from leakrt.train.config import PixelConfig, TrainConfig
from leakrt.train.fit import fit_run
from leakrt.train.judge_images import judge_images
from leakrt.train.run import Run
from leakrt.train.session import TrainRequest, train
from leakrt.train.trainer import BEST

TWO = replace(SPEC, branch_channels=4, embedding_dim=24)
CONFIG = TrainConfig(
    epochs=2,
    batch_size=8,
    learning_rate=5e-3,
    widths=(8, 12),
    threads=1,
    views="plain",
    pixel=PixelConfig(epochs=3, widths=(8, 12), crop=32),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "images")


def request_for(root: Path, data: Path, **changes) -> TrainRequest:
    encoder = root / "vae.onnx"
    encoder.write_bytes(vae_encoder(SPEC))
    values = {"config": CONFIG, "spec": TWO, "vae_scale": 0.5, **changes}
    return TrainRequest(data=data, out=root / "run", vae=f"onnx:{encoder}", cache=root / "cache", **values)


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return train(request_for(tmp_path_factory.mktemp("two"), data))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, run):
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    export_run(run, out, rate=0.1)
    return out


@pytest.mark.parametrize("stop", [1, 3, 5], ids=["latent branch", "pixel branch", "last epoch"])
def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path, data, run, stop):
    seen = []

    def interrupt(row):
        seen.append(row)
        if len(seen) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(request_for(tmp_path, data), report=interrupt)
    assert (tmp_path / "run" / "run.json").exists()
    rows = []
    resumed = train(request_for(tmp_path, data), report=rows.append)
    assert len(rows) == 5 - stop
    assert (resumed.path / BEST).read_bytes() == (run.path / BEST).read_bytes()


def test_a_run_resumed_with_another_branch_is_refused(tmp_path, data, run):
    for change in ({"branch_channels": 0, "embedding_dim": 12}, {"branch_channels": 6}):
        request = replace(request_for(tmp_path, data, spec=replace(TWO, **change)), out=run.path)
        with pytest.raises(CheckpointError, match="branch_channels"):
            train(request)


def test_restarting_leaves_nothing_of_the_branches(tmp_path, data):
    train(request_for(tmp_path, data))
    single = request_for(tmp_path, data, spec=SPEC, restart=True)
    train(single)
    assert not list((tmp_path / "run").glob("*-branch"))


def test_the_fused_scores_are_those_of_the_stored_metrics(run):
    fitted = fit_run(run, rate=0.1)
    found = fitted.predict("val").scores.argmax(axis=1) == run.labels("val")
    assert found.mean() == pytest.approx(run.best().val_top1)
    assert fitted.judge.support.prototypes.shape == (3, 2, 24)


def test_a_bundle_gives_the_verdicts_of_its_run(run, bundle, data):
    paths = sorted((data / "test").rglob("*.png"))
    expected = judge_images(fit_run(run, rate=0.1), paths)
    detector = Detector.load(bundle)
    assert detector.spec.latent_shape == (8, 4, 4)
    found = list(detector.check_stream(paths))
    assert [v.verdict for v in found] == [v.verdict for v in expected]
    assert [v.prototype for v in found] == [v.prototype for v in expected]
    assert all(v.prototype.rpartition("/")[2].count("+") == 1 for v in found)
    for one, other in zip(found, expected, strict=True):
        assert list(one.scores.values()) == pytest.approx(list(other.scores.values()), abs=1e-4)


def test_an_explanation_splits_the_evidence_by_branch(bundle, data):
    path = next((data / "test" / "real").glob("*.png"))
    detector = Detector.load(bundle)
    (analysis,) = detector.analyse(path)
    found = explain(detector, analysis)
    assert [name for name, _ in found.branches] == ["VAE latents", "pixels"]
    assert len(found.exemplars) == 2
    assert all(files for _, files in found.exemplars)


def test_the_channels_of_the_pixel_branch_have_unit_variance(run):
    latents = fit_run(run, rate=0.1).latents("train")[:, 4:]
    assert latents.std() == pytest.approx(1.0, abs=0.5)


def test_weights_of_another_shape_are_refused(tmp_path, data, run):
    stored = Checkpoint.read(run.path / BEST)
    tensors = {**stored.tensors, "weights": torch.ones(3)}
    kept = (run.path / BEST).read_bytes()
    try:
        Checkpoint(tensors, stored.state).write(run.path / BEST)
        with pytest.raises(CheckpointError, match="weights"):
            Run.open(run.path).encoder()
    finally:
        (run.path / BEST).write_bytes(kept)


def test_a_damaged_pixel_record_is_read_again(tmp_path, data):
    first = train(request_for(tmp_path, data))
    (pixels,) = (tmp_path / "cache").rglob("pixels.bin")
    size = pixels.stat().st_size
    assert size == 32 * 32 * 3 * (3 * 24 + 3 * 20)
    content = bytearray(pixels.read_bytes())
    content[100] ^= 255
    pixels.write_bytes(bytes(content[: size // 2]))
    weights = (first.path / BEST).read_bytes()
    again = train(replace(request_for(tmp_path, data), restart=True))
    assert pixels.stat().st_size >= size
    assert (again.path / BEST).read_bytes() == weights


def test_pixels_of_a_resampled_image_are_rounded(run):
    (pixels,) = Path(run.info.cache).rglob("pixels.bin")
    values = np.fromfile(pixels, np.uint8)
    assert values.std() > 20
