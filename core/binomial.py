"""Exact confidence intervals of a share: Clopper and Pearson, Biometrika 26 (1934)."""

from __future__ import annotations

import math

_STEPS = 60  # bisections of [0, 1]: the interval is exact to about 1e-12 at shares above 1e-6


def clopper_pearson(count: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval that holds the true share with at least `level` confidence, for `count` of `total`.

    Each end leaves half of 1 - `level` outside. Raises ValueError unless 0 <= count <= total, total > 0 and
    0 < level < 1.
    """
    if not (0 <= count <= total and total > 0 and 0.0 < level < 1.0):
        raise ValueError(f"no interval at level {level} for {count} of {total}")
    tail = (1.0 - level) / 2.0
    return _lower_end(count, total, tail), 1.0 - _lower_end(total - count, total, tail)


def _lower_end(count: int, total: int, tail: float) -> float:
    """Return the share p at which `count` or more of `total` have probability `tail`; 0 if `count` is 0."""
    low, high = 0.0, count / total
    if count == 0:
        return 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        if _at_least(count, total, middle) < tail:
            low = middle
        else:
            high = middle
    return low


def _at_least(count: int, total: int, share: float) -> float:
    """Return P(X >= count) of X ~ binomial(total, share), for 0 < share < count / total.

    There the terms of the sum fall from the first one on, so it ends after about sqrt(total) of them.
    """
    if share <= 0.0:
        return 0.0
    ways = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
    term = math.exp(ways + count * math.log(share) + (total - count) * math.log1p(-share))
    found, odds = term, share / (1.0 - share)
    for k in range(count, total):
        term *= (total - k) / (k + 1) * odds
        found += term
        if term <= found * 1e-16:
            break
    return found
