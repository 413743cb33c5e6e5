"""The comparison of kernels with their CPU twins finds a kernel that is wrong."""

from __future__ import annotations

import ctypes
import json
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch holds the memory")

CHECKS = ("noise_from_a_bank", "fresh_noise", "normals", "preprocess", "log_density")


@pytest.fixture
def kernels(script):
    return script("kernels")


def passes(kernels, place, check, cases=3):
    """Whether every case is within what is allowed; a NaN is not."""
    return all(getattr(kernels, check)(place, np.random.default_rng([case, 3]))[1] <= 1 for case in range(cases))


class Wrong:
    """The host's kernels, with `spoil(address of the result)` after each launch."""

    def __init__(self, kernels, spoil):
        self._kernels, self._spoil = kernels, spoil

    def __getattr__(self, name):
        function = getattr(self._kernels, name)
        if name == "density_workspace":
            return function
        at = {"noise_steps": 4, "noise_steps_fresh": 3, "fill_normals": 0, "preprocess": 2, "kde_log_density": 7}[name]

        def call(*arguments):
            function(*arguments)
            self._spoil(arguments[at])

        return call


@pytest.mark.parametrize("check", CHECKS)
def test_the_hosts_twin_passes(kernels, check):
    assert passes(kernels, kernels.Place(gpu=False), check)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", ["other", "nan"])
def test_a_wrong_value_is_found(kernels, check, value):
    place = kernels.Place(gpu=False)
    wide = 8 if check == "log_density" else 2  # the smallest that its results may have

    def spoil(address):
        for byte in range(wide):
            spoilt = ctypes.c_uint8.from_address(address + byte)
            spoilt.value = 0xFF if value == "nan" else spoilt.value ^ 0x14

    place.kernels = Wrong(place.kernels, spoil)
    assert not passes(kernels, place, check)


@pytest.mark.parametrize("check", CHECKS)
def test_a_byte_before_the_result_is_found(kernels, check):
    place = kernels.Place(gpu=False)

    def spoil(address):
        ctypes.c_uint8.from_address(address - 1).value = 0

    place.kernels = Wrong(place.kernels, spoil)
    with pytest.raises(ValueError, match="a byte outside the result was written"):
        passes(kernels, place, check)


def test_a_kernel_that_writes_nothing_is_found(kernels):
    place = kernels.Place(gpu=False)

    class Idle:
        def noise_steps(self, *arguments):
            pass

    place.kernels = Idle()
    assert not passes(kernels, place, "noise_from_a_bank")


def test_wrong_cases_are_told_and_the_other_kernels_are_still_compared(script, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["k", "--out", str(tmp_path / "k.json"), "--work", str(tmp_path), "--rehearse"])
    kernels = script("kernels")
    monkeypatch.setattr(kernels, "normals", lambda place, rng: ("some case", 3.5))
    with pytest.raises(SystemExit) as stop:
        kernels.main()
    found = json.loads((tmp_path / "k.json").read_text())
    assert stop.value.code == 1
    assert found["failures"] == [f"normals: 8 of 8 cases are wrong; {found['normals']['wrong'][0]}"]
    assert found["normals"]["wrong"][0] == "case 0, some case: 3.5 times what is allowed"
    assert found["log-density"] == {"cases": 8, "wrong": [], "exact": 0, "worst": pytest.approx(0, abs=1)}
