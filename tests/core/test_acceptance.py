"""Acceptance results, and reading them from a manifest that may have been edited."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from leakrt.core.acceptance import (
    AUTO_SPEEDUP,
    FP16_LIMITS,
    MAX_IMAGES,
    MIN_INT8_SHARE,
    MIN_INT8_SPEEDUP,
    UNCHANGED,
    Changes,
    Comparison,
    Limits,
    Speedup,
    acceptance_holds,
    acceptance_to_json,
    share_failures,
    speed_failures,
)

CHANGES = Changes(verdicts=2, crossings=0, score_error=0.004, counted=894, labels=0)
PASSING = Comparison(
    images=900,
    macro_auc=0.97,
    macro_auc_drop=0.0004,
    agreement=0.98,
    agreement_confident=1.0,
    verdict_agreement=898 / 900,
    false_alarms=4,
    real_faces=90,
    interval=(0, 10),
    changes=CHANGES,
)


def changed(**changes):
    return replace(PASSING, changes=replace(CHANGES, **changes))


def stored(found=PASSING, allowed=None, **changes):
    """Return an acceptance record as read from the manifest."""
    record = acceptance_to_json(found, allowed or Limits(), Speedup(1.7, 1.6, 1.8, 30))
    return {**json.loads(json.dumps(record)), **changes}


def test_a_sound_variant_with_a_handful_of_near_ties_passes():
    assert PASSING.failures(FP16_LIMITS) == PASSING.failures(Limits()) == ()
    rounded = replace(PASSING, agreement=898 / 900, macro_auc_drop=0.00001)  # two near ties, as rounding moves them
    assert rounded.failures(FP16_LIMITS) == ()
    assert changed(verdicts=5).failures(FP16_LIMITS) == ()


@pytest.mark.parametrize("limits", [FP16_LIMITS, Limits()])
def test_one_face_between_real_and_an_alarm_is_refused_whatever_else_holds(limits):
    assert changed(crossings=1).failures(limits) == ("1 faces go from real to generator or unknown, or back",)


def test_a_share_of_changed_verdicts_is_refused_once_its_interval_lies_above_the_limit():
    assert changed(verdicts=9).failures(FP16_LIMITS) == ()
    (why,) = changed(verdicts=10).failures(FP16_LIMITS)
    assert why == "10 of 900 verdicts change (1.11%; 95 % interval 0.53% to 2.03%), more than 0.5%"
    assert changed(verdicts=45).failures(Limits()) == ()
    assert len(changed(verdicts=90).failures(Limits())) == 1


def test_the_same_share_weighs_more_on_more_images():
    few, many = (
        replace(PASSING, images=n, changes=replace(CHANGES, counted=n, verdicts=n // 100)) for n in (100, 9000)
    )
    assert few.failures(FP16_LIMITS) == ()
    assert len(many.failures(FP16_LIMITS)) == 1


def test_labels_count_only_beyond_the_score_error_which_must_be_small():
    assert replace(PASSING, agreement=0.9).failures(FP16_LIMITS) == ()  # near ties alone
    (why,) = changed(labels=6).failures(FP16_LIMITS)
    assert why.startswith("6 of 894 labels beyond the score error change (0.67%")
    (why,) = changed(counted=700).failures(FP16_LIMITS)
    assert why == "the margin of fp32 exceeds the score error of 0.004 on 77.8% of images, less than 95%"
    (why,) = replace(PASSING, agreement_confident=449 / 450).failures(FP16_LIMITS)
    assert why.startswith("99.78% of labels agree on images with a margin above the median")


def test_a_record_that_passed_is_read_back_as_passed():
    assert acceptance_holds("int8", stored())
    assert acceptance_holds("fp16", stored(PASSING, FP16_LIMITS))
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
        {"images": MAX_IMAGES + 1},
        {"images": 0},
        {"images": 800},
        {"changes": None},
        {"changes": {}},
        {"changes": {**asdict(CHANGES), "verdicts": 300}},
        {"changes": {**asdict(CHANGES), "verdicts": -1, "crossings": -1}},
        {"changes": {**asdict(CHANGES), "crossings": 1}},
        {"changes": {**asdict(CHANGES), "crossings": 10**400}},
        {"changes": {**asdict(CHANGES), "counted": 901}},
        {"changes": {**asdict(CHANGES), "counted": 100}},
        {"changes": {**asdict(CHANGES), "labels": 30}},
        {"changes": {**asdict(CHANGES), "score_error": float("nan")}},
        {"limits": {}},
        {"limits": {**asdict(Limits()), "max_crossings": 10**400}},
        {"limits": {**asdict(Limits()), "max_changed": float("nan"), "max_drop": float("nan")}},
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
    without = {k: v for k, v in stored(changed(verdicts=20)).items() if k != "limits"}
    assert acceptance_holds("int8", without)
    assert not acceptance_holds("fp16", without)  # 2 % of all verdicts change, and 0.5 % may
    assert not acceptance_holds("int8", {"passed": True})
    assert not acceptance_holds("fp16", {"passed": True, "limits": asdict(FP16_LIMITS), "speedup": 2.0})


def test_a_record_without_its_changes_is_not_held_to_the_limits_that_need_them():
    without = {k: v for k, v in stored().items() if k != "changes"}
    assert not acceptance_holds("int8", without)
    assert replace(PASSING, changes=None).failures(Limits()) == ("the record does not say which verdicts change",)


EARLIER = {"max_drop": 0.002, "min_agreement": 0.99, "confident_only": True, "spare": 0}
EARLIER_FP16 = {"max_drop": 0.0005, "min_agreement": 0.999, "confident_only": False, "spare": 1}


def earlier(limits, **changes):
    """Return a record as versions without `changes` wrote it."""
    body = {**stored(replace(PASSING, changes=None)), "limits": limits, "passed": True}
    return {**body, **changes}


def test_an_earlier_record_is_held_to_the_limits_that_it_states():
    assert acceptance_holds("int8", earlier(EARLIER))
    assert not acceptance_holds("int8", earlier(EARLIER, agreement_confident=0.98))
    assert not acceptance_holds("int8", earlier(EARLIER, macro_auc_drop=0.0021))
    assert not acceptance_holds("int8", earlier(EARLIER, false_alarms=11))
    assert not acceptance_holds("int8", earlier({**EARLIER, "spare": 10**400}))
    assert not acceptance_holds("fp16", earlier(EARLIER_FP16))  # 98 % of labels agree
    assert acceptance_holds("fp16", earlier(EARLIER_FP16, agreement=899 / 900))
    assert not acceptance_holds("fp16", earlier(EARLIER_FP16, agreement=898 / 900))


def test_an_earlier_record_without_limits_takes_the_defaults_of_that_version():
    without = {k: v for k, v in earlier(EARLIER).items() if k != "limits"}
    assert acceptance_holds("int8", without)
    assert not acceptance_holds("fp16", without)
    assert not acceptance_holds("int8", earlier(asdict(Limits())))  # limits of one version, figures of another
    assert not acceptance_holds("int8", stored(limits=EARLIER))


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
