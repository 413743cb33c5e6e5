"""The components of a GPU, evaluated for complete machines and for machines with one fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machines import BARE, ORIN, RTX_PC, SERVER

from leakrt.engines.library.device import Gpu, TargetDevice
from leakrt.runtime.doctor.facts import DriverFacts
from leakrt.runtime.doctor.jetson import Jetson
from leakrt.runtime.doctor.libraries import Library
from leakrt.runtime.doctor.needs import MISSING, READY, SPARE, UNFIT, judge
from leakrt.runtime.doctor.toolkit import KernelBuild, Toolkit


def of(facts, name):
    """Return the need of that name."""
    (need,) = [need for need in judge(facts) if need.name == name]
    return need


@pytest.mark.parametrize("facts", [ORIN, RTX_PC, SERVER], ids=["Orin", "RTX PC", "server"])
def test_a_complete_machine_needs_nothing(facts):
    assert {need.state for need in judge(facts)} <= {READY, SPARE}
    assert not [need for need in judge(facts) if need.commands]


def test_a_bare_machine_gets_a_command_per_component_and_kind():
    missing = [need for need in judge(BARE) if need.state == MISSING]
    assert [need.name for need in missing] == [
        "driver",
        "CUDA toolkit",
        "kernels",
        "PyCUDA",
        "TensorRT",
        "TensorRT-RTX",
    ]
    for need in missing:
        assert need.commands.keys() == {"jetson", "rtx", "datacenter"}
        assert need.commands["rtx"]
    assert missing[-1].commands["jetson"] == ""  # TensorRT-RTX does not exist for a Jetson


@pytest.mark.parametrize(
    ("facts", "command"), [(RTX_PC, "nvidia-driver-580-open"), (SERVER, "nvidia-headless-580-server")]
)
def test_a_driver_too_old_for_the_toolkit_is_reported_with_both_versions(facts, command):
    old = replace(facts, driver=DriverFacts(version="550.54.15", cuda="12.4", problem="", code=0))
    for name in ("CUDA toolkit", "kernels", "TensorRT"):
        need = of(old, name)
        assert need.state == UNFIT
        assert "13" in need.detail
        assert "the driver supports CUDA up to 12.4" in need.detail
        assert any(command in text for text in need.commands.values())
    assert of(old, "driver").state == READY


def test_a_jetson_recompiles_kernels_of_another_toolkit_and_keeps_its_driver():
    foreign = replace(ORIN, kernels=KernelBuild("13.0", "87-real 110-real"))
    need = of(foreign, "kernels")
    assert need.state == UNFIT
    assert need.commands["jetson"].startswith("PATH=/usr/local/cuda/bin:$PATH pip install --force-reinstall")


def test_kernels_for_other_gpus_name_the_unsupported_gpu():
    second = Gpu(
        index=1,
        device=TargetDevice(name="NVIDIA GeForce GTX 1080", capability="6.1", multiprocessors=20, driver="580"),
        memory=8 << 30,
        integrated=False,
    )
    need = of(replace(RTX_PC, gpus=(*RTX_PC.gpus, second)), "kernels")
    assert need.state == UNFIT
    assert need.detail.startswith("NVIDIA GeForce GTX 1080: they were built for 7.5")


def test_jetpack_5_is_too_old_with_a_reason():
    libraries = tuple(Library(flavour=name, version="", cuda=0, problem="") for name in ("tensorrt", "tensorrt-rtx"))
    jetson = Jetson("NVIDIA Jetson AGX Xavier", "35.4.1", "5.1.2")
    facts = replace(ORIN, jetson=jetson, bindings=("3.8",), libraries=libraries)
    need = of(facts, "TensorRT")
    assert need.state == UNFIT
    assert "the TensorRT of JetPack 5.1.2 is for Python 3.8, but LeakRT needs 3.10 or newer" in need.detail
    assert need.commands == {}


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("3.10", "this environment was created without --system-site-packages"),
        ("3.12", "installed on the system for Python 3.10, but this is Python 3.12"),
    ],
)
def test_system_bindings_that_this_python_can_not_import(python, words):
    facts = replace(
        ORIN, python=python, libraries=(Library(flavour="tensorrt", version="", cuda=0, problem=""), ORIN.libraries[1])
    )
    need = of(facts, "TensorRT")
    assert (need.state, words in need.detail) == (UNFIT, True)
    assert need.commands["jetson"].startswith("/usr/bin/python3.10 -m venv --system-site-packages")


def test_bindings_that_fail_to_import_report_the_reason():
    broken = Library(
        flavour="tensorrt",
        version="",
        cuda=12,
        problem="can't import tensorrt: libnvinfer.so.10: cannot open shared object file",
    )
    need = of(replace(SERVER, libraries=(broken, SERVER.libraries[1])), "TensorRT")
    assert (need.state, "libnvinfer.so.10" in need.detail) == (UNFIT, True)
    assert need.commands["datacenter"] == "pip install tensorrt"


def test_the_command_for_a_missing_tensorrt_depends_on_the_kind():
    gone = (
        Library(flavour="tensorrt", version="", cuda=0, problem=""),
        Library(flavour="tensorrt-rtx", version="", cuda=0, problem=""),
    )
    assert of(replace(ORIN, libraries=gone, bindings=()), "TensorRT").commands["jetson"] == (
        "sudo apt install python3-libnvinfer"
    )
    assert of(replace(SERVER, libraries=gone), "TensorRT").commands["datacenter"] == "pip install tensorrt"
    assert of(replace(SERVER, libraries=gone), "TensorRT-RTX").state == SPARE
    assert of(replace(RTX_PC, libraries=gone), "TensorRT-RTX").commands["rtx"] == "pip install 'leakrt[rtx]'"


def test_a_hidden_gpu_is_not_a_missing_driver():
    driver = DriverFacts(
        version="580.95.05", cuda="13.0", problem="the NVIDIA driver can't be used: no NVIDIA GPU is visible", code=100
    )
    hidden = of(replace(RTX_PC, driver=driver, gpus=(), hidden="-1"), "driver")
    assert hidden.detail.endswith("no NVIDIA GPU is visible, and $CUDA_VISIBLE_DEVICES is '-1'")
    assert set(hidden.commands.values()) == {"unset CUDA_VISIBLE_DEVICES"}
    assert set(of(replace(RTX_PC, driver=driver, gpus=()), "driver").commands.values()) == {"nvidia-smi"}


def test_a_driver_updated_on_a_running_system_needs_a_restart():
    driver = DriverFacts(
        version="580.95.05",
        cuda="13.0",
        problem="the NVIDIA driver can't be used: kernel module and library versions differ",
        code=803,
    )
    assert set(of(replace(RTX_PC, driver=driver, gpus=()), "driver").commands.values()) == {"sudo reboot"}


def test_a_container_needs_access_to_the_driver_and_no_install():
    need = of(replace(BARE, container=True), "driver")
    assert need.commands == {
        "jetson": "docker run --runtime nvidia IMAGE",
        "rtx": "docker run --gpus all IMAGE",
        "datacenter": "docker run --gpus all IMAGE",
    }


def test_nvcc_is_not_needed_if_everything_it_compiles_is_installed():
    assert of(replace(RTX_PC, toolkit=Toolkit()), "CUDA toolkit").state == SPARE
    assert of(replace(RTX_PC, toolkit=Toolkit(), pycuda=""), "CUDA toolkit").state == MISSING


def test_broken_engines_are_reported_before_those_for_another_tensorrt():
    foreign = replace(RTX_PC.cache, elsewhere=1, reason="it was built with tensorrt 10.3.0, and 11.4.0 is installed")
    need = of(replace(RTX_PC, cache=foreign), "engine cache")
    assert need.detail == ("1 of 2 engines can't run here: it was built with tensorrt 10.3.0, and 11.4.0 is installed")
    assert set(need.commands.values()) == {"leakrt build BUNDLE"}
    broken = of(replace(RTX_PC, cache=replace(foreign, broken=2)), "engine cache")
    assert broken.detail == "2 of 2 engines are broken and will not be loaded"
    assert set(broken.commands.values()) == {"leakrt engines prune"}
    lost = of(
        replace(RTX_PC, cache=replace(foreign, problem="index.json is damaged; run: leakrt engines prune")),
        "engine cache",
    )
    assert (lost.state, "index.json is damaged" in lost.detail) == (UNFIT, True)
