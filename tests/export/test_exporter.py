"""Export of a finished run to a bundle that gives the same verdicts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxslim")
from runs import COUNTS, tiny_run

from leakrt.core.bounds import MARGIN
from leakrt.core.bundle import Bundle
from leakrt.core.errors import CheckpointError, DataError, ModelError, StorageError
from leakrt.core.exemplars import Exemplars
from leakrt.export.exporter import drawn_image, export_run
from leakrt.runtime.detector import Detector
from leakrt.runtime.finite import Counters
from leakrt.train.fit import open_fitted
from leakrt.train.judge_images import judge_images
from leakrt.train.run import Run


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.open(shutil.copytree(tiny_run() / "run", tmp_path / "run"))


def edit_run(run: Run, old: str, new: str) -> Run:
    """The run with `old` replaced in its run.json."""
    text = (run.path / "run.json").read_text()
    assert old in text
    (run.path / "run.json").write_text(text.replace(old, new))
    return Run.open(run.path)


def test_the_bundle_gives_the_verdicts_of_the_run(run, tmp_path):
    export_run(run, tmp_path / "bundle")
    paths = [Path(item.path) for item in run.of("test")]
    wanted = judge_images(open_fitted(run), paths)
    found = list(Detector.load(tmp_path / "bundle").check_stream(paths))
    assert [(v.verdict, v.label, v.prototype) for v in found] == [(v.verdict, v.label, v.prototype) for v in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-4)
        assert a.log_density == pytest.approx(b.log_density, abs=1e-2)


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_the_next_export_removes_files_left_by_a_killed_one(run, tmp_path, name):
    rest = tmp_path / f".{name}.x1.part"
    rest.mkdir()
    (rest / "manifest.json").write_text("{")
    export_run(run, tmp_path / name, exemplars=False)
    assert not rest.exists()
    assert Bundle(tmp_path / name).precisions == ("fp32",)


def test_the_weights_in_the_bundle_give_its_verdicts_in_torch(run, tmp_path):
    export_run(run, tmp_path / "bundle")
    paths = [Path(item.path) for item in run.of("test")]
    wanted, found = (
        Detector.load(tmp_path / "bundle", backend=name, precision="fp32", threads=1).check_batch(paths)
        for name in ("onnxruntime", "torch")
    )
    assert [(v.verdict, v.label, v.prototype) for v in found] == [(v.verdict, v.label, v.prototype) for v in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-4)


def test_the_manifest_records_parity_metrics_and_origin(run, tmp_path):
    exported = export_run(run, tmp_path / "bundle")
    bundle = Bundle(tmp_path / "bundle")
    parity = bundle.provenance["parity"]["fp32"]
    assert parity["same_verdicts"] == parity["images"] == 3 * COUNTS["val"]
    assert 0 <= parity["relative_score_difference"] <= 1e-4
    assert bundle.provenance["data_fingerprint"] == run.info.data_fingerprint
    assert bundle.provenance["metrics"]["macro_auc"] == exported.validation.closed.macro_auc
    assert bundle.decisions["fp32"].tolerance["onnxruntime"] == exported.parity.tolerance
    assert str(tiny_run()) not in json.dumps(bundle.provenance)  # no absolute path


def test_bounds_come_from_validation_and_no_validation_image_is_beyond_them(run, tmp_path):
    export_run(run, tmp_path / "bundle")
    bounds = Bundle(tmp_path / "bundle").decisions["fp32"].bounds
    latents = run.latents("val")
    assert bounds.latent == pytest.approx(MARGIN * np.abs(latents).max())
    paths = [item.path for item in run.of("val")]
    detector = Detector.load(tmp_path / "bundle", threads=1)
    list(detector.check_stream(paths))
    assert detector.counters == Counters(images=len(paths))


def test_equal_runs_give_equal_bundles(run, tmp_path):
    export_run(run, tmp_path / "a.zip")
    export_run(run, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_the_bundle_records_the_false_alarm_rate(run, tmp_path):
    export_run(run, tmp_path / "bundle", rate=0.2)
    assert Bundle(tmp_path / "bundle").decisions["fp32"].false_alarm_rate == 0.2


def test_exemplars_are_training_images_of_the_prototypes_class(run, tmp_path):
    export_run(run, tmp_path / "bundle")
    exemplars = Exemplars.from_bytes(Bundle(tmp_path / "bundle").read("exemplars.npz"))
    assert {(k, m) for k, m in exemplars.thumbnails} == {(k, m) for k in range(3) for m in range(2)}
    assert all(file.startswith(b"\xff\xd8") for files in exemplars.thumbnails.values() for file in files)


def test_without_exemplars_the_bundle_contains_no_image_of_the_data(run, tmp_path):
    export_run(run, tmp_path / "bundle", exemplars=False)
    bundle = Bundle(tmp_path / "bundle")
    assert not bundle.has("exemplars.npz")
    assert np.array_equal(bundle.golden().image, drawn_image(run.spec))
    Detector.load(tmp_path / "bundle")  # runs the golden image


def test_only_a_bundle_is_replaced(run, tmp_path):
    export_run(run, tmp_path / "bundle", rate=0.1)
    export_run(run, tmp_path / "bundle", rate=0.2)
    assert Bundle(tmp_path / "bundle").decisions["fp32"].false_alarm_rate == 0.2
    with pytest.raises(StorageError, match="is not a bundle"):
        export_run(run, run.path)
    assert (run.path / "run.json").is_file()
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(StorageError, match="is not a bundle"):
        export_run(run, tmp_path / "notes.txt")


def test_an_unfinished_run_is_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match="not finished"):
        export_run(edit_run(run, '"finished": true', '"finished": false'), tmp_path / "bundle")


def test_a_moved_encoder_is_reported(run, tmp_path):
    with pytest.raises(ModelError, match=r"elsewhere\.onnx"):
        export_run(edit_run(run, "vae.onnx", "elsewhere.onnx"), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_moved_images_are_reported(run, tmp_path):
    items = (run.path / "items.json").read_text()
    (run.path / "items.json").write_text(items.replace("/val/", "/moved/"))
    with pytest.raises(DataError, match="a validation image for the parity check can't be read"):
        export_run(Run.open(run.path), tmp_path / "bundle")
    (run.path / "items.json").write_text(items.replace("/train/", "/moved/"))
    with pytest.raises(DataError, match="a training image that serves as an exemplar is missing"):
        export_run(Run.open(run.path), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    export_run(Run.open(run.path), tmp_path / "bundle", exemplars=False)  # as the message says
