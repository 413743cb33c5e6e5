"""Metrics from confidences, against manual counts and direct implementations of their definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn")
from leakrt.train.metrics import (
    calibration_bins,
    expected_calibration_error,
    open_set_classification_rate,
    separation,
)


def test_calibration_error_is_the_weighted_gap():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    wanted = (4 * abs(0.75 - 0.95) + 2 * abs(0.5 - 0.55)) / 6
    assert expected_calibration_error(confidence, right) == pytest.approx(wanted)
    counts, means, accuracy = calibration_bins(confidence, right, bins=10)
    assert counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 4]
    assert (means[5], accuracy[5]) == (pytest.approx(0.55), 0.5)


def test_confidences_of_0_and_1_fall_into_a_bin():
    counts, _, _ = calibration_bins(np.array([1.0, 0.0]), np.array([True, False]))
    assert counts.sum() == 2


def test_open_set_is_ranked_by_confidence_with_closed_images_as_known():
    auroc, fpr95 = separation(np.linspace(0.5, 1.0, 100), np.linspace(0.0, 0.4, 50))
    assert (auroc, fpr95) == (1.0, 0.0)
    auroc, fpr95 = separation(np.linspace(0.0, 0.4, 100), np.linspace(0.5, 1.0, 50))
    assert (auroc, fpr95) == (0.0, 1.0)


def test_fpr95_is_the_share_of_open_images_above_the_fifth_percentile_of_closed_ones():
    closed, unseen = np.arange(100.0), np.array([3.0, 4.5, 5.5, 200.0])
    assert separation(closed, unseen)[1] == 0.5  # 95 of 100 closed are at 5 or above


# Direct implementations of the definitions, compared on arbitrary values with ties.

shares = st.floats(0, 1) | st.integers(0, 6).map(lambda n: n / 6)
scores = st.lists(shares, min_size=1, max_size=40)
settled = settings(deadline=None, max_examples=200)


def pairs_won(higher, lower) -> float:
    """Share of pairs in which the first is higher; ties count half."""
    return sum((a > b) + 0.5 * (a == b) for a in higher for b in lower) / (len(higher) * len(lower))


def accepted_when_95_percent_are(closed, unseen) -> float:
    """Share of open images accepted by the highest threshold that accepts at least 95 % of closed ones."""
    good = [t for t in closed if 20 * sum(c >= t for c in closed) >= 19 * len(closed)]
    return sum(u >= max(good) for u in unseen) / len(unseen)


@settled
@given(scores, scores)
def test_separation_matches_its_definitions(closed, unseen):
    auroc, fpr95 = separation(np.array(closed), np.array(unseen))
    assert auroc == pytest.approx(pairs_won(closed, unseen))
    assert fpr95 == pytest.approx(accepted_when_95_percent_are(closed, unseen))


@settled
@given(st.lists(st.tuples(shares, st.booleans()), min_size=1, max_size=40), scores)
def test_oscr_is_the_area_under_its_curve_with_any_ties(closed, unseen):
    """Lower the threshold by one distinct confidence at a time; integrate the piecewise linear curve from (0, 0)."""
    points = [(0.0, 0.0)]
    for t in sorted({c for c, _ in closed} | set(unseen), reverse=True):
        wrongly = sum(u >= t for u in unseen) / len(unseen)
        rightly = sum(right and c >= t for c, right in closed) / len(closed)
        points.append((wrongly, rightly))
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))
    right = np.array([c for c, is_right in closed if is_right], float)
    assert open_set_classification_rate(right, np.array(unseen), len(closed)) == pytest.approx(area, abs=1e-12)


@settled
@given(st.lists(st.tuples(shares, st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_calibration_error_matches_its_definition(pairs, bins):
    edges = [b / bins for b in range(bins + 1)]
    assume(all(c == edge or abs(c - edge) > 1e-9 for c, _ in pairs for edge in edges))  # on an edge or well off it
    error = 0.0
    for b in range(bins):
        inside = [(c, r) for c, r in pairs if edges[b] < c <= edges[b + 1] or (b == 0 and c == 0)]
        if inside:
            accuracy = sum(r for _, r in inside) / len(inside)
            error += abs(accuracy - sum(c for c, _ in inside) / len(inside)) * len(inside) / len(pairs)
    confidence, right = np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])
    assert expected_calibration_error(confidence, right, bins=bins) == pytest.approx(error, abs=1e-12)
