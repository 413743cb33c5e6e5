"""`leakrt train`: the same weights after a kill, and errors in one line."""

from __future__ import annotations

import os
import signal
import time

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from bundles import vae_encoder
from runs import SPEC, write_data


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    (root / "vae.onnx").write_bytes(vae_encoder(SPEC))
    write_data(root / "data")
    return root


def arguments(inputs, out, **changes):
    options = {"epochs": 30, "batch-size": 8, "image-size": 32, "timesteps": "0,60", "embedding-dim": 12, "threads": 1}
    options |= {"vae": f"onnx:{inputs / 'vae.onnx'}", "cache": inputs / "cache", "out": out} | changes
    return ["train", inputs / "data", *(part for name, value in options.items() for part in (f"--{name}", value))]


def test_a_run_killed_at_any_moment_ends_with_the_weights_of_an_undisturbed_one(inputs, tmp_path, leakrt, start_leakrt):
    assert leakrt(*arguments(inputs, tmp_path / "whole")).code == 0
    killed = tmp_path / "killed"
    process = start_leakrt(*arguments(inputs, killed))
    while process.poll() is None and not (killed / "last.safetensors").exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert '"finished": false' in (killed / "run.json").read_text()
    assert leakrt(*arguments(inputs, killed)).code == 0
    rows = (killed / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(i + 1) for i in range(30)]
    for name in ("best.safetensors", "last.safetensors", "metrics.csv"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


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
    ],
)
def test_what_can_not_be_meant_is_one_line(inputs, tmp_path, leakrt, changes, code, message):
    result = leakrt(*arguments(inputs, tmp_path / "run", **changes))
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1
