"""The report of an installation, complete and with one component missing."""

from __future__ import annotations

import json

import pytest
from machines import BARE, ORIN

from leakrt import __version__, _core
from leakrt.runtime.backends.base import Availability
from leakrt.runtime.doctor import report as doctor


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "leakrt"


def test_a_complete_installation_has_no_problems_with_or_without_a_gpu(monkeypatch):
    assert doctor.examine().problems == ()
    monkeypatch.setattr(doctor, "gather", lambda: BARE)
    health = doctor.examine()
    assert (health.problems, health.nvidia.kind) == ((), "")
    assert health.leakrt == __version__
    assert health.simd == _core.simd()


def test_every_package_in_the_metadata_is_listed_once_per_extra():
    listed = [(p.name, p.extra) for p in doctor.examine().packages]
    assert len(set(listed)) == len(listed)
    extras = {extra for _, extra in listed}
    assert extras >= {"", "train", "openvino", "tensorrt", "rtx"}
    assert "dev" not in extras
    assert ("tensorrt-rtx", "rtx") in listed


def test_an_extra_lists_its_missing_packages(monkeypatch):
    installed = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: "" if name == "pycuda" else installed(name))
    assert "pycuda" in doctor.examine().missing_extras()["tensorrt"]


def test_checking_the_cache_leaves_no_file(cache):
    doctor.examine()
    assert list(cache.iterdir()) == []


def test_no_usable_backend_is_a_problem(monkeypatch):
    missing = Availability(
        backend="onnxruntime",
        runs=False,
        version="",
        reason="onnxruntime is not installed",
        install="pip install onnxruntime",
    )
    monkeypatch.setattr(doctor, "probe_all", lambda: [missing])
    assert doctor.examine().problems == ("no backend can run; see above",)


def test_health_converts_to_json_with_facts_and_needs(monkeypatch):
    monkeypatch.setattr(doctor, "gather", lambda: ORIN)
    nvidia = json.loads(json.dumps(doctor.examine().to_json()))["nvidia"]
    assert nvidia["kind"] == "jetson"
    assert nvidia["facts"]["jetson"]["linux"] == "36.4.3"
    assert nvidia["facts"]["gpus"][0]["device"]["capability"] == "8.7"
    assert nvidia["needs"][0]["name"] == "driver"
