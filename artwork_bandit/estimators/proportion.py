"""Intervals for a rate counted on members who repeat, and for the difference of two rates.

Wilson's score interval (1927) with the effective sample size n / deff, where the design effect
deff >= 1 is the clustered variance over the binomial one (Franco, Little, Louis and Slud 2019,
"Comparative study of confidence intervals for proportions in complex sample surveys"). The
difference of two independent rates: Newcombe's hybrid score interval (1998, method 10).

For raw rates: says nothing about why variants were shown to the members they were shown to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.tails import t_quantile

FEWEST_GROUPS = 20
"""With fewer member buckets the clustered variance is too uncertain to be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A rate with its interval; None where nothing was counted."""

    count: int
    successes: int
    rate: float | None
    lower: float | None
    upper: float | None


def proportion(counts: Floats, successes: Floats, level: float = 0.95) -> Proportion:
    """Return the rate from counts and successes per member bucket (arrays of one length)."""
    n, s = float(np.sum(counts)), float(np.sum(successes))
    if n == 0:
        return Proportion(count=0, successes=0, rate=None, lower=None, upper=None)
    rate = s / n
    groups = int(np.count_nonzero(counts))
    deff = 1.0
    if groups >= FEWEST_GROUPS and 0 < s < n:
        residual = successes - rate * counts
        clustered = groups / (groups - 1) * float(np.sum(residual**2)) / n**2
        deff = max(1.0, clustered / (rate * (1 - rate) / n))
    z = t_quantile(0.5 + level / 2, max(groups - 1, 8) if deff > 1 else 1e9)
    lower, upper = wilson(rate, n / deff, z)
    return Proportion(count=round(n), successes=round(s), rate=rate, lower=lower, upper=upper)


def wilson(rate: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's score interval for a rate seen on n independent trials.

    >>> [round(x, 4) for x in wilson(0.0, 10, 1.96)]
    [0.0, 0.2775]
    """
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference(a: Proportion, b: Proportion) -> tuple[float, float, float] | None:
    """Return (a - b, lower, upper) for two independent rates, or None without data in both."""
    if a.rate is None or b.rate is None:
        return None
    assert None not in (a.lower, a.upper, b.lower, b.upper), "a rate has an interval"
    d = a.rate - b.rate
    lower = d - math.hypot(a.rate - a.lower, b.upper - b.rate)  # type: ignore[operator]
    upper = d + math.hypot(a.upper - a.rate, b.rate - b.lower)  # type: ignore[operator]
    return d, lower, upper
