"""The machine's name, load and memory."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from leakrt.runtime import machine


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name"),
    [
        ("processor\t: 0\nmodel name\t: Fast CPU @ 2.0 GHz\nmodel name\t: Other\n", "Board", "Fast CPU @ 2.0 GHz"),
        ("processor\t: 0\nCPU part\t: 0xd42\n", "NVIDIA Jetson Orin Nano\0", "NVIDIA Jetson Orin Nano"),
    ],
)
def test_the_cpu_is_named_by_its_model_or_its_board(tmp_path, monkeypatch, cpuinfo, board, name):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    (tmp_path / "model").write_text(board)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "_BOARD", tmp_path / "model")
    assert machine.cpu_name() == name


def test_an_unknown_system_reports_its_architecture_and_no_values(tmp_path, monkeypatch):
    for name in ("_CPUINFO", "_BOARD", "_STATUS", "_STAT"):
        monkeypatch.setattr(machine, name, tmp_path / "none")
    assert machine.cpu_name()
    assert machine.host_memory() == machine.ProcessMemory(None, None)
    assert machine.cpu_times() is None
    assert machine.busy_elsewhere(None, None) is None


@pytest.mark.skipif(not machine._STATUS.exists(), reason="no /proc here")
def test_freed_memory_still_counts_as_peak():
    before = machine.host_memory()
    block = b"x" * (300 << 20)
    held = machine.host_memory()
    del block
    after = machine.host_memory()
    assert held.resident > before.resident + (250 << 20)
    assert after.resident < held.resident - (250 << 20)
    assert after.peak >= held.resident - (4 << 20)  # the kernel updates each thread's last pages late


@pytest.mark.skipif(not machine._STAT.exists(), reason="no /proc here")
def test_busy_elsewhere_excludes_this_process():
    before = machine.cpu_times()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    after = machine.cpu_times()
    used = after.own - before.own
    assert used >= 0.45
    assert after.busy - before.busy >= used - 0.1  # ticks of 10 ms
    share = machine.busy_elsewhere(before, after)
    with_us = machine.busy_elsewhere(replace(before, own=0.0), replace(after, own=0.0))
    assert 0 <= share <= with_us <= 1
    assert with_us - share > 0 or share == 0


def test_shares_stay_between_0_and_1():
    start = machine.CpuTimes(10.0, 100.0, 5.0)
    assert machine.busy_elsewhere(start, machine.CpuTimes(14.0, 110.0, 6.0)) == pytest.approx(0.3)
    assert machine.busy_elsewhere(start, machine.CpuTimes(11.0, 110.0, 7.0)) == 0.0
    assert machine.busy_elsewhere(start, start) is None
