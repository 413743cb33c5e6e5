"""`leakrt evaluate`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("onnxslim")
from runs import tiny_run, two_branch_bundle, write_images


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


def test_unreadable_images_are_reported_and_the_rest_is_measured(leakrt, run, tmp_path):
    data = shutil.copytree(tiny_run() / "data" / "test", tmp_path / "data")
    (data / "real" / "bad.png").write_bytes(b"no image")
    done = leakrt("evaluate", run, data, "--split", "all", "--json")
    assert done.code == 1
    assert json.loads(done.out)["failed"] == 1
    assert "bad.png" in done.err


def test_classes_that_the_model_does_not_know_are_reported(leakrt, run, tmp_path):
    data = shutil.copytree(tiny_run() / "data" / "test", tmp_path / "data")
    write_images(data / "flow", "stripes", 2)
    done = leakrt("evaluate", run, data, "--split", "all")
    assert (done.code, "not trained on flow" in done.err) == (1, True)


def test_a_folder_of_real_faces_gives_the_false_alarm_rate_and_one_generator_its_recall(leakrt, run, tmp_path):
    whole = figures(leakrt("evaluate", run, tiny_run() / "data", "--json"))
    for name in ("real", "smooth"):
        shutil.copytree(tiny_run() / "data" / "test" / name, tmp_path / name / name)
        plots = ["--plots", tmp_path / f"plots {name}"]
        found = figures(leakrt("evaluate", run, tmp_path / name, "--split", "all", "--json", *plots))
        assert (found["images"], found["macro_auc"]) == (6, None)
        assert found["not_measured"].startswith("no image of blocky, ")
        assert found["recall"][name] == whole["recall"][name]
        if name == "real":
            assert found["false_alarm_interval"] == whole["false_alarm_interval"]
            assert found["false_alarm_rate"] == whole["false_alarm_rate"]
        assert "not measured" in leakrt("evaluate", run, tmp_path / name, "--split", "all").out


def test_training_images_are_found_among_those_of_a_bundle_whatever_their_format(leakrt, run, stripes, tmp_path):
    assert leakrt("export", run, "--out", tmp_path / "bundle").code == 0
    data = shutil.copytree(tiny_run() / "data" / "test", tmp_path / "data")
    Image.open(tiny_run() / "data/train/real/003.png").save(data / "real" / "seen.bmp")
    Image.open(tiny_run() / "data/train/smooth/004.png").save(stripes / "seen.tif")
    (data / "real" / "notes.txt").touch()
    arguments = [data, "--split", "all", "--open", stripes, "--json"]
    for model in (run, tmp_path / "bundle"):
        done = leakrt("evaluate", model, *arguments)
        assert figures(done)["trained_on"] == 2
        assert "trained on 1 of these images" in done.err
        assert "trained on 1 images of --open" in done.err
        assert [Path(one["path"]).name for one in figures(done)["left_out"]] == ["notes.txt"]
        assert "leakrt: note: left out 1 file: 1 not an image (notes.txt)" in done.err


def test_copies_of_training_images_and_validation_images_are_noted_by_run_and_bundle(leakrt, run, tmp_path):
    assert leakrt("export", run, "--out", tmp_path / "bundle").code == 0
    data = shutil.copytree(tiny_run() / "data" / "test", tmp_path / "data")
    smooth = Image.open(tiny_run() / "data/train/smooth/004.png").convert("RGB")
    smooth.save(data / "smooth" / "copy.jpg", quality=85)
    held_out = next((tiny_run() / "data" / "val" / "real").glob("*.png"))
    shutil.copy(held_out, data / "real" / "fitted.png")
    for model in (run, tmp_path / "bundle"):
        err = leakrt("evaluate", model, data, "--split", "all").err
        assert "1 images look the same as training images" in err
        assert "the thresholds were fitted on 1 of these images" in err


def test_what_a_model_does_not_record_is_said(leakrt, run, tmp_path):
    items = json.loads((run / "items.json").read_text())
    old = [{name: value for name, value in item.items() if name not in ("pixels", "look")} for item in items]
    (run / "items.json").write_text(json.dumps(old))
    assert leakrt("export", run, "--out", tmp_path / "bundle").code == 0
    for model in (run, tmp_path / "bundle"):
        done = leakrt("evaluate", model, tiny_run() / "data", "--json")
        assert "can't check whether" in done.err
        assert figures(done)["trained_on"] == (0 if model == run else None)
    done = leakrt("evaluate", run, tiny_run() / "data" / "train", "--split", "all", "--json")
    assert "trained on 72 of these images" in done.err


def test_one_picture_under_two_labels_and_a_known_class_as_open_set_are_refused(leakrt, run, tmp_path):
    data = shutil.copytree(tiny_run() / "data" / "test", tmp_path / "data")
    done = leakrt("evaluate", run, tiny_run() / "data", "--open", data)
    assert (done.code, "has the name of a known class" in done.err) == (1, True)
    Image.open(data / "real" / "000.png").save(data / "smooth" / "copy.bmp")
    done = leakrt("evaluate", run, data, "--split", "all")
    assert (done.code, "are the same picture" in done.err) == (1, True)


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


def test_a_folder_that_is_neither_run_nor_bundle_is_refused(leakrt, tmp_path):
    done = leakrt("evaluate", tmp_path, tiny_run() / "data")
    assert done.code == 1
    assert "manifest.json" in done.err


def test_leave_out_prints_a_row_per_maker(leakrt, run):
    done = leakrt("evaluate", run, tiny_run() / "data", "--leave-out", "all")
    assert done.code == 0
    rows = [line.split()[0] for line in done.out.splitlines()]
    assert rows == ["left", "blocky", "smooth", "mean"]
    again = json.loads(leakrt("evaluate", run, tiny_run() / "data", "--leave-out", "smooth", "--json").out)
    assert [row["name"] for row in again["left_out"]] == ["smooth"]
    assert again["mean"]["auroc"] == again["left_out"][0]["auroc"]


def test_leave_out_takes_a_run_and_no_other_choice(leakrt, run, tmp_path):
    done = leakrt("evaluate", run, tiny_run() / "data", "--leave-out", "nobody")
    assert (done.code, "choose one of blocky, smooth, or all" in done.err) == (2, True)
    done = leakrt("evaluate", run, tiny_run() / "data", "--leave-out", "all", "--backend", "torch")
    assert (done.code, "omit the other options" in done.err) == (2, True)
    done = leakrt("evaluate", tmp_path / "none", tiny_run() / "data", "--leave-out", "all")
    assert (done.code, "it takes a run" in done.err) == (2, True)


@pytest.mark.parametrize("branches", [1, 2])
def test_the_report_is_one_file_with_every_part(leakrt, run, stripes, tmp_path, branches):
    model = run if branches == 1 else two_branch_bundle()
    data = tiny_run() / "data"
    done = leakrt("evaluate", model, data, "--open", stripes, "--html", tmp_path / "report.html")
    assert done.code == 0, done.err
    page = (tmp_path / "report.html").read_text()
    for heading in ("Attribution", "Embeddings", "Most confident mistakes", "Steps"):
        assert f"<h2>{heading}" in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/png;base64,") >= 5
    assert "unseen makers" in page
    assert ("VAE latents" in page) == (branches == 2)


def test_a_report_without_real_faces_says_what_was_not_measured(leakrt, run, tmp_path):
    shutil.copytree(tiny_run() / "data" / "test" / "smooth", tmp_path / "data" / "smooth")
    done = leakrt("evaluate", run, tmp_path / "data", "--split", "all", "--html", tmp_path / "r.html")
    assert done.code == 0, done.err
    assert "Not measured: no image of blocky, real was classified" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_grids_are_measured_for_runs_and_bundles(leakrt, run, tmp_path, kind):
    model, data = run if kind == "run" else two_branch_bundle(), tiny_run() / "data"
    options = ("--robustness", "--cameras", "--plots", tmp_path / "plots", "--json")
    done = leakrt("evaluate", model, data, *options)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    cells = [cell for grid in ("robustness", "cameras") for cell in found[grid]]
    assert all(cell["images"] == 18 for cell in cells if cell["name"] != "messenger"), "which makes them too small"
    stored = found["robustness"][0]
    assert stored["name"] == "as stored"
    assert stored["macro_auc"] == pytest.approx(found["macro_auc"], abs=1e-6)
    assert stored["false_alarms"] == found["false_alarm_count"]
    for name in ("robustness", "cameras"):
        with Image.open(tmp_path / "plots" / f"{name}.png") as picture:
            width, height = picture.size
        assert width > height > 400


def test_the_worst_camera_is_named(leakrt, run):
    done = leakrt("evaluate", run, tiny_run() / "data", "--cameras")
    assert done.code == 0, done.err
    assert re.search(r"most false alarms: .+, [\d.]+ % at a stated 5\.0 %", done.out)
    refused = leakrt("evaluate", run, tiny_run() / "data", "--leave-out", "all", "--cameras")
    assert (refused.code, "omit the other options" in refused.err) == (2, True)


def test_pairs_need_a_bundle_and_a_model_that_finds_faces(leakrt, run, tmp_path):
    data = tiny_run() / "data"
    done = leakrt("evaluate", two_branch_bundle(), data, "--pairs", tmp_path)
    assert (done.code, "belong together" in done.err) == (2, True)
    done = leakrt("evaluate", run, data, "--pairs", tmp_path, "--faces", tmp_path / "yunet.onnx")
    assert (done.code, "--pairs takes a bundle" in done.err) == (2, True)


def test_crops_are_compared_with_the_files_they_were_cut_from(leakrt, shared, tmp_path):
    originals, crops = shared("leakbench-originals") / "real", shared("leakbench") / "val" / "real"
    chosen = sorted(originals.iterdir())[:4]
    for k, path in enumerate(chosen):
        for folder, source in (("files", path), ("crops", next(crops.glob(f"{path.stem}*")))):
            target = tmp_path / folder / ("real" if k < 2 else "smooth")
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    model = shared("models") / "face_detection_yunet_2023mar.onnx"
    options = ("--split", "all", "--pairs", tmp_path / "files", "--faces", model)
    found = json.loads(leakrt("evaluate", two_branch_bundle(), tmp_path / "crops", *options, "--json").out)["pairs"]
    assert (found["pairs"], found["without_partner"], found["failed"]) == (4, 0, 0)
    assert (found["crops"]["real_faces"], found["files"]["real_faces"]) == (2, 2)
    assert "same verdict" in leakrt("evaluate", two_branch_bundle(), tmp_path / "crops", *options).out
