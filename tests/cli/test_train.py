"""`leakrt train`: the same weights after a kill, and errors in one line."""

from __future__ import annotations

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
from runs import SPEC, write_autoencoder, write_data


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
    """What it was doing is told by the file that appears; another moment within it every time."""
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
        f"leakrt: error: another process trains in {tmp_path / 'run'}; wait for it, or choose another --out\n"
    )
    process.communicate()
    assert process.returncode == 0
    for name in LASTING:
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed(inputs, leakrt) / name).read_bytes()


def test_without_room_for_latents_there_is_one_line_and_the_next_run_goes_on(inputs, tmp_path, leakrt, start_leakrt):
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # items.json fits, the latents don't

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
    assert refused.err.endswith("leave them out with --skip-bad\n")
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
    ],
)
def test_what_can_not_be_meant_is_one_line(inputs, tmp_path, leakrt, changes, code, message):
    result = leakrt(*arguments(inputs, tmp_path / "run", **changes))
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1
