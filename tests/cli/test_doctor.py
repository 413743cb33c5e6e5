"""`leakrt doctor`: what is installed, what can run, what is missing."""

from __future__ import annotations

import json
import re

import pytest
from machines import BARE, ORIN, RTX_PC
from stand_in_driver import leakrt_with_driver

from leakrt import _core
from leakrt.runtime.doctor import report as examination


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


def test_backends_stand_in_the_order_of_auto_and_those_it_never_takes_apart(leakrt):
    from leakrt.core.variants import NAMED_ONLY
    from leakrt.runtime.backends.registry import AUTO_ORDER

    titles = ("backends that auto may select, in its order (the bundle must have passed its acceptance test there)",
              "backends to select by name")  # fmt: skip
    sections = dict(section.split("\n", 1) for section in leakrt("doctor").out.split("\n\n")[1:3])
    listed = [tuple(line.split()[0] for line in sections[title].splitlines()) for title in titles]
    assert listed == [AUTO_ORDER, NAMED_ONLY]
    assert json.loads(leakrt("doctor", "--json").out)["auto_order"] == list(AUTO_ORDER)


def test_a_missing_package_names_its_command(leakrt, monkeypatch):
    installed = examination._installed
    monkeypatch.setattr(examination, "_installed", lambda n: "" if n in ("torch", "numpy") else installed(n))
    done = leakrt("doctor")
    assert done.code == 1
    assert "numpy is not installed; install it with: pip install numpy" in done.out
    # with the base install alone, torch is one of several that the extra lacks
    assert re.search(
        r"extra train: ([\w-]+, )*torch(, [\w-]+)* not installed; run: pip install 'leakrt\[train\]'", done.out
    )


def test_a_cache_that_can_not_be_written_is_a_problem(leakrt, cache, monkeypatch):
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    done = leakrt("doctor")
    assert done.code == 1
    assert re.search(
        r"can't write to the cache folder .*: Not a directory; set \$XDG_CACHE_HOME to a writable folder", done.out
    )


def test_a_backend_that_can_not_run_says_what_it_needs(leakrt, monkeypatch):
    from leakrt.runtime.backends.base import Availability

    missing = (
        Availability(
            backend="onnxruntime",
            runs=False,
            version="",
            reason="onnxruntime is not installed",
            install="pip install onnxruntime",
        ),
    )
    monkeypatch.setattr(examination, "probe_all", lambda: missing)
    done = leakrt("doctor")
    assert done.code == 1
    assert "onnxruntime is not installed; pip install onnxruntime" in done.out
    assert "no backend can run" in done.out


def test_what_a_backend_leaves_to_the_doctor_is_not_sent_back_to_it(leakrt, monkeypatch):
    monkeypatch.setattr(examination, "gather", lambda: BARE)
    out = leakrt("doctor").out
    assert re.search(r"tensorrt +\S+ +.*; see below", out)
    assert "`leakrt doctor`" not in out


def test_on_a_jetson_the_output_has_its_name_its_gpu_and_its_commands(leakrt, monkeypatch):
    from dataclasses import replace

    facts = replace(ORIN, pycuda="", libraries=(replace(ORIN.libraries[0], version=""), ORIN.libraries[1]), bindings=())
    monkeypatch.setattr(examination, "gather", lambda: facts)
    done = leakrt("doctor")
    assert done.code == 0
    assert "JetPack 6.2 (Jetson Linux 36.4.3)" in done.out
    assert re.search(r"GPU 0 +found +Orin, compute capability 8\.7, 7\.0 GiB shared with the CPU", done.out)
    commands = done.out.split("commands to install what is missing\n")[1].splitlines()[:2]
    assert [line.split(maxsplit=1) for line in commands] == [
        ["PyCUDA", "PATH=/usr/local/cuda/bin:$PATH pip install 'leakrt[tensorrt]'"],
        ["TensorRT", "sudo apt install python3-libnvinfer"],
    ]


def test_without_a_gpu_the_output_has_the_commands_of_every_kind_of_machine(leakrt, monkeypatch):
    monkeypatch.setattr(examination, "gather", lambda: BARE)
    done = leakrt("doctor")
    assert done.code == 0
    assert "NVIDIA GPU (none found; CPU backends need none)" in done.out
    for line in (
        r"driver +Jetson +sudo apt install nvidia-l4t-cuda",
        r"driver +RTX PC +sudo apt install nvidia-driver-580-open",
        r"driver +datacenter GPU +sudo apt install nvidia-headless-580-server-open",
        r"PyCUDA +any +PATH=/usr/local/cuda/bin:\$PATH pip install 'leakrt\[tensorrt\]'",
        r"TensorRT-RTX +RTX PC +pip install 'leakrt\[rtx\]'",
    ):
        assert re.search(line, done.out), line
    assert "TensorRT-RTX  Jetson" not in done.out


def test_a_whole_machine_is_given_no_commands(leakrt, monkeypatch):
    monkeypatch.setattr(examination, "gather", lambda: RTX_PC)
    out = leakrt("doctor").out
    assert "commands to install what is missing" not in out
    assert re.search(r"engine cache +2 engines, 1\.0 MiB of 8\.0 GiB, in /cache/engines", out)


def test_a_driver_older_than_the_kernels_and_two_gpus_are_reported_by_the_command_itself(tmp_path):
    nvidia = json.loads(leakrt_with_driver(tmp_path, "doctor", "--json").stdout)["nvidia"]
    facts, needs = nvidia["facts"], {need["name"]: need for need in nvidia["needs"]}
    assert [(g["index"], g["device"]["name"], g["integrated"]) for g in facts["gpus"]] == [
        (0, "First GPU", False), (1, "Second GPU", True),
    ]  # fmt: skip
    assert facts["driver"]["cuda"] == "12.4"
    assert needs["driver"]["state"] == "ready"
    if facts["kernels"]["toolkit"].startswith("13."):
        assert needs["kernels"]["state"] == "unfit"
        assert "but the driver supports CUDA up to 12.4" in needs["kernels"]["detail"]
