"""`leakrt doctor`: what is installed, what can run, what is missing."""

from __future__ import annotations

import json
import re

import pytest

from leakrt import _core
from leakrt.runtime import doctor as examination


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_whole_installation_has_no_problems(leakrt, cache):
    done = leakrt("doctor", "--json")
    health = json.loads(done.out)
    assert (done.code, health["problems"]) == (0, [])
    assert health["simd"] == _core.simd()
    assert health["cache"] == str(cache / "leakrt")
    assert health["threads"] >= 1
    packages = {p["name"]: p for p in health["packages"]}
    for name in ("numpy", "onnxruntime", "pillow", "safetensors", "typer", "rich"):
        assert packages[name]["version"]
        assert packages[name]["extra"] == ""
    assert packages["torch"]["extra"] == "train"
    assert "pytest" not in packages
    assert health["backends"][0]["runs"] in (True, False)


def test_people_get_versions_backends_and_the_cache(leakrt, cache):
    out = leakrt("doctor").out
    for text in ("native core", _core.simd(), "onnxruntime", "can run", str(cache), "pillow"):
        assert text in out


def test_a_missing_package_names_its_command(leakrt, monkeypatch):
    installed = examination._installed
    monkeypatch.setattr(examination, "_installed", lambda n: "" if n in ("torch", "numpy") else installed(n))
    done = leakrt("doctor")
    assert done.code == 1
    assert "numpy is not installed; install it with: pip install numpy" in done.out
    # with the base install alone, torch is one of several that the extra lacks
    assert re.search(r"train lacks ([\w-]+, )*torch(, [\w-]+)*: pip install 'leakrt\[train\]'", done.out)


def test_a_cache_that_can_not_be_written_is_a_problem(leakrt, cache, monkeypatch):
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    done = leakrt("doctor")
    assert done.code == 1
    assert "can't be written (Not a directory); set $XDG_CACHE_HOME to one that can" in done.out


def test_a_backend_that_can_not_run_says_what_it_needs(leakrt, monkeypatch):
    from leakrt.runtime.backends.base import Availability

    missing = (Availability("onnxruntime", False, "", "onnxruntime is not installed", "pip install onnxruntime"),)
    monkeypatch.setattr(examination, "probe_all", lambda: missing)
    done = leakrt("doctor")
    assert done.code == 1
    assert "onnxruntime is not installed; pip install onnxruntime" in done.out
    assert "no backend can run" in done.out
