"""Leave-one-out: training without a class, and figures on it as an unseen maker."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="runs are trained here (extra train)")
from runs import CLASSES, train_run, write_data

from leakrt.core.errors import DataError, UsageError
from leakrt.train.labelled import LabelledImages, labelled_images
from leakrt.train.leave_out import leave_out, makers_to_leave_out
from leakrt.train.run import Run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return Run.open(train_run(tmp_path_factory.mktemp("run"), data, epochs=4))


def test_a_class_is_left_out_of_training_and_evaluated_as_unseen(run, data):
    epochs = []
    images = labelled_images(data, "test")
    found = leave_out(run, "smooth", images, report=epochs.append)
    again = leave_out(run, "smooth", images, report=epochs.append)
    assert len(epochs) == 4, "the second call trains nothing"
    assert again == found
    assert Run.open(run.path / "leave-out" / "smooth").spec.class_names == ("blocky", "real")
    assert found.images == 6
    assert 0 <= found.auroc <= 1
    assert found.called_real + found.called_generated <= 1
    assert Run.open(run.path).spec.class_names == CLASSES, "the run itself is unchanged"
    json.dumps(found.to_json(), allow_nan=False)


def test_every_class_but_the_real_one_can_be_left_out(run):
    assert makers_to_leave_out(run, "all") == ("blocky", "smooth")
    assert makers_to_leave_out(run, "blocky") == ("blocky",)
    for wrong in ("real", "other"):
        with pytest.raises(UsageError, match=f"--leave-out {wrong}: choose one of blocky, smooth, or all"):
            makers_to_leave_out(run, wrong)


def test_a_maker_without_images_is_refused_before_training(run, data):
    kept = labelled_images(data, "test")
    pairs = [(p, label) for p, label in zip(kept.paths, kept.labels, strict=True) if label != "blocky"]
    without = LabelledImages(paths=tuple(p for p, _ in pairs), labels=tuple(label for _, label in pairs))
    with pytest.raises(DataError, match="no image of class blocky"):
        leave_out(run, "blocky", without)
    assert not (run.path / "leave-out" / "blocky").exists()
