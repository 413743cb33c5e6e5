"""The acceptance test counts changed verdicts and lists every reason for a rejection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'leakrt[train]'")
from bundles import TINY_SPEC

from leakrt.calibration.acceptance.measure import Judged, compare, margins
from leakrt.core.acceptance import FP16_LIMITS, Comparison, Limits
from leakrt.core.decision import Decision
from leakrt.core.errors import DataError
from leakrt.core.outputs import LeakOutputs

SPEC = replace(TINY_SPEC, class_names=("blocky", "real", "smooth"))
DECISION = Decision(
    temperature=1.0,
    alarm_threshold=0.9,
    real_threshold=0.2,
    density_threshold=-50.0,
    false_alarm_rate=0.05,
    validation_real=99,
    validation_alarms=4,
)
LABELS = np.array([0, 1, 2, 0, 1, 2, 1], np.int64)
SURE = np.array([0.98, 0.97, 0.96, 0.9, 0.5, 0.45, 0.4])  # of the true class; the last three are near ties
HOLDS = Comparison(
    images=7,
    macro_auc=0.9,
    macro_auc_drop=0.0,
    agreement=1.0,
    agreement_confident=1.0,
    verdict_agreement=1.0,
    false_alarms=0,
    real_faces=3,
    interval=(0, 2),
)


def judged(shares=SURE, kinds=None, moved=()) -> Judged:
    """Class probabilities with `shares` at the true class, or at the next one for the rows `moved`."""
    rows = np.arange(len(LABELS))
    at = np.where(np.isin(rows, moved), (LABELS + 1) % 3, LABELS)
    found = np.repeat(((1.0 - shares) / 2.0)[:, None], 3, axis=1)
    found[rows, at] = shares
    blank = np.zeros((len(LABELS), 1), np.float32)
    outputs = LeakOutputs(found.astype(np.float32), blank, blank, blank)
    return Judged(
        outputs=outputs,
        labels=LABELS,
        kinds=tuple(kinds or ["real" if k == 1 else "generator" for k in LABELS]),
        probabilities=found,
    )


def test_the_same_outputs_lose_nothing():
    found = compare(judged(), judged(), SPEC, decision=DECISION)
    assert (found.images, found.macro_auc_drop, found.agreement, found.agreement_confident) == (7, 0.0, 1.0, 1.0)
    assert found.failures(Limits()) == found.failures(FP16_LIMITS) == ()


def test_a_changed_near_tie_counts_only_among_all_images():
    found = compare(judged(), judged(moved=[6]), SPEC, decision=DECISION)
    assert found.agreement == pytest.approx(6 / 7)
    assert found.agreement_confident == 1.0


def test_a_confident_image_that_moves_counts_in_both():
    found = compare(judged(), judged(moved=[0]), SPEC, decision=DECISION)
    assert found.agreement == pytest.approx(6 / 7)
    assert found.agreement_confident == pytest.approx(2 / 3)  # three of seven margins lie above the median


def test_false_alarms_are_real_faces_called_generator_or_unknown():
    kinds = ["unknown", "generator", "real", "generator", "unknown", "generator", "abstain"]
    found = compare(judged(), judged(kinds=kinds), SPEC, decision=DECISION)
    assert (found.false_alarms, found.real_faces) == (2, 3)
    assert found.verdict_agreement == pytest.approx(2 / 7)  # only rows 3 and 5 are unchanged


def test_margins_are_over_the_second_likeliest_class():
    np.testing.assert_allclose(margins(judged()), SURE - (1.0 - SURE) / 2.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"macro_auc_drop": 0.0021}, "macro AUC drops by 0.0021"),
        ({"macro_auc_drop": float("nan")}, "macro AUC drops by nan"),
        ({"agreement_confident": 0.9899}, "98.99% of labels agree on images with a margin above the median"),
        ({"agreement_confident": float("nan")}, "nan% of labels agree"),
        ({"false_alarms": 3}, "3 false alarms, more than the 2"),
    ],
)
def test_a_loss_beyond_a_limit_is_a_reason(change, reason):
    failures = replace(HOLDS, **change).failures(Limits())
    assert len(failures) == 1
    assert reason in failures[0]


def test_a_loss_at_the_limit_is_accepted():
    assert replace(HOLDS, macro_auc_drop=0.002, agreement_confident=0.99, false_alarms=2).failures(Limits()) == ()


def test_all_reasons_are_listed():
    assert len(replace(HOLDS, macro_auc_drop=1.0, agreement_confident=0.0, false_alarms=9).failures(Limits())) == 3


def test_fp16_must_agree_on_all_images():
    moved = replace(HOLDS, images=1800, agreement=1 - 2 / 1800)
    assert moved.failures(Limits()) == ()
    assert "on all images" in moved.failures(FP16_LIMITS)[0]


def test_one_changed_image_is_allowed_and_two_are_not():
    few = replace(HOLDS, images=900, agreement=1 - 1 / 900)
    assert few.failures(FP16_LIMITS) == ()
    assert len(replace(few, agreement=1 - 2 / 900).failures(FP16_LIMITS)) == 1
    assert len(replace(few, agreement=float("nan")).failures(FP16_LIMITS)) == 1
    assert len(replace(few, agreement_confident=1 - 1 / 90).failures(Limits())) == 1  # a confident image counts


def test_outputs_that_are_not_finite_are_refused():
    variant = judged()
    variant.probabilities[3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        compare(judged(), variant, SPEC, decision=DECISION)


def test_a_class_without_an_image_is_named():
    spec = replace(SPEC, class_names=("blocky", "real", "smooth", "woven"))
    with pytest.raises(DataError, match="no validation image of woven"):
        compare(judged(), judged(), spec, decision=DECISION)
