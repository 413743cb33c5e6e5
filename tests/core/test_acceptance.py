"""Acceptance results, and reading them from a manifest that may have been edited."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from leakrt.core.acceptance import (
    AUTO_SPEEDUP,
    FP16_LIMITS,
    MIN_INT8_SHARE,
    MIN_INT8_SPEEDUP,
    UNCHANGED,
    Comparison,
    Limits,
    Speedup,
    acceptance_holds,
    acceptance_to_json,
    share_failures,
    speed_failures,
)

PASSING = Comparison(
    images=900,
    macro_auc=0.97,
    macro_auc_drop=0.0004,
    agreement=0.98,
    agreement_confident=1.0,
    verdict_agreement=0.97,
    false_alarms=4,
    real_faces=90,
    interval=(0, 10),
)


def stored(found=PASSING, allowed=None, **changes):
    """Return an acceptance record as read from the manifest."""
    record = acceptance_to_json(found, allowed or Limits(), Speedup(1.7, 1.6, 1.8, 30))
    return {**json.loads(json.dumps(record)), **changes}


def test_a_record_that_passed_is_read_back_as_passed():
    assert acceptance_holds("int8", stored())
    assert acceptance_holds("fp16", stored(replace(PASSING, agreement=0.9989), FP16_LIMITS))
    assert acceptance_holds("int8", stored(replace(PASSING, macro_auc_drop=0.04), Limits(max_drop=0.05)))  # --max-drop
    assert not acceptance_holds("int8", stored(replace(PASSING, macro_auc_drop=0.04)))


@pytest.mark.parametrize(
    "change",
    [
        {"macro_auc_drop": 0.0021},
        {"macro_auc_drop": float("nan")},
        {"macro_auc_drop": None},
        {"agreement_confident": 0.98},
        {"false_alarms": 11},
        {"false_alarms": True},
        {"interval": [0]},
        {"interval": [0, "10"]},
        {"interval": 10},
        {"images": 10**400},
        {"limits": {}},
        {"limits": {**asdict(FP16_LIMITS), "spare": 10**400}},
        {"limits": None},
        {"limits": {**asdict(Limits()), "max_drop": "much"}},
        {"passed": 1},
        {"passed": False},
    ],
    ids=lambda change: str(change)[:60],
)
def test_a_record_contradicted_by_its_figures_did_not_pass(change):
    assert not acceptance_holds("int8", stored(**change))


def test_an_incomplete_record_did_not_pass_and_missing_limits_take_the_defaults_of_the_precision():
    assert not acceptance_holds("int8", {k: v for k, v in stored().items() if k != "images"})
    without = {k: v for k, v in stored().items() if k != "limits"}
    assert acceptance_holds("int8", without)
    assert not acceptance_holds("fp16", without)  # 98 % of all labels agree, and 99.9 % must
    assert not acceptance_holds("int8", {"passed": True})
    assert not acceptance_holds("fp16", {"passed": True, "limits": asdict(FP16_LIMITS), "speedup": 2.0})


def test_a_speedup_round_trips_through_its_record():
    assert Speedup.from_json(stored()) == Speedup(1.7, 1.6, 1.8, 30)
    assert Speedup.from_json({"speedup": 2}) == Speedup(2.0, 2.0, 2.0, 0)
    assert Speedup.from_json({"speedup": 2.0, "speedup_interval": ["no", 1]}) == Speedup(2.0, 2.0, 2.0, 0)
    assert Speedup.from_json({}) == UNCHANGED


@pytest.mark.parametrize("value", [None, "2", 0, -1.0, float("nan"), float("inf"), [2], True, 10**400])
def test_an_invalid_speedup_counts_as_missing(value):
    assert Speedup.from_json({"speedup": value, "speedup_interval": [0.1, 0.2]}) == UNCHANGED
    assert Speedup.from_json({"speedup": 2.0, "speedup_interval": [value, 3.0]}) == Speedup(2.0, 2.0, 2.0, 0)


def test_the_lower_end_of_the_interval_decides_whether_a_variant_may_be_slower():
    assert Speedup(1.02, AUTO_SPEEDUP - 0.01, 1.2, 30).may_be_slower
    assert not Speedup(0.95, AUTO_SPEEDUP, 1.0, 30).may_be_slower
    assert str(Speedup(1.02, 0.85, 1.2, 30)) == "1.02 x as fast as fp32 (0.85 to 1.20)"


def test_an_int8_variant_needs_its_share_and_a_confident_speedup_on_some_backend():
    assert share_failures(MIN_INT8_SHARE) == ()
    assert share_failures(MIN_INT8_SHARE - 0.001) == ("79.9% of the VAE's multiplications are in int8, less than 80%",)
    assert share_failures(float("nan")) == ("the share of the VAE's multiplications in int8 is not recorded",)
    slow, fast = Speedup(1.5, MIN_INT8_SPEEDUP - 0.01, 1.7, 30), Speedup(1.4, MIN_INT8_SPEEDUP, 1.5, 30)
    assert speed_failures([slow, fast]) == ()
    assert speed_failures([slow]) == (
        "int8 is at best 1.50 x as fast as fp32 (1.29 to 1.70); the lower figure must be at least 1.3",
    )
