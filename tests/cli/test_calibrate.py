"""`leakrt calibrate`: what is printed and written, and one line for every bad input, the bundle as it was."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxslim")
from cpu import sums_int8_exactly
from PIL import Image
from runs import CLASSES, COUNTS, texture, tiny_run

from leakrt.core.bundle import Bundle, graph_name, write_bundle

FAST = ("--images", 40, "--threads", 1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle of the tiny run; not to be written to."""
    from leakrt.export.exporter import export_run
    from leakrt.train.run import Run

    path = tmp_path_factory.mktemp("exported") / "bundle"
    export_run(Run.open(tiny_run() / "run"), path)
    return path


@pytest.fixture
def bundle(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "bundle")


@pytest.fixture
def any_speed(monkeypatch):
    monkeypatch.setattr("leakrt.core.acceptance.MIN_INT8_SPEEDUP", 0.0)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def files_of(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def data():
    return tiny_run() / "data"


def graph_changed(bundle, change, stem="vae_encoder"):
    """The bundle with a graph changed, as another exporter might have made it."""
    opened, name = Bundle(bundle), graph_name(stem, "fp32")
    files = {name: opened.read(name) for name in opened.file_sizes}
    model = onnx.load_model_from_string(files[name])
    change(model)
    files[name] = model.SerializeToString()
    write_bundle(bundle, opened.spec, files, provenance=opened.provenance)


def test_with_a_refit_the_variant_is_written_and_the_table_has_layers_backends_and_times(
    leakrt, bundle, any_speed, tmp_path
):
    picture = tmp_path / "layers.png"
    done = leakrt("calibrate", bundle, data(), "--run", tiny_run() / "run", *FAST, "--max-drop", 0.1, "--plot", picture)
    assert done.code == 0, done.err
    assert "only this layer in int8" in done.out
    assert "onnxruntime: macro AUC" in done.out
    assert "passed" in done.out
    with Image.open(picture) as image:
        assert image.format == "PNG"
    reported = Bundle(bundle).provenance["variants"]["int8"]
    assert reported["refitted"] is True
    assert reported["weight_bits"] == 7
    assert reported["int8_share"] >= 0.8
    checked = leakrt("check", bundle, data() / "test" / "smooth", "--json", "--precision", "int8")
    assert [json.loads(line)["precision"] for line in checked.lines] == ["int8"] * 6


def test_from_within_the_bundle_the_data_and_the_picture_are_found(leakrt, bundle, any_speed, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(data())
    monkeypatch.chdir(bundle)
    done = leakrt("calibrate", ".", "../data", "--no-refit", *FAST, "--max-drop", 1, "--plot", "../layers.png")
    monkeypatch.chdir(tmp_path)
    assert done.code == 0, done.err
    assert Bundle(bundle).precisions == ("fp32", "int8")
    assert (tmp_path / "layers.png").is_file()


def test_without_a_refit_json_is_one_object_with_every_backend(leakrt, bundle, any_speed):
    bits = 8 if sums_int8_exactly() else 7
    done = leakrt("calibrate", bundle, data(), "--no-refit", *FAST, "--max-drop", 0.1, "--json", "--weight-bits", bits)
    assert done.code == 0, done.err
    reported = json.loads(done.out)
    assert reported["left_out"] == []
    assert reported["written"] == str(bundle)
    found = reported["attempts"][-1]["backends"]["onnxruntime"]
    assert found["passed"] is True
    assert {"macro_auc_drop", "agreement", "agreement_confident", "false_alarms", "interval", "speedup"} <= set(found)
    assert Bundle(bundle).provenance["variants"]["int8"]["weight_bits"] == bits


def test_a_failed_acceptance_test_is_reported_and_leaves_the_bundle(leakrt, bundle, any_speed):
    before = files_of(bundle)
    done = leakrt("calibrate", bundle, data(), "--no-refit", *FAST, "--max-drop", -1)
    assert done.code == 1
    assert "every attempt failed its acceptance test; the bundle is not changed" in done.err
    assert ": failed\n" in done.out
    assert files_of(bundle) == before


def folder_of(path, count, draw):
    path.mkdir()
    for i in range(count):
        Image.fromarray(draw(i)).save(path / f"{i:03d}.png")
    return path


def flat(i):
    return np.full((40, 40, 3), (i, 90, 20), np.uint8)


OTHER_KIND = "the calibration images differ from the validation images"


def already(bundle):
    opened = Bundle(bundle)
    files = {name: opened.read(name) for name in opened.file_sizes}
    decisions = json.loads(files["decision.json"])
    for name in list(files):
        if ".fp32." in name:
            files[name.replace("fp32", "int8")] = files[name]
    files["decision.json"] = json.dumps({**decisions, "int8": decisions["fp32"]}).encode()
    write_bundle(bundle, opened.spec, files, provenance=opened.provenance)


def quantised_inside(bundle):
    def change(model):
        scale = onnx.numpy_helper.from_array(np.float32(0.01), "s")
        zero = onnx.numpy_helper.from_array(np.int8(0), "z")
        first = model.graph.node[0]
        model.graph.initializer.extend([scale, zero])
        model.graph.node.insert(0, onnx.helper.make_node("QuantizeLinear", [first.input[0], "s", "z"], ["q"]))
        model.graph.node.insert(1, onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]))
        model.graph.node[2].input[0] = "d"

    graph_changed(bundle, change)


def foreign_operator(bundle, stem="vae_encoder"):
    def change(model):
        output = model.graph.output[0].name
        last = next(node for node in model.graph.node if output in node.output)
        last.output[list(last.output).index(output)] = "inner"
        node = onnx.helper.make_node("Gelu", ["inner"], [output], domain="com.microsoft")
        model.graph.node.append(node)
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))

    graph_changed(bundle, change, stem)


def foreign_operator_behind(bundle):
    foreign_operator(bundle, "leak_encoder")


def nothing(bundle):
    del bundle


def bad_inputs():
    """Name, what is done to the bundle, arguments in a folder, exit code, what is said."""
    return [
        ("no_images", nothing, lambda t: ["--range-images", folder_of(t / "f", 0, flat)], 1, "holds no images"),
        ("no_folder", nothing, lambda t: ["--range-images", t / "nowhere"], 1, "no such folder"),
        ("few_images", nothing, lambda t: ["--range-images", folder_of(t / "f", 31, small)], 1, "31 usable images"),
        ("few_asked_for", nothing, lambda t: ["--images", 31], 1, "at least 32 are needed"),
        ("flat", nothing, lambda t: ["--range-images", folder_of(t / "f", 40, flat)], 1, "40 have a single colour"),
        ("other_kind", nothing, lambda t: ["--range-images", folder_of(t / "f", 40, chequers)], 1, OTHER_KIND),
        (
            "other_kind_and_a_refit",
            nothing,
            lambda t: ["--refit", "--run", tiny_run() / "run", "--range-images", folder_of(t / "f", 40, chequers)],
            1,
            OTHER_KIND,
        ),
        ("int8_already", already, lambda t: [], 1, "already has an int8 variant; give --replace"),
        ("quantised_graph", quantised_inside, lambda t: [], 1, "the graph is already quantised"),
        ("foreign_operator", foreign_operator, lambda t: [], 1, "doesn't support the operators com.microsoft.Gelu"),
        ("foreign_behind", foreign_operator_behind, lambda t: [], 1, "leak_encoder: the quantiser doesn't support the"),
        ("method", nothing, lambda t: ["--method", "best"], 2, "choose one of: entropy, percentile, minmax, mse"),
        ("weight_bits", nothing, lambda t: ["--weight-bits", 4], 2, "choose one of: 7, 8"),
        ("no_drop", nothing, lambda t: ["--max-drop", "inf"], 2, "a macro AUC drop of inf is out of range"),
        ("no_shift", nothing, lambda t: ["--max-shift", "nan"], 2, "a maximum shift of nan is out of range"),
        ("plot", nothing, lambda t: ["--plot", t / "nowhere" / "layers.png"], 2, "give a file in a writable folder"),
        ("plot_folder", nothing, lambda t: ["--plot", t], 2, "give a file in a writable folder"),
        ("no_run", nothing, lambda t: ["--refit"], 2, "--run RUN, or use --no-refit"),
        ("foreign_run", nothing, lambda t: ["--refit", "--run", t], 1, "is not a training run"),
    ]


def chequers(i):
    """Black and white blocks: the run's own images are of noise."""
    return np.kron(np.random.default_rng(i).integers(0, 2, (5, 6, 3)) * 255, np.ones((8, 8, 1))).astype(np.uint8)


def small(i):
    return texture("smooth", i)


@pytest.mark.parametrize("case", bad_inputs(), ids=lambda case: case[0])
def test_bad_input_is_one_line_and_the_bundle_stays_as_it_was(leakrt, bundle, tmp_path, case):
    _, prepare, arguments, code, message = case
    prepare(bundle)
    before = files_of(bundle)
    given = arguments(tmp_path)
    refit = [] if "--refit" in given else ["--no-refit"]
    done = leakrt("calibrate", bundle, data(), *FAST, *refit, *given)
    assert done.code == code
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert files_of(bundle) == before
    assert not list(bundle.parent.glob(".bundle.*"))


def test_images_of_mixed_sizes_and_kinds_are_calibrated_on_and_broken_ones_passed_over(
    leakrt, bundle, any_speed, tmp_path
):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i in range(45):
        picture = Image.fromarray(texture(CLASSES[i % 3], i))
        picture.resize((33 + 5 * i, 35 + 4 * i)).save(folder / f"{i:03d}.{'jpg' if i % 2 else 'png'}")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    done = leakrt("calibrate", bundle, data(), "--no-refit", *FAST, "--max-drop", 1, "--range-images", folder, "--json")
    assert "Traceback" not in done.err
    assert json.loads(done.out)["attempts"]


def test_max_shift_1_accepts_pictures_of_another_kind_and_the_manifest_stores_their_distance(
    leakrt, bundle, any_speed, tmp_path
):
    pictures = folder_of(tmp_path / "chequers", 40, chequers)
    options = ("--no-refit", *FAST, "--max-drop", 1, "--range-images", pictures, "--max-shift", 1, "--json")
    done = leakrt("calibrate", bundle, data(), *options)
    reported = json.loads(done.out)["images_shift"]
    assert reported["limit"] == 1.0
    assert reported["share"] > 0.2
    if done.code == 0:
        assert Bundle(bundle).provenance["variants"]["int8"]["images_shift"] == reported


def labelled(root, **counts):
    """Labelled data of the run's classes with other numbers of images."""
    for split, count in {**COUNTS, **counts}.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for path in sorted((data() / split / name).iterdir())[:count]:
                shutil.copy(path, root / split / name)
    return root


def without_validation(root):
    shutil.rmtree(labelled(root) / "val")
    return root


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda t: labelled(t / "d", train=10), "30 usable images; calibration needs at least 32 face images"),
        (lambda t: without_validation(t / "d"), "has train and test but no val"),
        (lambda t: labelled(t / "d", train=0, val=0, test=0), "no images"),
        (lambda t: t / "nowhere", "nowhere"),
    ],
    ids=["few_training_images", "no_validation_images", "no_images", "no_folder"],
)
def test_data_with_too_few_images_is_one_line(leakrt, bundle, tmp_path, made, message):
    before = files_of(bundle)
    done = leakrt("calibrate", bundle, made(tmp_path), "--no-refit", *FAST)
    assert done.code == 1
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert files_of(bundle) == before


def test_a_killed_calibration_leaves_the_bundle_and_resumes(
    leakrt, start_leakrt, exported, bundle, any_speed, tmp_path, monkeypatch
):
    options = ("--no-refit", *FAST, "--max-drop", 0.1)
    before, ranges = files_of(bundle), tmp_path / "cache" / "leakrt" / "ranges"
    process = start_leakrt("calibrate", bundle, data(), *options)
    deadline = time.monotonic() + 120
    while not list(ranges.glob("*.histograms.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert files_of(bundle) == before
    counted = min(json.loads(path.read_bytes())["done"] for path in ranges.glob("*.histograms.json"))
    assert counted >= 32  # these images are not run again
    assert leakrt("calibrate", bundle, data(), *options).code == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fresh"))
    undisturbed = shutil.copytree(exported, tmp_path / "undisturbed")
    assert leakrt("calibrate", undisturbed, data(), *options).code == 0
    for stem in ("vae_encoder", "leak_encoder"):
        assert Bundle(bundle).graph(stem, "int8") == Bundle(undisturbed).graph(stem, "int8")


def test_a_calibration_killed_in_its_refit_encodes_no_training_image_again(
    leakrt, start_leakrt, exported, bundle, any_speed, tmp_path, monkeypatch
):
    from leakrt.calibration.int8.graph_latents import GraphVae

    options = ("--run", tiny_run() / "run", *FAST, "--max-drop", 1)
    before, latents = files_of(bundle), tmp_path / "cache" / "leakrt" / "latents"

    def kept():
        return sum(len(path.read_bytes().splitlines()) for path in latents.glob("*/index.txt"))

    process = start_leakrt("calibrate", bundle, data(), *options)
    deadline = time.monotonic() + 120
    while kept() == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert files_of(bundle) == before
    there, encoded, encode = kept(), [], GraphVae.encode
    assert there > 0
    monkeypatch.setattr(GraphVae, "encode", lambda vae, images: encoded.append(1) or encode(vae, images))
    assert leakrt("calibrate", bundle, data(), *options).code == 0
    resumed = len(encoded)
    assert kept() == 72  # those of int8 are not left behind
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fresh"))
    undisturbed = shutil.copytree(exported, tmp_path / "undisturbed")
    assert leakrt("calibrate", undisturbed, data(), *options).code == 0
    assert len(encoded) - resumed == resumed + there
    for stem in ("vae_encoder", "leak_encoder"):
        assert Bundle(bundle).graph(stem, "int8") == Bundle(undisturbed).graph(stem, "int8")


def test_data_of_other_classes_is_refused(leakrt, bundle, tmp_path):
    other = tmp_path / "other"
    for split, count in COUNTS.items():
        for name in ("blocky", "real", "stripes"):
            shutil.copytree(data() / split / "real", other / split / name)
            assert len(list((other / split / name).iterdir())) == count
    before = files_of(bundle)
    done = leakrt("calibrate", bundle, other, "--no-refit", *FAST)
    assert done.code == 1
    assert "the folder has the classes blocky, real, stripes, but the bundle has" in done.err
    assert files_of(bundle) == before


def test_a_disk_that_fills_up_at_the_end_leaves_the_bundle_and_no_half_written_one(
    leakrt, bundle, any_speed, monkeypatch
):
    before = files_of(bundle)
    whole = Path.write_bytes

    def write(path, content):
        if path.parent.name.startswith(".bundle.") and path.name == "golden.npz":
            whole(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    done = leakrt("calibrate", bundle, data(), "--no-refit", *FAST, "--max-drop", 0.5)
    assert done.code == 1
    assert "no space left while writing" in done.err.splitlines()[-1]
    assert files_of(bundle) == before
    assert not list(bundle.parent.glob(".bundle.*"))


def test_a_file_system_that_takes_no_more_is_one_line(start_leakrt, bundle):
    before = files_of(bundle)
    process = start_leakrt(
        "calibrate",
        bundle,
        data(),
        "--no-refit",
        *FAST,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("leakrt: ")
    assert "can't write" in err or "no space" in err
    assert files_of(bundle) == before
