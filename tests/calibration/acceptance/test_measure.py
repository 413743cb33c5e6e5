"""The acceptance test counts changed verdicts and lists every reason for a rejection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'leakrt[train]'")
from bundles import TINY_SPEC

from leakrt.calibration.acceptance.measure import Judged, compare, margins, score_error
from leakrt.core.acceptance import FP16_LIMITS, Changes, Comparison, Limits
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
    changes=Changes(verdicts=0, crossings=0, score_error=0.0, counted=7, labels=0),
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


def shifted(by) -> Judged:
    """The reference with scores moved by float [N, K]; its verdicts and probabilities are those of the reference."""
    sound = judged()
    scores = (sound.outputs.scores + np.asarray(by)).astype(np.float32)
    return replace(sound, outputs=replace(sound.outputs, scores=scores))


def test_verdicts_that_change_are_counted_and_those_between_real_and_an_alarm_cross():
    kinds = ["generator", "real", "generator", "real", "unknown", "unknown", "abstain"]
    found = compare(judged(), judged(kinds=kinds), SPEC, decision=DECISION).changes
    # row 3: generator to real, row 4: real to unknown; row 5: generator to unknown, row 6: real to abstain
    assert (found.verdicts, found.crossings) == (4, 2)


def test_leaving_abstain_changes_a_verdict_and_crosses_nothing():
    doubtful = judged(kinds=["abstain"] * 7)
    for kinds in (["real"] * 7, ["generator"] * 7, ["unknown"] * 7):
        found = compare(doubtful, judged(kinds=kinds), SPEC, decision=DECISION).changes
        assert (found.verdicts, found.crossings) == (7, 0)


def test_the_score_error_is_how_far_two_scores_move_apart_not_how_far_both_move():
    assert score_error(judged(), shifted(np.full((7, 3), 5.0))) == pytest.approx(0.0, abs=1e-6)
    assert score_error(judged(), shifted(np.tile([0.1, -0.2, 0.0], (7, 1)))) == pytest.approx(0.3, abs=1e-6)
    one = np.zeros((7, 3))
    one[2] = [9.0, 0.0, 0.0]  # one image of seven is above the percentile
    assert score_error(judged(), shifted(one)) == pytest.approx(0.0, abs=1e-6)


def test_a_changed_label_counts_only_where_the_margin_of_fp32_exceeds_the_score_error():
    noisy = shifted(np.tile([0.2, -0.2, 0.0], (7, 1)))  # the margins of rows 4, 5 and 6 are below 0.4
    for row, counts in ((0, 1), (6, 0)):
        variant = replace(noisy, probabilities=judged(moved=[row]).probabilities)
        found = compare(judged(), variant, SPEC, decision=DECISION).changes
        assert (found.counted, found.labels) == (4, counts)
    assert compare(judged(), judged(), SPEC, decision=DECISION).changes == HOLDS.changes


def test_outputs_that_are_not_finite_are_refused():
    variant = judged()
    variant.probabilities[3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        compare(judged(), variant, SPEC, decision=DECISION)


def test_a_class_without_an_image_is_named():
    spec = replace(SPEC, class_names=("blocky", "real", "smooth", "woven"))
    with pytest.raises(DataError, match="no validation image of woven"):
        compare(judged(), judged(), spec, decision=DECISION)
