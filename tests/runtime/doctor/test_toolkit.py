"""Finding the CUDA toolkit, and whether a driver and GPU can run the kernels."""

from __future__ import annotations

import shutil

import pytest

from leakrt.runtime.doctor.toolkit import (
    KernelBuild,
    Toolkit,
    cuda_version,
    driver_too_old,
    find_kernels,
    find_toolkit,
    kernels_misfit,
    parse_nvcc,
)

CARDS = KernelBuild("13.0", "75-real 86-real 89-real 90-real 120-real 75-virtual 120-virtual")
NVCC = """nvcc: NVIDIA (R) Cuda compiler driver
Copyright (c) 2005-2024 NVIDIA Corporation
Built on Wed_Aug_14_10:14:07_PDT_2024
Cuda compilation tools, release 12.6, V12.6.68
Build cuda_12.6.r12.6/compiler.34714021_0
"""


def fake_nvcc(folder, text, code=0):
    folder.mkdir(parents=True)
    path = folder / "nvcc"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_the_version_is_parsed_from_nvcc_output():
    assert parse_nvcc(NVCC) == "12.6"
    assert parse_nvcc("nvcc fatal: something") == ""


def test_nvcc_is_found_in_cuda_home(tmp_path, monkeypatch):
    path = fake_nvcc(tmp_path / "cuda" / "bin", NVCC)
    monkeypatch.setenv("PATH", "/usr/bin:/bin" if shutil.which("nvcc", path="/usr/bin:/bin") is None else str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert find_toolkit() == Toolkit(str(path), "12.6", on_path=False)


def test_an_nvcc_that_does_not_run_has_no_version(tmp_path, monkeypatch):
    path = fake_nvcc(tmp_path / "bin", "error\n", 1)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert find_toolkit() == Toolkit(str(path), "", on_path=True)


def test_the_toolkit_of_this_machine_has_a_version():
    found = find_toolkit()
    if not found.path:
        pytest.skip("needs an nvcc")
    assert [part.isdigit() for part in found.version.split(".")] == [True, True]


def test_the_kernels_of_this_installation_are_reported_or_missing():
    found = find_kernels()
    assert bool(found.problem) != bool(found.toolkit and found.architectures)


def test_cuda_version_numbers_are_formatted():
    assert [cuda_version(n) for n in (11040, 12060, 13000, 13020)] == ["11.4", "12.6", "13.0", "13.2"]


@pytest.mark.parametrize(
    ("driver", "toolkit", "too_old"),
    [
        ("12.6", "13.0", True),
        ("13.0", "13.2", False),
        ("13.2", "12.8", False),
        ("", "13.0", False),
        ("9.2", "10.0", True),
    ],
)
def test_only_an_older_major_version_makes_a_driver_too_old(driver, toolkit, too_old):
    assert driver_too_old(driver, toolkit) is too_old


@pytest.mark.parametrize("capability", ["7.5", "8.6", "8.9", "9.0", "12.0", "12.1"])
def test_machine_code_runs_on_its_capability_and_later_ones_of_that_major_version(capability):
    assert kernels_misfit(CARDS, "13.0", capability) == ""


def test_an_a100_runs_the_oldest_ptx():
    assert kernels_misfit(CARDS, "13.0", "8.0") == ""


def test_ptx_needs_a_driver_for_its_toolkit():
    newer = KernelBuild("13.2", CARDS.architectures)
    assert kernels_misfit(newer, "13.0", "8.9") == ""
    assert "compiling their PTX needs a driver for CUDA 13.2; this one supports CUDA up to 13.0" in kernels_misfit(
        newer, "13.0", "8.0"
    )


def test_machine_code_of_a_discrete_gpu_does_not_run_on_a_jetson():
    cards = KernelBuild("13.0", "86-real")
    assert kernels_misfit(cards, "13.0", "8.7") == ("they were built for 8.6, but this GPU has compute capability 8.7")
    assert kernels_misfit(KernelBuild("13.0", "87-real"), "13.0", "8.9") != ""
    assert kernels_misfit(KernelBuild("13.0", "87-real"), "13.0", "8.7") == ""


def test_a_gpu_older_than_every_build_target_is_unsupported():
    assert "they were built for 7.5, 8.6, 8.9, 9.0, 12.0, 7.5 as PTX" in kernels_misfit(CARDS, "13.0", "7.0")


def test_a_driver_of_an_older_major_version_is_reported_first():
    assert kernels_misfit(CARDS, "12.6", "8.9") == (
        "they were built with CUDA 13.0, but the driver supports CUDA up to 12.6"
    )


def test_a_native_build_is_assumed_to_match():
    assert kernels_misfit(KernelBuild("13.0", "native"), "13.0", "8.9") == ""
