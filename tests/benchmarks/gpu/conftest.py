"""The scripts of benchmarks/gpu, which import one another by their file names."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "gpu"


@pytest.fixture
def run_script(tmp_path):
    """Runs a script in a process of its own, as `verify.py` does; gives its exit code and what it left."""

    def run(name: str, *arguments: object) -> tuple[int, dict]:
        out = tmp_path / f"{name}.json"
        command = [sys.executable, FOLDER / f"{name}.py", "--out", out, "--work", tmp_path, *arguments]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        assert out.exists(), done.stderr
        return done.returncode, json.loads(out.read_text())

    return run


@pytest.fixture
def run_in(tmp_path, monkeypatch):
    """Runs the main function of a script that was imported, with these names of it changed; gives exit code and
    results."""

    def run(module, *arguments: str, **changes: object) -> tuple[int, dict]:
        out = tmp_path / f"{module.__name__}.json"
        monkeypatch.setattr(sys, "argv", [module.__name__, "--out", str(out), "--work", str(tmp_path), *arguments])
        for name, value in changes.items():
            monkeypatch.setattr(module, name, value)
        with pytest.raises(SystemExit) as stop:
            module.main()
        return int(stop.value.code or 0), json.loads(out.read_text())

    return run


@pytest.fixture
def script(monkeypatch):
    """Imports a script by its name, anew for each test."""
    # Not monkeypatch's own way: it would take along what libraries have added meanwhile for their later imports.
    sys.path.insert(0, str(FOLDER))
    own = [path.stem for path in FOLDER.glob("*.py")]

    def load(name: str):
        for other in own:
            monkeypatch.delitem(sys.modules, other, raising=False)
        return importlib.import_module(name)

    yield load
    sys.path.remove(str(FOLDER))
    for other in own:
        sys.modules.pop(other, None)


@pytest.fixture
def made(script, run_in, tiny, tmp_path):
    """make_bundle.py with the tiny bundle's networks in the place of Stable Diffusion's."""
    pytest.importorskip("onnx", reason="graphs are written with onnx")
    pytest.importorskip("diffusers", reason="make_networks describes graphs, and imports it")
    from leakrt.core.bundle import Bundle
    from leakrt.export.weights import network_of

    describe = script("make_networks")._described
    bundle = Bundle(tiny)
    described = {
        stem: describe(network_of(bundle.graph(stem, "fp32"), stem)) for stem in ("vae_encoder", "leak_encoder")
    }
    module = script("make_bundle")
    module.networks.read = lambda: (bundle.spec, described, {"vae": 7})
    code, found = run_in(module)
    assert (code, found["failures"]) == (0, [])
    assert found["flops_per_image"] == {"vae": 7}
    return tmp_path / "bundle"
