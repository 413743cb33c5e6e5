"""The number of threads of a detector."""

from __future__ import annotations

import os

import pytest

from leakrt.core.errors import UsageError
from leakrt.runtime import threads


def test_a_positive_number_is_returned_unchanged():
    assert threads.resolve_threads(5) == 5


def test_zero_is_at_most_what_this_process_may_use():
    assert 1 <= threads.resolve_threads(0) <= os.cpu_count()


@pytest.mark.parametrize("number", [-1, 1025, 10**9])
def test_an_invalid_number_raises_a_usage_error(number):
    with pytest.raises(UsageError, match=f"invalid number of threads {number}: must be 1 to 1024, or 0 for one"):
        threads.resolve_threads(number)


def test_hyper_threads_of_one_core_count_once(tmp_path, monkeypatch):
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    monkeypatch.setattr(threads, "_TOPOLOGY", tmp_path)
    monkeypatch.setattr(threads, "cpu_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert threads.resolve_threads(0) == 2


@pytest.mark.parametrize(("quota", "expected"), [(1.5, 2), (0.5, 1), (0.001, 1), (9.0, 4), (None, 4)])
def test_a_quota_of_the_cgroup_is_respected(tmp_path, monkeypatch, quota, expected):
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    monkeypatch.setattr(threads, "_TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert threads.resolve_threads(0) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity mask")
def test_the_affinity_mask_is_respected():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.resolve_threads(0) == 1
    finally:
        os.sched_setaffinity(0, before)
