"""`leakrt train`: the same weights after a kill, and errors in one line."""

from __future__ import annotations

import csv
import inspect
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from bundles import vae_encoder
from runs import SPEC, write_autoencoder, write_data, write_images


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    (root / "vae.onnx").write_bytes(vae_encoder(SPEC))
    write_data(root / "data")
    return root


def arguments(inputs, out, **changes):
    options = {"epochs": 30, "batch-size": 8, "image-size": 32, "timesteps": "0,60", "embedding-dim": 12, "threads": 1}
    options |= {
        "vae": f"onnx:{inputs / 'vae.onnx'}",
        "cache": inputs / "cache",
        "out": out,
        "branch-channels": 0,
        "copies": 0,
    }
    options |= changes
    return ["train", inputs / "data", *(part for name, value in options.items() for part in (f"--{name}", value))]


LASTING = ("best.safetensors", "last.safetensors", "metrics.csv")


def undisturbed(inputs, leakrt) -> Path:
    """A run that nothing disturbed, made once."""
    out = inputs / "whole"
    if not out.exists():
        assert leakrt(*arguments(inputs, out)).code == 0
    return out


KILL, INTERRUPT = signal.SIGKILL, signal.SIGINT
STOPS = [(KILL, "run/last.safetensors"), (INTERRUPT, "cache/*/index.txt")]
MORE = [(by, seen) for by in (KILL, INTERRUPT) for seen in ("run/items.json", "run/metrics.csv")]
MORE += [(INTERRUPT, "run/last.safetensors"), (KILL, "cache/*/index.txt")]


@pytest.mark.parametrize(("by", "seen"), [*STOPS, *(pytest.param(*stop, marks=pytest.mark.slow) for stop in MORE)])
def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(inputs, tmp_path, leakrt, start_leakrt, by, seen):
    """The file that appears shows the stage; each call stops at another moment of it."""
    whole, run = undisturbed(inputs, leakrt), tmp_path / "run"
    command = arguments(inputs, run, cache=tmp_path / "cache")
    process = start_leakrt(*command)
    while process.poll() is None and not any(path.stat().st_size for path in tmp_path.glob(seen)):
        time.sleep(0.002)
    os.kill(process.pid, by)
    _, err = process.communicate()
    assert process.returncode == (-KILL if by == KILL else 130)
    assert by == KILL or err.splitlines()[-1] == "leakrt: interrupted"
    assert "Traceback" not in err
    assert leakrt(*command).code == 0
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(i + 1) for i in range(30)]
    for name in LASTING:
        assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_a_second_process_on_one_run_is_refused_in_one_line(inputs, tmp_path, leakrt, start_leakrt):
    command = arguments(inputs, tmp_path / "run")
    process = start_leakrt(*command)
    while process.poll() is None and not (tmp_path / "run" / "metrics.csv").exists():
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGSTOP)  # it holds the run, however slow this machine is
    second = leakrt(*command)
    os.kill(process.pid, signal.SIGCONT)
    assert second.code == 1
    assert second.err == (
        f"leakrt: error: another process is training in {tmp_path / 'run'}; wait for it, or choose another --out\n"
    )
    process.communicate()
    assert process.returncode == 0
    for name in LASTING:
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed(inputs, leakrt) / name).read_bytes()


def test_without_room_for_latents_there_is_one_line_and_the_next_run_resumes(inputs, tmp_path, leakrt, start_leakrt):
    import resource

    # items.json, whose size hangs on where the images lie, fits; the latents don't
    room = (undisturbed(inputs, leakrt) / "items.json").stat().st_size + 1000

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    command = arguments(inputs, tmp_path / "run", cache=tmp_path / "cache")
    process = start_leakrt(*command, preexec_fn=limit)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith(f"leakrt: error: can't write {tmp_path / 'cache'}")
    assert "Traceback" not in err
    assert leakrt(*command).code == 0
    for name in LASTING:
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed(inputs, leakrt) / name).read_bytes()


def test_bad_images_are_named_or_left_out_with_skip_bad(inputs, tmp_path, leakrt):
    data = shutil.copytree(inputs / "data", tmp_path / "data")
    spoilt = [data / "train/real/000.png", data / "val/smooth/003.png", data / "test/blocky/bad.jpg"]
    for path, content in zip(spoilt, (b"", b"\x89PNG\r\n\x1a\nno more", b"text"), strict=True):
        path.write_bytes(content)
    command = arguments(inputs, tmp_path / "run", epochs=1)
    command[1] = data
    refused = leakrt(*command)
    assert refused.code == 1
    assert refused.err.startswith("leakrt: error: 3 of 151 images can't be read: ")
    assert all(str(path) in refused.err for path in spoilt)
    assert refused.err.endswith("skip them with --skip-bad\n")
    assert refused.err.count("\n") == 1
    done = leakrt(*command, "--skip-bad")
    assert done.code == 0
    assert "leakrt: note: left out: 3 of 151 images can't be read: " in done.err
    items = json.loads((tmp_path / "run" / "items.json").read_text())
    assert len(items) == 148
    assert not {item["path"] for item in items} & {str(path) for path in spoilt}


def test_an_autoencoder_kl_of_diffusers_is_trained_through(inputs, tmp_path, leakrt):
    pytest.importorskip("diffusers")
    write_autoencoder(tmp_path / "vae")
    command = arguments(inputs, tmp_path / "run", vae=f"sd:{tmp_path / 'vae'}", epochs=2, cache=tmp_path / "cache")
    assert leakrt(*command).code == 0
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (info["spec"]["vae_kind"], info["spec"]["vae_scale"]) == ("sd", pytest.approx(0.7))
    assert info["vae"]["source"] == str(tmp_path / "vae")
    shutil.move(tmp_path / "vae", tmp_path / "gone")
    lost = leakrt(*command)
    assert lost.code == 1
    assert f"sd:{tmp_path / 'vae'}: no such folder" in lost.err
    assert lost.err.count("\n") == 1


def test_a_run_is_gone_on_with_only_under_the_same_settings(inputs, tmp_path, leakrt):
    out = tmp_path / "run"
    assert leakrt(*arguments(inputs, out, epochs=1)).code == 0
    other = leakrt(*arguments(inputs, out, epochs=2))
    assert other.code == 1
    assert "epochs (was 1, now 2)" in other.err
    assert leakrt(*arguments(inputs, out, epochs=2), "--restart").code == 0
    assert len((out / "metrics.csv").read_text().splitlines()) == 3


def test_a_folder_that_is_no_run_is_left_as_it_is(inputs, tmp_path, leakrt):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.csv").write_text("mine")
    result = leakrt(*arguments(inputs, tmp_path / "mine"), "--restart")
    assert result.code == 1
    assert "holds no training run" in result.err
    assert (tmp_path / "mine" / "metrics.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"real-class": "camera"}, 2, "no class is named 'camera'"),
        ({"timesteps": "0,x"}, 2, "--timesteps 0,x"),
        ({"vae": "builtin"}, 1, "no trained weights yet"),
        ({"seed": -1}, 2, "seed -1"),
        ({"learning-rate": 2}, 2, "learning rate 2"),
        ({"weight-decay": -1}, 2, "weight decay -1.0: must be between 0 and 10"),
        ({"step-dropout": 1}, 2, "step dropout 1.0: must be in [0, 1)"),
        ({"entropy-weight": "nan"}, 2, "entropy weight nan"),
        ({"label-smoothing": 1}, 2, "label smoothing 1.0"),
        ({"vae": "onnx:none.onnx"}, 1, "onnx:none.onnx can't be read"),
        ({"vae": "sd:no/such/folder"}, 1, "sd:no/such/folder: no such folder"),
        ({"vae-scale": -1}, 2, "VAE scale -1.0"),
    ],
)
def test_what_can_not_be_meant_is_one_line(inputs, tmp_path, leakrt, changes, code, message):
    result = leakrt(*arguments(inputs, tmp_path / "run", **changes))
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1


def change(data: Path, kind: str) -> None:
    """Turns a good data folder into one of the kinds that can't be trained on."""
    if kind == "missing":
        shutil.rmtree(data)
    elif kind == "no classes":
        shutil.rmtree(data)
        data.mkdir()
    elif kind == "one class":
        for split in ("train", "val", "test"):
            for name in ("blocky", "smooth"):
                shutil.rmtree(data / split / name)
    elif kind == "empty class":
        shutil.rmtree(data / "train" / "smooth")
        (data / "train" / "smooth").mkdir()
    elif kind == "class in test only":
        for split in ("train", "val"):
            shutil.rmtree(data / split / "smooth")
    elif kind == "class without val":
        shutil.rmtree(data / "val" / "smooth")
    elif kind == "no val":
        shutil.rmtree(data / "val")
    elif kind == "broken split file":
        (data / "Split.json").write_text("{")


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("missing", "no such folder: {data}; pass a folder with one subfolder of images per class"),
        ("no classes", "{data} holds no folders; put the images of each class into a separate folder"),
        ("one class", "{data} holds only one class (real); at least two are needed, each in its own folder"),
        ("empty class", "class smooth: {data}/train/smooth holds no images"),
        ("class in test only", "{data}: class smooth has images in test only; add some to train"),
        (
            "class without val",
            "{data}: class smooth has no image in val; add some: thresholds and the best epoch are chosen on them",
        ),
        ("no val", "{data} has train and test but no val; add one: thresholds and the best epoch are chosen on it"),
        ("broken split file", "{data}/Split.json can't be read as JSON"),
    ],
)
def test_data_that_can_not_be_trained_on_is_one_line_and_nothing_is_written(inputs, tmp_path, leakrt, kind, line):
    data = shutil.copytree(inputs / "data", tmp_path / "data")
    change(data, kind)
    command = arguments(inputs, tmp_path / "run", cache=tmp_path / "cache")
    command[1] = data
    done = leakrt(*command)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"leakrt: error: {line.format(data=data)}")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_an_encoder_with_the_wrong_output_shape_is_one_line_and_nothing_is_written(inputs, tmp_path, leakrt):
    (tmp_path / "wide.onnx").write_bytes(vae_encoder(SPEC, channels_out=8))
    done = leakrt(*arguments(inputs, tmp_path / "run", vae=f"onnx:{tmp_path / 'wide.onnx'}", cache=tmp_path / "cache"))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"leakrt: error: onnx:{tmp_path / 'wide.onnx'}, output latent gives a latent of shape [1, 8, 4, 4] for S = 32; "
        "[B, 4, S/8, S/8] = [1, 4, 4, 4] is needed: it outputs 8 channels, mean and log-variance of the "
        "posterior; export the first four, the mean\n"
    )
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_could_not_be_exported_is_reported_before_anything_is_trained(inputs, tmp_path, leakrt):
    import onnx

    parsed = onnx.load_model_from_string(vae_encoder(SPEC))
    parsed.graph.node[-1].output[0] = "made"
    parsed.graph.node.append(onnx.helper.make_node("Gelu", ["made"], ["latent"]))
    parsed.opset_import[0].version = 20
    onnx.save(parsed, tmp_path / "new.onnx")
    done = leakrt(*arguments(inputs, tmp_path / "run", vae=f"onnx:{tmp_path / 'new.onnx'}", cache=tmp_path / "cache"))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"leakrt: error: onnx:{tmp_path / 'new.onnx'} has opset 20 and can't be converted to 17 "
        "(No Previous Version of Gelu exists); export it at 17\n"
    )
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_the_output_that_is_taken_among_several_is_named_and_kept(inputs, tmp_path, leakrt):
    import onnx

    parsed = onnx.load_model_from_string(vae_encoder(SPEC))
    parsed.graph.node.append(onnx.helper.make_node("Exp", ["latent"], ["twin"]))
    parsed.graph.output.append(onnx.helper.make_tensor_value_info("twin", onnx.TensorProto.FLOAT, None))
    onnx.save(parsed, tmp_path / "two.onnx")
    options = {"vae": f"onnx:{tmp_path / 'two.onnx'}", "cache": tmp_path / "cache", "epochs": 1}
    plain = leakrt(*arguments(inputs, tmp_path / "a", **options))
    assert f"note: onnx:{tmp_path / 'two.onnx'} has the outputs latent, twin; latent is used" in plain.err
    named = leakrt(*arguments(inputs, tmp_path / "b", **options), "--vae-output", "twin")
    assert "twin is used as the posterior mean" in named.err
    kept = [json.loads((tmp_path / run / "run.json").read_text())["vae"] for run in "ab"]
    assert [vae["output"] for vae in kept] == ["latent", "twin"]
    assert kept[0]["fingerprint"] != kept[1]["fingerprint"]
    assert leakrt("export", tmp_path / "b", "--out", tmp_path / "bundle").code == 0
    wrong = leakrt(*arguments(inputs, tmp_path / "c", **options), "--vae-output", "mean")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "--vae-output mean: " in wrong.err
    assert "has no such output; it has latent, twin" in wrong.err


def test_json_is_one_object_with_the_run_and_its_best_figures(inputs, tmp_path, leakrt):
    command = arguments(inputs, tmp_path / "run", epochs=3)
    done = leakrt(*command, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    with open(tmp_path / "run" / "metrics.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    best = max(rows, key=lambda row: float(row["val_macro_auc"]))
    assert found.keys() == {"run", "class_names", "images", "epochs", "best", "seconds", "left_out"}
    assert (found["run"], found["epochs"]) == (str(tmp_path / "run"), 3)
    assert found["images"]["train"] == {"blocky": 24, "real": 24, "smooth": 24}
    assert found["best"] == {
        "epoch": int(best["epoch"]),
        **{name: float(best[f"val_{name}"]) for name in ("loss", "macro_auc", "balanced_accuracy", "top1")},
    }
    assert found["seconds"] > 0
    again = json.loads(leakrt(*command, "--json").out)  # nothing was left to do
    assert again | {"seconds": 0} == found | {"seconds": 0}


def test_every_option_reaches_the_recipe(inputs, tmp_path, leakrt):
    recipe = {"learning-rate": 0.002, "weight-decay": 0.02, "step-dropout": 0.1, "entropy-weight": 0.2}
    recipe |= {"label-smoothing": 0.05, "views": "plain", "seed": 7, "epochs": 1, "batch-size": 8, "threads": 1}
    shape = {"schedule": "linear", "timesteps": "5,9", "draws": 2, "embedding-dim": 6, "image-size": 32}
    assert leakrt(*arguments(inputs, tmp_path / "run", **recipe, **shape, prototypes=3)).code == 0
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {name: info["config"][name.replace("-", "_")] for name in recipe} == recipe
    shape |= {"timesteps": [5, 9], "prototypes_per_class": 3}
    assert {name: info["spec"][name.replace("-", "_")] for name in shape} == shape


_RECIPE_OF_TRAIN = ("threads", "augment", "copies")  # the verb augments; a configuration does not by itself


def test_options_left_out_have_the_defaults_of_recipe_and_spec():
    from leakrt.cli.train import train
    from leakrt.core.spec import ModelSpec
    from leakrt.train.config import TrainConfig

    defaults = {name: p.default for name, p in inspect.signature(train).parameters.items()}
    recipe, spec = TrainConfig(), ModelSpec(class_names=("real", "x"), real_class="real")
    shared = [name for name in defaults if hasattr(recipe, name) and name not in _RECIPE_OF_TRAIN]
    assert len(shared) == 9
    assert {name: defaults[name] for name in shared} == {name: getattr(recipe, name) for name in shared}
    for name in ("schedule", "image_size", "draws", "embedding_dim"):
        assert defaults[name] == getattr(spec, name)
    assert defaults["timesteps"] == ",".join(map(str, spec.timesteps))
    assert defaults["prototypes"] == spec.prototypes_per_class


def test_a_pixel_branch_is_trained_on_several_folders(inputs, tmp_path, leakrt):
    for name in ("real", "smooth"):
        write_images(tmp_path / "more" / "train" / name, name, 9, first_seed=77_000)
    options = {"epochs": 1, "pixel-epochs": 2, "branch-channels": 3, "json": None}
    first, data, *rest = arguments(inputs, tmp_path / "run", **options)
    done = leakrt(first, data, tmp_path / "more", *(part for part in rest if part is not None))
    assert (done.code, done.err.count("epoch ")) == (0, 3)
    found = json.loads(done.out)
    assert found["images"]["train"] == {"blocky": 24, "real": 33, "smooth": 33}
    spec = json.loads((tmp_path / "run" / "run.json").read_text())["spec"]
    assert (spec["branch_channels"], spec["embedding_dim"]) == (3, 24)


def test_one_folder_named_twice_is_refused(inputs, tmp_path, leakrt):
    first, data, *rest = arguments(inputs, tmp_path / "run")
    for again in (data, data / "train"):
        done = leakrt(first, data, again, *rest)
        assert done.code == 1
        assert "is named twice" in done.err
