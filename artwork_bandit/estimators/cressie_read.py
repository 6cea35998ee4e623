"""The Cressie-Read interval: how far the value can be from what the log shows, given what is known.

Of all reweightings q of the observed clusters and of one that was never seen, those are believed
whose quadratic (Cressie-Read, lambda = -2) divergence from equal weights is within the F quantile
and under which the mean importance weight is 1, as it is by definition. The interval is the range
of the value under them (Karampatziakis, Langford and Mineiro 2020, "Empirical likelihood for
contextual bandits"). The unseen cluster is one row of the worst the rules allow: the largest weight
that the logging policy's floor permits, the smallest or largest reward. So a log whose heavy rows
have not come yet gives a wide interval, where normal approximation and bootstrap give a narrow
wrong one. One row suffices for what `simulations.coverage` prints; with as many as the largest
cluster has, intervals were nearly twice as wide at 8 rows a member, and covered .99 and more.

A cluster i (a member) of m_i rows has totals a_i = sum (w - 1), y_i and m_i, and the value is
theta = E[y] / E[m]. With u = y - theta m, the smallest mean of u under q is

    mean u - cov(a, u) / var a * mean a - sqrt(k * (var u - cov(a, u)^2 / var a)),
    k = (F + g - (N + 1) (mean a)^2 / var a) / (N + 1)

(moments over the N clusters and the unseen one; g the same ratio where the unseen cluster helps
most), and the lower end is the theta at which it is 0 (Fieller's way for a ratio; a quadratic
equation). With clusters of one row it is the paper's interval. Not valid where propensities are
wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import BucketSums, Estimate
from artwork_bandit.estimators.tails import t_quantile

NAME = "Cressie-Read, clustered by member"
SMALLEST_VARIANCE = 1e-18


@dataclass(frozen=True, slots=True, kw_only=True)
class Corner:
    """A row that the rules allow and nobody may have seen."""

    weight: float
    lowest: float
    """Smallest y with that weight."""
    likely: float
    """y at that weight with the mean reward."""
    highest: float


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums of 1, a, y, m and their products over clusters."""

    count: float
    first: Floats
    """a, y, m."""
    second: Floats
    """[3, 3], of their products."""

    @staticmethod
    def of(sums: BucketSums) -> Moments:
        """Return the moments of clusters' totals; `sums` has the columns w, y."""
        used = sums.counts > 0
        rows = sums.counts[used]
        totals = sums.totals[used]
        each = np.stack([totals[:, 0] - rows, totals[:, 1], rows], axis=1)
        return Moments(float(len(rows)), each.sum(axis=0), each.T @ each)

    def with_unseen(self, weight: float, y: float) -> tuple[Floats, Floats]:
        """Return (means [3], covariances [3, 3]) with one cluster more, of one row."""
        unseen = np.array([weight - 1.0, y, 1.0])
        mean = (self.first + unseen) / (self.count + 1)
        return mean, (self.second + np.outer(unseen, unseen)) / (self.count + 1) - np.outer(
            mean, mean
        )


def estimate(
    sums: BucketSums, corners: Sequence[Corner], bounds: tuple[float, float], level: float = 0.95
) -> Estimate:
    """Return the value and its interval, cut at `bounds`, from clusters' totals of w and y.

    `corners`: rows of the smallest and of the largest possible weight.
    """
    moments = Moments.of(sums)
    n = moments.count
    if n < 2:
        return Estimate(estimate=None, level=level, reason="fewer than two members")
    light, heavy = min(corners, key=lambda c: c.weight), max(corners, key=lambda c: c.weight)
    helping = heavy if moments.first[0] < 0 else light
    mean, covariance = moments.with_unseen(helping.weight, helping.likely)
    value = _ratio(mean, covariance)
    freed = (n + 1) * _distance(mean, covariance)
    bar = t_quantile(0.5 + level / 2, n) ** 2 + freed
    lows: list[float] = []
    highs: list[float] = []
    for corner in corners:
        for y, found, side in ((corner.lowest, lows, 0), (corner.highest, highs, 1)):
            end = _end(*moments.with_unseen(corner.weight, y), bar, n, side)
            if end is not None:
                found.append(end)
    low, high = bounds
    return Estimate(
        estimate=min(max(value, low), high),
        lower=max(low, min(lows)) if lows else low,
        upper=min(high, max(highs)) if highs else high,
        interval=NAME,
        level=level,
    )


def _distance(mean: Floats, covariance: Floats) -> float:
    """Return (mean a)^2 / var a."""
    return float(mean[0] ** 2 / covariance[0, 0]) if covariance[0, 0] > SMALLEST_VARIANCE else 0.0


def _adjusted(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Return the means of (y, m) where the mean of a is 0, and their covariances beyond a."""
    if covariance[0, 0] <= SMALLEST_VARIANCE:
        return mean[1:], covariance[1:, 1:]
    slope = covariance[0, 1:] / covariance[0, 0]
    return mean[1:] - slope * mean[0], covariance[1:, 1:] - np.outer(slope, covariance[0, 1:])


def _ratio(mean: Floats, covariance: Floats) -> float:
    (y, m), _ = _adjusted(mean, covariance)
    return float(y / m)


def _end(mean: Floats, covariance: Floats, bar: float, n: float, side: int) -> float | None:
    """Return the lower (0) or upper (1) end with one unseen cluster; None if no q is believed."""
    k = bar / (n + 1) - _distance(mean, covariance)
    if k < 0:
        return None
    (y, m), left = _adjusted(mean, covariance)
    # (y - theta m)^2 = k (v_yy - 2 theta v_ym + theta^2 v_mm)
    square = m * m - k * left[1, 1]
    middle = y * m - k * left[0, 1]
    rest = y * y - k * left[0, 0]
    if square <= 0:  # clusters differ in size too much to tell
        return -math.inf if side == 0 else math.inf
    root = math.sqrt(max(0.0, middle * middle - square * rest))
    return float((middle - root if side == 0 else middle + root) / square)
