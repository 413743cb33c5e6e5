"""Exact intervals of a share."""

from __future__ import annotations

import pytest

from leakrt.core.binomial import clopper_pearson

CASES = [(0, 1), (1, 1), (0, 900), (1, 900), (3, 900), (45, 900), (900, 900), (7, 8), (24, 321), (5_000, 10_000_000)]


@pytest.mark.parametrize(("count", "total"), CASES)
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_the_ends_are_quantiles_of_the_beta_distribution(count, total, level):
    beta = pytest.importorskip("scipy.stats", reason="scipy has the reference").beta
    tail = (1 - level) / 2
    low, high = clopper_pearson(count, total, level=level)
    assert low == pytest.approx(beta.ppf(tail, count, total - count + 1) if count else 0.0, rel=1e-6)
    assert high == pytest.approx(beta.isf(tail, count + 1, total - count) if count < total else 1.0, rel=1e-6)


def test_three_of_nine_hundred_is_compatible_with_one_in_a_thousand_and_four_are_not():
    assert clopper_pearson(3, 900)[0] < 0.001 < clopper_pearson(4, 900)[0]


@pytest.mark.parametrize(("count", "total", "level"), [(-1, 9, 0.95), (10, 9, 0.95), (0, 0, 0.95), (1, 9, 1.0)])
def test_an_impossible_count_or_level_raises(count, total, level):
    with pytest.raises(ValueError, match="no interval"):
        clopper_pearson(count, total, level=level)
