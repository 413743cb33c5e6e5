"""Fixtures for every stage: a tiny bundle, images of noise, and the command line."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent / "data"
_RUN = "from leakrt.cli.main import run; run()"

# Where the tests were started in the background with Ctrl-C ignored, every process they start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _gpu_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith(("leakrt-gpu", "host stream"))}


@pytest.fixture(autouse=True)
def gpu_threads_end():
    """Fails a test that leaves a GPU's thread, or a stream of a device on host memory, which the next would count."""
    before = _gpu_threads()
    yield
    if _gpu_threads() - before:
        gc.collect()
    left = sorted(thread.name for thread in _gpu_threads() - before)
    assert not left, f"the test left {left}"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """What LeakRT keeps for later lies in a folder of each test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("xdg")))


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The bundle that tests/bundles.py made; not to be written to."""
    return DATA / "tiny"


@pytest.fixture(scope="session")
def shared():
    """Finds what is too large or not free to lie in the repository: `shared("leakbench/test/real")` gives its path.

    It lies in $LEAKRT_SHARED, or in `shared` beside the repository; a test that asks for what is not there is skipped.
    """
    root = Path(os.environ.get("LEAKRT_SHARED") or Path(__file__).parents[2] / "shared")

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"needs {name} in {root}, or in another folder named by $LEAKRT_SHARED")
        return root / name

    return find


@pytest.fixture(scope="session")
def with_weights(tiny, tmp_path_factory) -> Path:
    """The tiny bundle with the weights that the torch backend reads; as it is where onnx is not installed."""
    if importlib.util.find_spec("onnx") is None:
        return tiny
    from leakrt.core.bundle import Bundle, write_bundle
    from leakrt.export.weights import weights_file

    read = Bundle(tiny)
    files = {name: read.read(name) for name in read.hashes}
    path = tmp_path_factory.mktemp("weights") / "bundle"
    write_bundle(path, read.spec, {**files, **weights_file(files)}, provenance=read.provenance)
    return path


@pytest.fixture
def tiny_copy(tiny, tmp_path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "bundle"))


@pytest.fixture
def image_folder(tmp_path):
    """Makes a folder of `count` noise images of odd sizes, PNG and JPEG."""
    from PIL import Image

    def make(count: int, name: str = "images") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (41 + i % 7, 53 - i % 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:04d}.{'png' if i % 2 else 'jpg'}")
        return folder

    return make


@dataclass(frozen=True)
class Run:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def leakrt(monkeypatch, capsys):
    """Runs `leakrt ARGUMENTS` in this process."""
    from leakrt.cli.main import run

    def call(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["leakrt", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run()
        captured = capsys.readouterr()
        return Run(stop.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Two GPUs of host memory for the backend `tensorrt`, and an engine cache; see `host_chain.HostGpus`.

    A test must leave nothing on them.
    """
    pytest.importorskip("onnx", reason="the stand-in for TensorRT needs onnx")
    from host_chain import VERSION, HostGpus

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = HostGpus(monkeypatch, 2, VERSION)
    yield made
    gc.collect()
    assert made.held == 0


@pytest.fixture
def start_leakrt():
    """Starts `leakrt ARGUMENTS` as a process of its own; ended at the latest with the test."""
    started: list[subprocess.Popen] = []

    def start(*arguments: object, **options) -> subprocess.Popen:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        process = subprocess.Popen([sys.executable, "-c", _RUN, *map(str, arguments)], **streams)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
