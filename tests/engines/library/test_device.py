"""Driver queries, with a stub library that implements the driver's C interface."""

from __future__ import annotations

import pytest
from stand_in_driver import run_with_driver

from leakrt.engines.library.device import parse_driver_version


def ask(tmp_path, code: str, start: int = 0) -> str:
    """Return the output of `code` in a process that loads the stub driver."""
    names = "from leakrt.engines.library.device import *\nfrom leakrt.core.errors import LeakRTError\n"
    done = run_with_driver(tmp_path, names + code, start=start)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_gpus_have_their_own_properties(tmp_path):
    out = ask(tmp_path, "for d in list_devices(): print(d.name, d.capability, d.multiprocessors)")
    assert out.splitlines() == ["First GPU 8.6 100", "Second GPU 8.7 101"]


def test_gpus_have_their_memory_size_and_kind(tmp_path):
    out = ask(tmp_path, "for g in list_gpus(): print(g.index, g.device.name, g.memory >> 30, g.integrated)")
    assert out.splitlines() == ["0 First GPU 10 False", "1 Second GPU 11 True"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Wed Jan 22 2025\n", "570.86.15"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build  (dvs-builder@U16)\n",
            "575.57.08",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  "
            "(buildbrain@mobile-u64-6336-d8000)  Tue Jan  7 17:35:12 PST 2025\n"
            "GCC version:  collect2: error: ld returned 1 exit status\n",
            "540.4.0",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  TempVersion  Release Build  (bugfix_main)\n", ""),
        ("", ""),
    ],
)
def test_the_driver_version_is_parsed(text, version):
    assert parse_driver_version(text) == version


def test_a_missing_gpu_is_refused_with_a_list_of_the_others(tmp_path):
    out = ask(tmp_path, "try: find_device(2)\nexcept LeakRTError as e: print(e)")
    assert out == "--device 2: no such GPU; this machine has 0: First GPU, 1: Second GPU\n"


def test_a_context_is_pushed_and_a_full_gpu_is_an_error(tmp_path):
    code = "with use_device(0): print('in')\ntry:\n  with use_device(1): pass\nexcept LeakRTError as e: print(e)"
    assert (
        ask(tmp_path, code)
        == "in\nout of GPU memory while creating a context on GPU 1; stop other processes that use the GPU\n"
    )


@pytest.mark.parametrize(("code", "words"), [(100, "no NVIDIA GPU is visible"), (999, "CUDA error 999")])
def test_a_driver_that_fails_to_initialize_gives_its_reason(tmp_path, code, words):
    assert words in ask(tmp_path, "print(find_driver().problem, list_devices())", code)


def test_a_hidden_gpu_does_not_suggest_installing_a_driver(tmp_path):
    out = ask(tmp_path, "try: find_device(0)\nexcept LeakRTError as e: print(e)", 100)
    assert "no NVIDIA GPU is visible; check CUDA_VISIBLE_DEVICES and `nvidia-smi`\n" in out


def test_without_a_driver_there_is_no_device(no_gpu):
    from leakrt.core.errors import BackendError
    from leakrt.engines.library.device import find_device, list_devices

    assert list_devices() == []
    with pytest.raises(BackendError, match=r"install the driver$"):
        find_device(0)


def test_an_old_driver_is_reported_with_its_cuda_version(tmp_path):
    code = "from leakrt.engines.library.logger import explain\n"
    code += "print(explain(['CUDA initialization failure with error: 35']))"
    assert "supports CUDA up to 12.4, but this library needs a newer version" in ask(tmp_path, code)
