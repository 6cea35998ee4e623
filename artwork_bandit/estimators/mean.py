"""The mean reward of units whose members repeat, with its standard error.

The ratio of two sums over buckets of members, linearised (Cochran 1977, "Sampling Techniques",
section 6.4); never taken for more certain than if all units were independent. For raw means: says
nothing about why variants were shown to the members they were shown to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.proportion import FEWEST_GROUPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean reward; None where nothing was counted."""

    count: int
    """Units."""
    paid: int
    """Units whose reward is not 0."""
    mean: float | None
    standard_error: float


def mean_reward(counts: Floats, paid: Floats, rewards: Floats, squares: Floats) -> Mean:
    """Return the mean from sums per member bucket (arrays of one length): units, those whose reward
    is not 0, rewards, and squares of rewards."""
    n = float(np.sum(counts))
    if n == 0:
        return Mean(count=0, paid=0, mean=None, standard_error=0.0)
    mean = float(np.sum(rewards)) / n
    variance = max(float(np.sum(squares)) / n - mean * mean, 0.0) / n
    groups = int(np.count_nonzero(counts))
    if groups >= FEWEST_GROUPS:
        residual = rewards - mean * counts
        clustered = groups / (groups - 1) * float(np.sum(residual**2)) / n**2
        variance = max(variance, clustered)
    return Mean(
        count=round(n), paid=round(float(np.sum(paid))), mean=mean,
        standard_error=math.sqrt(variance),
    )  # fmt: skip
