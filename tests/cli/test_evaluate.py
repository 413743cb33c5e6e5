"""`leakrt evaluate`."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxslim")
from runs import tiny_run, write_images


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(tiny_run() / "run", tmp_path / "run")


@pytest.fixture
def stripes(tmp_path):
    write_images(tmp_path / "open" / "stripes", "stripes", 7)
    return tmp_path / "open"


def figures(done) -> dict:
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_run_and_bundle_give_the_same_figures(leakrt, run, stripes, tmp_path):
    data = tiny_run() / "data"
    of_run = figures(leakrt("evaluate", run, data, "--open", stripes, "--json"))
    assert leakrt("export", run, "--out", tmp_path / "bundle").code == 0
    of_bundle = figures(leakrt("evaluate", tmp_path / "bundle", data, "--open", stripes, "--json"))
    assert of_run.keys() == of_bundle.keys()
    for name, value in of_run.items():
        if isinstance(value, float):
            assert of_bundle[name] == pytest.approx(value, abs=1e-3), name
        elif not isinstance(value, dict):
            assert of_bundle[name] == value, name
    assert of_run["images"] == 18
    assert of_run["open_images"] == 7
    assert of_run["false_alarm_target"] == 0.05


def test_all_takes_a_folder_of_classes(leakrt, run):
    val = figures(leakrt("evaluate", run, tiny_run() / "data", "--split", "val", "--json"))
    same = figures(leakrt("evaluate", run, tiny_run() / "data" / "val", "--split", "all", "--json"))
    assert same == val
    assert val["open_auroc"] is None


def test_people_get_tables_and_pictures(leakrt, run, stripes, tmp_path):
    done = leakrt("evaluate", run, tiny_run() / "data", "--open", stripes, "--plots", tmp_path / "plots")
    assert done.code == 0
    for word in ("macro AUC", "false alarms", "coverage", "OSCR", "blocky"):
        assert word in done.out
    assert {file.name for file in (tmp_path / "plots").iterdir()} == {
        "confusion.png",
        "roc.png",
        "reliability.png",
        "open_set.png",
    }


def test_images_that_training_saw_are_noted(leakrt, run):
    done = leakrt("evaluate", run, tiny_run() / "data" / "train", "--split", "all", "--json")
    assert "trained on 72 of these images" in done.err


def test_unreadable_images_are_told_and_the_rest_is_measured(leakrt, run, tmp_path):
    data = shutil.copytree(tiny_run() / "data" / "test", tmp_path / "data")
    (data / "real" / "bad.png").write_bytes(b"no image")
    done = leakrt("evaluate", run, data, "--split", "all", "--json")
    assert done.code == 1
    assert json.loads(done.out)["failed"] == 1
    assert "bad.png" in done.err


def test_classes_that_the_model_does_not_know_are_told(leakrt, run, tmp_path):
    data = shutil.copytree(tiny_run() / "data" / "test", tmp_path / "data")
    write_images(data / "flow", "stripes", 2)
    done = leakrt("evaluate", run, data, "--split", "all")
    assert (done.code, "not trained on flow" in done.err) == (1, True)
    shutil.rmtree(data / "flow")
    shutil.rmtree(data / "smooth")
    done = leakrt("evaluate", run, data, "--split", "all")
    assert (done.code, "no image of smooth" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--split", "tests"], 2, "no split 'tests'"),
        (["--precision", "int8"], 2, "export it to choose precision"),
        (["--open", "nowhere"], 1, "no such file or folder: nowhere"),
    ],
)
def test_wrong_options_are_one_line(leakrt, run, arguments, code, message):
    done = leakrt("evaluate", run, tiny_run() / "data", *arguments)
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err


def test_what_is_neither_run_nor_bundle_is_told(leakrt, tmp_path):
    done = leakrt("evaluate", tmp_path, tiny_run() / "data")
    assert done.code == 1
    assert "manifest.json" in done.err
