"""Which backend is taken, and what is said of one that can't run."""

from __future__ import annotations

import pytest

from leakrt.core.errors import BackendError, UsageError
from leakrt.runtime.backends import registry
from leakrt.runtime.backends.base import Availability, BackendKind


@pytest.fixture
def kinds(monkeypatch):
    """Two backends of which the first can't run."""

    def load(variant, threads):
        raise AssertionError("nothing is loaded here")

    found = {
        "fast": BackendKind("fast", lambda: Availability("fast", False, "", "no GPU", "buy one"), load),
        "slow": BackendKind("slow", lambda: Availability("slow", True, "1.0", "", ""), load),
    }
    monkeypatch.setattr(registry, "AUTO_ORDER", tuple(found))
    monkeypatch.setattr(registry, "kind", lambda name: found[name])
    return found


def test_auto_takes_the_first_that_can_run(kinds):
    assert registry.choose("auto") is kinds["slow"]


def test_a_named_backend_that_can_not_run_is_an_error_and_never_replaced(kinds):
    with pytest.raises(BackendError, match=r"^fast can't run: no GPU; buy one$"):
        registry.choose("fast")


def test_with_none_that_runs_every_reason_is_told(kinds, monkeypatch):
    monkeypatch.setattr(registry, "AUTO_ORDER", ("fast", "fast"))
    with pytest.raises(BackendError, match="fast can't run: no GPU; buy one; fast can't run"):
        registry.choose("auto")


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UsageError, match=r"no backend named 'x'; choose one of: auto, .*onnxruntime"):
        registry.choose("x")


def test_every_listed_backend_says_whether_it_runs():
    found = registry.probe_all()
    assert [a.backend for a in found] == list(registry.AUTO_ORDER)
    for availability in found:
        assert availability.runs or (availability.reason and availability.install)


def test_the_embedded_default_runs_everywhere():
    assert registry.kind("onnxruntime").probe().runs
