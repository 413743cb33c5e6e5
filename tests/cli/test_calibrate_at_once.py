"""Several `leakrt calibrate` at once: on one bundle they take turns, copies of it share a cache and do no harm."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxslim")
from runs import tiny_run

from leakrt.core.bundle import Bundle

# A graph of a few kilobytes need not be faster in int8, so that rule is set aside. All begin when all are ready.
_COMMAND = """
import sys
from leakrt.calibration.int8 import calibrate, refitting
from leakrt.cli.main import run
from leakrt.core import acceptance
acceptance.MIN_INT8_SPEEDUP = 0.0
print("ready", file=sys.stderr, flush=True)
sys.stdin.readline()
run()
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle of the tiny run; not to be written to."""
    from leakrt.export.exporter import export_run
    from leakrt.train.run import Run

    path = tmp_path_factory.mktemp("exported") / "bundle"
    export_run(Run.open(tiny_run() / "run"), path)
    return path


def calibrate_at_once(*bundles):
    """Exit code and stderr of a calibration of each, begun at the same moment."""
    data, run = tiny_run() / "data", tiny_run() / "run"
    options = ("--run", run, "--images", 40, "--threads", 1, "--max-drop", 1)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _COMMAND, "calibrate", *map(str, (bundle, data, *options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for bundle in bundles
    ]
    for child in children:
        assert child.stderr.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    return [(child, *child.communicate(timeout=240)) for child in children]


def test_of_two_on_one_bundle_the_second_finds_the_variant_there(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = shutil.copytree(exported, tmp_path / "bundle")
    ended = calibrate_at_once(bundle, bundle)
    assert sorted(child.returncode for child, _, _ in ended) == [0, 1]
    said = next(err for child, _, err in ended if child.returncode == 1)
    assert said.splitlines()[-1].endswith("already has an int8 variant; give --replace to replace it")
    assert Bundle(bundle).precisions == ("fp32", "int8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "cache"]


def test_two_copies_share_a_cache_and_get_the_same_variant(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copies = [shutil.copytree(exported, tmp_path / name) for name in ("first", "second")]
    for child, _, err in calibrate_at_once(*copies):
        assert child.returncode == 0, err
    first, second = map(Bundle, copies)
    for stem in ("vae_encoder", "leak_encoder"):
        assert first.graph(stem, "int8") == second.graph(stem, "int8")
    assert len(list((tmp_path / "cache" / "leakrt" / "latents").iterdir())) == 1  # those of int8 are gone
    assert not list((tmp_path / "cache").rglob("*.part"))
