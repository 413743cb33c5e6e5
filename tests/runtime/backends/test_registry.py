"""Selection of a backend, errors of backends that can't run, and the race of `fastest`."""

from __future__ import annotations

import time

import pytest

from leakrt.core.errors import BackendError, UsageError
from leakrt.core.variants import NAMED_ONLY
from leakrt.runtime.backends import registry
from leakrt.runtime.backends.base import Availability, BackendKind


@pytest.fixture
def kinds(monkeypatch):
    """Register three backends of which the first can't run."""

    def load(variant, threads):
        raise AssertionError("nothing is loaded here")

    def make(name, reason=""):
        return BackendKind(
            name,
            lambda: Availability(backend=name, runs=not reason, version="1.0", reason=reason, install="buy one"),
            load,
        )

    found = {k.name: k for k in (make("fast", "no GPU"), make("middling"), make("slow"))}
    monkeypatch.setattr(registry, "AUTO_ORDER", tuple(found))
    monkeypatch.setattr(registry, "kind", lambda name: found[name])
    return found


def test_auto_selects_the_first_that_can_run(kinds):
    assert registry.choose("auto", measured=kinds) is kinds["middling"]


def test_auto_skips_a_backend_that_the_bundle_was_not_measured_on(kinds):
    assert registry.choose("auto", measured=("slow", "fast")) is kinds["slow"]


def test_the_order_does_not_depend_on_that_of_the_measurements(kinds):
    assert registry.candidates("fastest", measured=("slow", "middling")) == [kinds["middling"], kinds["slow"]]


def test_a_named_backend_is_used_even_if_the_bundle_was_not_measured_on_it(kinds):
    assert registry.choose("middling", measured=("slow",)) is kinds["middling"]


def test_a_named_backend_that_can_not_run_is_an_error_and_never_replaced(kinds):
    with pytest.raises(BackendError, match=r"^fast can't run: no GPU; buy one$"):
        registry.choose("fast")


def test_if_none_can_run_the_error_lists_every_reason(kinds, monkeypatch):
    monkeypatch.setattr(registry, "AUTO_ORDER", ("fast", "fast"))
    with pytest.raises(BackendError, match="fast can't run: no GPU; buy one; fast can't run"):
        registry.choose("auto", measured=kinds)


def test_a_backend_that_must_be_named_is_never_selected_otherwise():
    measured = ("onnxruntime", *NAMED_ONLY)
    for name in ("auto", "fastest"):
        assert [kind.name for kind in registry.candidates(name, measured=measured)] == ["onnxruntime"]
    assert [registry.kind(name).name for name in NAMED_ONLY] == list(NAMED_ONLY)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"no backend named 'x'; choose one of: auto, fastest, .*onnxruntime"):
        registry.choose("x")


def test_every_backend_has_a_probe():
    found = registry.probe_all()
    assert [a.backend for a in found] == [*registry.AUTO_ORDER, *NAMED_ONLY]
    for availability in found:
        assert availability.runs or (availability.reason and availability.install)


def test_auto_selects_onnxruntime_for_a_bundle_measured_nowhere_else():
    assert registry.kind("onnxruntime").probe().runs
    assert registry.choose("auto").name == "onnxruntime"


def test_the_fastest_wins_and_all_run_the_same_number_of_laps():
    laps = {"hare": 0, "tortoise": 0}

    def run(name, seconds):
        laps[name] += 1
        time.sleep(seconds)

    winner = registry.race({"tortoise": lambda: run("tortoise", 0.02), "hare": lambda: run("hare", 0.001)})
    assert winner == "hare"
    assert laps["hare"] == laps["tortoise"] > 1


@pytest.fixture
def clock(monkeypatch):
    """The clock of a race: only the entrants advance `clock.now` (seconds)."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(registry.time, "perf_counter", lambda: Clock.now)
    return Clock


def test_one_fast_run_does_not_win(clock):
    runs = {"steady": 0, "lucky": 0}

    def run(name):
        runs[name] += 1
        clock.now += 0.02 if name == "steady" else 0.005 if runs[name] == 6 else 0.03

    assert registry.race({name: lambda name=name: run(name) for name in runs}) == "steady"


def test_the_order_of_entrants_does_not_matter(clock):
    """A run takes longer after another entrant's run, and every run takes longer than the one before."""
    order = []

    def run(name, seconds):
        clock.now += seconds * (5.0 if order and order[-1] != name else 1.0) + 1e-5 * len(order)
        order.append(name)

    assert registry.race({"tortoise": lambda: run("tortoise", 0.0105), "hare": lambda: run("hare", 0.01)}) == "hare"
    assert registry.race({"hare": lambda: run("hare", 0.01), "tortoise": lambda: run("tortoise", 0.0105)}) == "hare"
    assert order[:4] == ["tortoise", "tortoise", "hare", "hare"]


def test_slow_entrants_run_only_three_laps(clock):
    runs = {"slow": 0, "slower": 0}

    def run(name, seconds):
        runs[name] += 1
        clock.now += seconds

    assert registry.race({"slower": lambda: run("slower", 2.1), "slow": lambda: run("slow", 2.0)}) == "slow"
    assert runs == {"slow": 6, "slower": 6}
