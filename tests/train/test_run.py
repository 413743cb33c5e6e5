"""A RUN folder opens, or is refused in one line that names the file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from runs import CLASSES, COUNTS, tiny_run

from leakrt.core.errors import CheckpointError, DataError, ModelError
from leakrt.train.checkpoint import Checkpoint
from leakrt.train.config import TrainConfig
from leakrt.train.run import Run, RunInfo, training_views


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the run folder, which refers to the original data, encoder and latents."""
    return shutil.copytree(tiny_run() / "run", tmp_path / "run")


def change_info(folder: Path, **changes: object) -> None:
    data = json.loads((folder / "run.json").read_text())
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = data
        for parent in parents:
            place = place[parent]
        place[last] = value
    (folder / "run.json").write_text(json.dumps(data))


def change_items(folder: Path, **changes: object) -> None:
    items = json.loads((folder / "items.json").read_text())
    items[5] |= changes
    (folder / "items.json").write_text(json.dumps(items))


def refused(folder: Path, why: str) -> None:
    with pytest.raises(CheckpointError, match=why) as error:
        Run.open(folder)
    assert "\n" not in str(error.value)


def test_a_run_records_its_training_data(folder):
    run = Run.open(folder)
    run.require_finished()
    assert run.spec.class_names == CLASSES
    assert run.info.counts == {split: dict.fromkeys(CLASSES, count) for split, count in COUNTS.items()}
    for split, count in COUNTS.items():
        assert run.labels(split).tolist() == [k for k in range(3) for _ in range(count)]
        assert all(Path(item.path).parts[-3:-1] == (split, CLASSES[item.label]) for item in run.of(split))
    assert RunInfo.read(folder / "run.json") == run.info
    assert run.best().epoch == max(json.loads(history(folder)), key=lambda row: row["val_macro_auc"])["epoch"]


def history(folder: Path) -> str:
    return json.dumps(Checkpoint.read(folder / "last.safetensors").state["history"])


def test_a_run_round_trips(folder, tmp_path):
    info = Run.open(folder).info
    replace(info, finished=False).write(tmp_path)
    assert RunInfo.read(tmp_path / "run.json") == replace(info, finished=False)


def test_a_folder_without_a_run_is_refused(tmp_path):
    refused(tmp_path, r"is not a training run: it has no run\.json; make one with: leakrt train")
    refused(tmp_path / "none", "is not a training run")


@pytest.mark.parametrize("name", ["run.json", "items.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"nonsense", b"[" * 100_000, b"9" * 5000])
def test_a_file_that_is_not_json_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    refused(folder, rf"{name} is (not JSON|broken|not a training run).*--restart")


@pytest.mark.parametrize("name", ["run.json", "items.json"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(folder, name, share):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * share)])
    refused(folder, rf"{name} is not JSON .*; train again with --restart")


def test_missing_items_are_named(folder):
    (folder / "items.json").unlink()
    refused(folder, r"items\.json can't be read \(No such file")


@pytest.mark.parametrize("version", [None, "1", 0, -1, 1.0, True, [1]])
def test_a_run_without_a_format_version_is_refused(folder, version):
    change_info(folder, format_version=version)
    refused(folder, r"run\.json is not a training run: it states no format version")


def test_a_newer_run_says_to_upgrade(folder):
    change_info(folder, format_version=2, something_new=1)
    refused(folder, r"run\.json has format 2, this LeakRT reads up to 1; upgrade it: pip install -U leakrt")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"extra": 1}, "lacks fields or has unknown ones"),
        ({"finished": "false"}, "finished is not of type bool"),
        ({"cache": 5}, "cache is not of type str"),
        ({"cache": "a\0b"}, "contains an invalid file name"),
        ({"cache": ""}, "contains an invalid file name"),
        ({"vae__source": "\ud800"}, "contains an invalid file name"),
        ({"counts": {"train": 3}}, "counts is not of type"),
        ({"versions": []}, "versions is not of type"),
        ({"spec": None}, "the model spec is not a JSON object"),
        ({"spec__image_size": 33}, "model spec: image size 33"),
        ({"config": []}, "training configuration lacks fields"),
        ({"config__epochs": 1.5}, "training configuration: epochs is not of type int"),
        ({"config__threads": "2"}, "training configuration: threads is not of type int"),
        ({"config__widths": 8}, "training configuration: widths is not of type"),
        ({"config__widths": [8] * 100_000}, "training configuration: widths .* 1 to 9 stages"),
        ({"config__learning_rate": float("nan")}, "training configuration: learning rate nan"),
        ({"config__head": "x"}, "training configuration: head 'x' does not exist"),
        ({"vae": 3}, "description of the VAE lacks fields"),
        ({"vae__scale": "1"}, "description of the VAE: scale is not of type float"),
        ({"vae__image_size": True}, "description of the VAE: image_size is not of type int"),
    ],
)
def test_an_invalid_field_is_named_with_the_file(folder, changes, why):
    change_info(folder, **changes)
    refused(folder, rf"run\.json.*{why}")


@pytest.mark.parametrize(
    "change",
    [
        {"label": 3},
        {"label": -1},
        {"label": "0"},
        {"label": 0.0},
        {"label": True},
        {"split": "trian"},
        {"split": ["train"]},
        {"path": ""},
        {"path": 5},
        {"path": "a\0b"},
        {"digest": "abc"},
        {"digest": None},
        {"digest": "Z" * 64},
        {"extra": 1},
    ],
)
def test_an_invalid_item_is_reported(folder, change):
    change_items(folder, **change)
    refused(folder, r"items\.json is damaged: it must list images with path, label, split and digest")


@pytest.mark.parametrize("data", [{}, None, 3, "x", [1], [[]], [{}], {"path": "x"}])
def test_items_that_are_not_a_list_of_images_are_reported(folder, data):
    (folder / "items.json").write_text(json.dumps(data))
    refused(folder, r"items\.json is damaged")


def test_a_run_json_of_hostile_size_is_not_read(folder):
    with open(folder / "run.json", "r+b") as handle:
        handle.truncate((4 << 20) + 1)  # sparse: takes no space
    refused(folder, r"run\.json can't be read \(it has more than 4 MiB\)")


_OPEN_AND_BUILD = """
import sys, resource
from leakrt.core.errors import CheckpointError
from leakrt.train.run import Run
run = Run.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
try:
    run.encoder()
except CheckpointError as error:
    print(error)
"""


def test_a_network_of_hostile_size_is_refused_before_allocation(folder):
    change_info(folder, spec__embedding_dim=4096, spec__prototypes_per_class=256, config__widths=[4096] * 9)
    names = [f"c{k}" for k in range(999)] + ["real"]  # prototypes take 4 GB, convolutions 5 GB
    change_info(folder, spec__class_names=names)
    command = [sys.executable, "-c", _OPEN_AND_BUILD, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    assert "best.safetensors does not match the run (" in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_error_of_an_unfinished_run_says_how_to_resume(folder):
    change_info(folder, finished=False)
    with pytest.raises(CheckpointError, match="is not finished; run the same leakrt train command again"):
        Run.open(folder).require_finished()


def test_weights_of_another_network_are_refused(folder):
    run = Run.open(folder)
    kept = Checkpoint.read(folder / "best.safetensors")
    tensors = dict(kept.tensors)
    for broken in (
        tensors | {"head.prototypes": torch.zeros(3, 2, 13)},
        tensors | {"extra": torch.zeros(1)},
        {name: tensor for name, tensor in tensors.items() if name != "head.prototypes"},
    ):
        Checkpoint(broken, kept.state).write(folder / "best.safetensors")
        with pytest.raises(CheckpointError, match=r"best\.safetensors does not match the run \(1 tensors are"):
            run.encoder()


def test_best_metrics_of_another_form_are_refused(folder):
    kept = Checkpoint.read(folder / "best.safetensors")
    for state in ({}, {**kept.state, "epoch": "1"}, {**kept.state, "extra": 1}):
        Checkpoint(kept.tensors, state).write(folder / "best.safetensors")
        with pytest.raises(CheckpointError, match="has no metrics; train again with --restart"):
            Run.open(folder).best()


def test_latents_missing_from_the_cache_are_encoded_again(folder, tmp_path):
    run = Run.open(folder)
    wanted = run.latents("test")
    change_info(folder, cache=str(tmp_path / "empty"))
    assert np.array_equal(Run.open(folder).latents("test"), wanted)


def test_images_to_encode_again_that_are_missing_or_changed_are_reported(folder, tmp_path):
    image = tmp_path / "image.png"
    shutil.copy(Run.open(folder).items[5].path, image)
    change_info(folder, cache=str(tmp_path / "empty"))
    change_items(folder, path=str(image))
    split = Run.open(folder).items[5].split
    image.write_bytes(b"another")
    with pytest.raises(DataError, match=r"image\.png is not the file that the run was trained on; restore the data"):
        Run.open(folder).latents(split)
    image.unlink()
    with pytest.raises(DataError, match=r"an image of the run is missing: .*image\.png: can't be read"):
        Run.open(folder).latents(split)


def test_a_moved_encoder_is_reported_only_if_it_is_needed(folder, tmp_path):
    change_info(folder, vae__source=str(tmp_path / "gone.onnx"))
    assert len(Run.open(folder).latents("val")) == 3 * COUNTS["val"]
    with pytest.raises(ModelError, match=r"gone\.onnx can't be read"):
        Run.open(folder).vae()


@pytest.mark.parametrize(("views", "count"), [("plain", 1), ("flip", 2), ("dihedral", 8)])
def test_a_configuration_selects_its_views(views, count):
    assert training_views(TrainConfig(views=views)) == tuple(range(count))
