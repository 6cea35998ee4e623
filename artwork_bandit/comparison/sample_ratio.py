"""Were variants shown as often as the logged propensities say?

Where the policy is uniform: Pearson's chi-square of counts against equal shares. Elsewhere the
mean of 1{v shown} / propensity is 1 for every variant v: the sums W_v of those weights over N rows
have mean N and covariance diag(sum 1 / p_v) - N, the first estimated from the rows that showed v.
Each (week, action set, cell) gives a chi-square of its own and they are added, so that many small
breaks of one week are seen together. A small p-value says that the log is broken (variants lost on
some devices, impressions sent twice, propensities that were not drawn from), and with it every
comparison made from it. Under a policy that is nearly sure of itself a few rows carry most of the
weight, and only large breaks are seen; where variants are drawn at random, small ones too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from artwork_bandit.domain import ActionSet, Floats
from artwork_bandit.store.rollups import Rollup

ALARM = 1e-4
"""A p-value below this is called broken ..."""
SLACK = 3.0
"""... if the chi-square is also beyond this many times its degrees of freedom: in logs made
elsewhere members come twice, and counts vary a little more than by chance
(`simulations.upworthy`)."""
FEWEST_EXPECTED = 5.0
"""Rows expected per variant; with fewer the chi-square is not one."""
FEWEST_EFFECTIVE = 50.0
"""Effective rows of a variant under a policy that is not uniform."""
DAYS_IN_WEEK, MONDAY = 7, 4
"""1970 began on a Thursday: days + 3 since a Monday."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """The check of some rows: chi-square statistics add."""

    statistic: float
    degrees: int

    def __add__(self, other: SampleRatio) -> SampleRatio:
        return SampleRatio(self.statistic + other.statistic, self.degrees + other.degrees)

    @property
    def p_value(self) -> float | None:
        """Probability of so much by chance, or None where too little was shown to tell."""
        return float(chdtrc(self.degrees, self.statistic)) if self.degrees else None

    @property
    def broken(self) -> bool:
        certain = self.p_value is not None and self.p_value < ALARM
        return certain and self.statistic > SLACK * self.degrees


NOTHING = SampleRatio(0.0, 0)


def by_week(rows: Iterable[Rollup], sets: Mapping[int, ActionSet]) -> dict[int, SampleRatio]:
    """Return the check of a title's rows for each week (its Monday, in days since 1970)."""
    strata: dict[tuple[int, int, str], dict[str, list[float]]] = {}
    for row in rows:
        if row.drawn:
            monday = row.day - (row.day + DAYS_IN_WEEK - MONDAY) % DAYS_IN_WEEK
            of_variant = strata.setdefault((monday, row.action_set_id, row.cell), {})
            sums = of_variant.setdefault(row.variant_id, [0.0, 0.0, 0.0])
            sums[0] += row.drawn
            sums[1] += row.weight
            sums[2] += row.weight2
    found: dict[int, SampleRatio] = {}
    for (monday, set_id, _cell), of_variant in strata.items():
        ids = sets[set_id].variant_ids
        columns = np.array([of_variant.get(v, [0.0, 0.0, 0.0]) for v in ids])
        found[monday] = found.get(monday, NOTHING) + check(*columns.T)
    return found


def check(counts: Floats, weight: Floats, weight2: Floats) -> SampleRatio:
    """Return the check of one action set in one cell: counts and sums of weights, per variant."""
    rows, variants = float(counts.sum()), len(counts)
    if variants < 2 or rows == 0:
        return NOTHING
    if np.allclose(weight, counts * variants) and np.allclose(weight2, counts * variants**2):
        expected = rows / variants
        if expected < FEWEST_EXPECTED:
            return NOTHING
        return SampleRatio(float(np.sum((counts - expected) ** 2) / expected), variants - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        told = np.where(weight2 > 0, weight**2 / weight2, 0.0) >= FEWEST_EFFECTIVE
    if told.all():  # the sums are bound together: the largest says nothing of its own
        told[np.argmax(counts)] = False
    if not told.any():
        return NOTHING
    away = weight[told] - rows
    # sum 1 / p_v as N + sum (1 - p) / p^2 over the rows that showed v: where p is near 1 the plain
    # sum of squares varies more than what is left of it when N is taken away.
    covariance = np.diag(rows + weight2[told] - weight[told]) - rows
    if np.linalg.eigvalsh(covariance)[0] <= 0:
        return NOTHING
    return SampleRatio(float(away @ np.linalg.solve(covariance, away)), int(told.sum()))
