"""Percentile bootstrap of a ratio of sums, by groups of members.

Each replicate counts every bucket of members Poisson(1) times (Chamandy et al. 2012, "Estimating
uncertainty for massive data streams"), and computes the whole estimate again: a self-normalised
estimator is normalised anew in each. Too narrow where a few rows carry the sums, as it has only the
rows that were seen.
"""

from __future__ import annotations

import numpy as np

from artwork_bandit.estimators.sums import BucketSums

FEWEST, MOST = 1_000, 20_000
"""Replicates: twenty beyond each end of the interval, within these."""


def interval(sums: BucketSums, level: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return the (lower, upper) percentiles over replicates."""
    replicates = min(max(FEWEST, round(40 / (1 - level))), MOST)
    times = rng.poisson(1.0, (replicates, len(sums.counts)))
    totals = times @ sums.totals
    sound = np.all(totals[:, 1::2] != 0, axis=1)
    values = np.sum(totals[sound, 0::2] / totals[sound, 1::2], axis=1)
    lower, upper = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(lower), float(upper)
