"""The common shape of our off-policy estimators: sums of ratios of means, from mergeable sums.

An estimator maps each row to k pairs (numerator, denominator); its value is

    theta = sum_j  N_j / D_j,       N_j, D_j the totals over all rows.

What is kept are the totals per cluster bucket of members, so blocks and shards combine exactly
with `+` and the variance is clustered by member: with s_b the totals of bucket b and g the
gradient of theta at the overall totals (the delta method; Cochran 1977, sec. 6.4),

    Var(theta) = B / (B - 1) * sum_b (g . (s_b - mean s))^2.

Not valid with few buckets or where a few rows carry the sums: `diagnostics` says when.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from artwork_bandit.domain import MEMBER_BUCKETS, Floats, Ints
from artwork_bandit.estimators.tails import t_quantile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """n logged rows as seen by one target policy."""

    weight: Floats
    """n, target probability of the shown variant over its propensity."""
    reward: Floats
    """n."""
    cluster: Ints
    """n, number of the cluster of rows that are not independent, in [0, CLUSTERS)."""
    target_q: Floats
    """n, predicted reward averaged over the target's pmf."""
    shown_q: Floats
    """n, predicted reward of the shown variant."""
    matched: Floats
    """n, 1 where the target's most probable variant was shown, else 0."""

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def bucket(self) -> Ints:
        """n, the cluster's bucket, in [0, MEMBER_BUCKETS)."""
        return self.cluster % MEMBER_BUCKETS


@dataclass(frozen=True, slots=True, eq=False)
class BucketSums:
    """Totals of k columns per cluster bucket: [buckets, k]; merges with `+`."""

    totals: Floats
    counts: Floats
    """Rows per bucket."""

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    @property
    def used(self) -> int:
        """Number of buckets with rows."""
        return int(np.count_nonzero(self.counts))

    @staticmethod
    def of(columns: Floats, bucket: Ints, buckets: int = MEMBER_BUCKETS) -> BucketSums:
        """Return the sums of `columns` [n, k] by bucket."""
        per_column = [np.bincount(bucket, column, buckets) for column in columns.T]
        counts = np.bincount(bucket, minlength=buckets).astype(np.float64)
        return BucketSums(np.stack(per_column, axis=1), counts)

    def __add__(self, other: BucketSums) -> BucketSums:
        return BucketSums(self.totals + other.totals, self.counts + other.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval; None where there is none, with the reason."""

    estimate: float | None
    lower: float | None = None
    upper: float | None = None
    standard_error: float | None = None
    interval: str | None = None
    """The method of the interval."""
    level: float = 0.95
    reason: str | None = None


class Estimator(Protocol):
    """One way to value a target policy from logged rows."""

    name: ClassVar[str]
    no_interval: ClassVar[str | None]
    """Why no interval is given, or None if one is."""

    predicted: ClassVar[bool | None]
    """Whether it corrects predictions: its Cressie-Read interval is then of DR's term, else of
    w r. None where that interval does not apply."""

    def columns(self, rows: Rows) -> Floats:
        """Return [n, 2k]: numerator and denominator of each ratio in turn."""


def value(sums: BucketSums) -> float | None:
    """Return the sum of ratios, or None if a denominator is 0."""
    totals = sums.totals.sum(axis=0)
    if np.any(totals[1::2] == 0):
        return None
    return float(np.sum(totals[0::2] / totals[1::2]))


def standard_error(sums: BucketSums) -> float | None:
    """Return the clustered delta-method standard error, or None with fewer than two buckets."""
    totals = sums.totals.sum(axis=0)
    count = sums.used
    if count < 2 or np.any(totals[1::2] == 0):
        return None
    gradient = np.empty(len(totals))
    gradient[0::2] = 1 / totals[1::2]
    gradient[1::2] = -totals[0::2] / totals[1::2] ** 2
    influence = sums.totals[sums.counts > 0] @ gradient
    return math.sqrt(count / (count - 1) * float(np.sum((influence - influence.mean()) ** 2)))


def estimate(estimator: Estimator, sums: BucketSums, level: float = 0.95) -> Estimate:
    """Return the value with its delta-method interval, or the reason there is none."""
    found = value(sums)
    if found is None:
        return Estimate(estimate=None, level=level, reason="no row matches the target")
    error = standard_error(sums)
    if estimator.no_interval is not None or error is None:
        reason = estimator.no_interval or "fewer than two groups of members"
        return Estimate(estimate=found, level=level, reason=reason)
    half = t_quantile(0.5 + level / 2, sums.used - 1) * error
    return Estimate(
        estimate=found,
        lower=found - half,
        upper=found + half,
        standard_error=error,
        interval="delta, clustered by member",
        level=level,
    )
