"""The install command for each component on each kind of machine."""

from __future__ import annotations

import pytest
from machines import BARE, ORIN, RTX_PC, SERVER

from leakrt.engines.library.device import Gpu, TargetDevice
from leakrt.runtime.doctor.commands import (
    KINDS,
    build_kernels,
    build_pycuda,
    get_driver,
    get_tensorrt,
    get_toolkit,
    machine_kind,
)
from leakrt.runtime.doctor.toolkit import Toolkit


@pytest.mark.parametrize(
    ("facts", "kind"), [(ORIN, "jetson"), (RTX_PC, "rtx"), (SERVER, "datacenter"), (BARE, "")], ids=str
)
def test_the_kind_follows_from_the_release_file_or_the_gpu(facts, kind):
    assert machine_kind(facts.jetson, facts.gpus) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [("NVIDIA GeForce RTX 3060", "rtx"), ("NVIDIA RTX 6000 Ada Generation", "rtx"), ("Quadro RTX 4000", "rtx"),
     ("NVIDIA TITAN V", "rtx"), ("Tesla T4", "datacenter"), ("NVIDIA A100-SXM4-40GB", "datacenter"),
     ("NVIDIA L4", "datacenter"), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "datacenter"), ("NVIDIA B200", "datacenter")],
)  # fmt: skip
def test_gpu_names_distinguish_rtx_from_datacenter(name, kind):
    assert (
        machine_kind(
            None,
            [
                Gpu(
                    index=0,
                    device=TargetDevice(name=name, capability="8.9", multiprocessors=1, driver="580"),
                    memory=1 << 30,
                    integrated=False,
                )
            ],
        )
        == kind
    )


def test_every_kind_has_a_driver_command():
    assert get_driver().keys() == KINDS.keys()
    assert len(set(get_driver().values())) == 3


def test_the_toolkit_comes_from_this_systems_repository_and_matches_the_driver():
    assert "repos/ubuntu2204/x86_64/cuda-keyring" in get_toolkit("ubuntu2204", "x86_64", 12)["rtx"]
    assert get_toolkit("ubuntu2204", "x86_64", 12)["rtx"].endswith("apt install cuda-toolkit-12-8")
    assert "repos/ubuntu2404/sbsa/" in get_toolkit("", "aarch64", 0)["datacenter"]
    assert get_toolkit("", "aarch64", 0)["datacenter"].endswith("apt install cuda-toolkit-13-0")
    assert get_toolkit("", "aarch64", 12)["jetson"] == "sudo apt install nvidia-jetpack"


@pytest.mark.parametrize(
    ("cuda", "package"), [(12, "tensorrt-cu12"), (13, "tensorrt"), (0, "tensorrt"), (14, "tensorrt")]
)
def test_tensorrt_matches_the_cuda_version_of_the_driver(cuda, package):
    assert get_tensorrt(cuda)["datacenter"] == f"pip install {package}"


@pytest.mark.parametrize(
    ("toolkit", "prefix"),
    [
        (Toolkit("/opt/cuda/bin/nvcc", "13.0", True), ""),
        (Toolkit("/opt/cuda/bin/nvcc", "13.0", False), "PATH=/opt/cuda/bin:$PATH "),
        (Toolkit(), "PATH=/usr/local/cuda/bin:$PATH "),
    ],
)
def test_commands_that_compile_put_nvcc_on_path(toolkit, prefix):
    assert build_pycuda(toolkit)["jetson"] == f"{prefix}pip install 'leakrt[tensorrt]'"
    assert build_kernels(toolkit)["rtx"].startswith(f"{prefix}pip install --force-reinstall --no-deps")
