"""Checkpoints round-trip bit for bit; damaged files are named in the error."""

from __future__ import annotations

import json
import os

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file

from leakrt.core.errors import CheckpointError, StorageError
from leakrt.train.checkpoint import Checkpoint, prefixed


def example() -> Checkpoint:
    tensors = {"model.a": torch.randn(3, 5), "model.b": torch.tensor(2.5), "optimizer.a": torch.arange(7)}
    return Checkpoint(tensors, {"history": [{"epoch": 1, "loss": 1 / 3}]})


def refused(path, why="can't be read"):
    with pytest.raises(CheckpointError, match=why) as error:
        Checkpoint.read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_tensors_and_state_round_trip_bit_for_bit(tmp_path):
    written = example()
    written.write(tmp_path / "x")
    found = Checkpoint.read(tmp_path / "x")
    assert found.tensors.keys() == written.tensors.keys()
    assert all(
        torch.equal(found.tensors[k], v) and found.tensors[k].dtype == v.dtype for k, v in written.tensors.items()
    )
    assert found.state == written.state


def test_parameters_views_and_other_memory_formats_are_written_by_value(tmp_path):
    last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    whole = torch.randn(4, 6)
    Checkpoint({"last": last, "part": whole[:, 1:3], "grown": torch.nn.Parameter(whole)}, {}).write(tmp_path / "x")
    found = Checkpoint.read(tmp_path / "x").tensors
    assert torch.equal(found["last"], last)
    assert torch.equal(found["part"], whole[:, 1:3])
    assert torch.equal(found["grown"], whole)


def test_a_part_contains_the_tensors_under_its_prefix():
    assert {k: v.shape for k, v in example().part("model").items()} == {"a": (3, 5), "b": ()}
    assert prefixed("x", example().part("optimizer")).keys() == {"x.a"}
    assert example().part("mod") == {}


def test_a_missing_file_is_reported_with_the_remedy(tmp_path):
    refused(tmp_path / "none", "is missing; run the training again with the same command")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999])
def test_a_truncated_file_is_named(tmp_path, share):
    example().write(tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[: int(len(data) * share)])
    refused(tmp_path / "x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04N.",  # a pickle
        (2**62).to_bytes(8, "little") + b"{}",  # a header of 4 EB
        len(b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}').to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}0000',
    ],
)
def test_a_file_with_a_false_header_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    refused(tmp_path / "x")


def test_a_folder_in_its_place_is_refused(tmp_path):
    refused(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        (None, "can't be read"),
        ({"other": "1"}, "can't be read"),
        ({"state": "{"}, "can't be read"),
        ({"state": "[" * 100_000}, "can't be read"),
        ({"state": "[]"}, "holds no training state"),
        ({"state": "null"}, "holds no training state"),
    ],
)
def test_state_that_is_not_a_json_object_is_refused(tmp_path, metadata, why):
    save_file({"a": torch.zeros(2)}, tmp_path / "x", metadata=metadata)
    refused(tmp_path / "x", why)


def test_nothing_is_lost_when_it_can_not_be_written(tmp_path):
    example().write(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    (tmp_path / f".x.{os.getpid()}.part").mkdir()  # blocks the temporary file
    with pytest.raises(StorageError, match=r"can't write .*x: "):
        example().write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == before


def test_state_is_plain_json_beside_the_tensors(tmp_path):
    from safetensors import safe_open

    example().write(tmp_path / "x")
    with safe_open(tmp_path / "x", framework="np") as file:
        assert json.loads(file.metadata()["state"]) == {"history": [{"epoch": 1, "loss": 1 / 3}]}
