"""Were variants shown as often as the logged propensities say?

Where the policy is uniform: Pearson's chi-square of counts against equal shares; those of each
(week, action set, cell) are added, so that many small breaks of one week are seen together.
Elsewhere the mean of 1{v shown} / propensity is 1 for every variant v, and bets on and against it
(`estimators.betting`) tell whether it is: under a policy that is nearly sure of itself a few rows
carry most of the weight, and a chi-square that takes the variance from the rows that came called
half of all small sound logs broken. The logs of their wealth are added. Broken means variants lost
on some devices, impressions sent twice, or propensities that were not drawn from, and with it every
comparison made from it. Small breaks are seen where variants are drawn at random, elsewhere large
ones only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import ActionSet, Floats
from artwork_bandit.estimators.betting import log_evidence
from artwork_bandit.estimators.tails import chi_square_tail
from artwork_bandit.store.rollups import IMPORTED, Rollup

ALARM = 1e-4
"""A p-value below this is called broken ..."""
SLACK = 3.0
"""... if the chi-square is also beyond this many times its degrees of freedom: in logs made
elsewhere members come twice, and counts vary a little more than by chance
(`simulations.upworthy`)."""
FEWEST_EXPECTED = 5.0
"""Rows expected per variant; with fewer the chi-square is not one."""
DAYS_IN_WEEK, MONDAY = 7, 4
"""1970 began on a Thursday: days + 3 since a Monday."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """The check of some rows: chi-square statistics, and the logs of wealth, add."""

    statistic: float
    degrees: int
    log_evidence: float | None = None
    """Of what a policy chose; None if none did."""

    def __add__(self, other: SampleRatio) -> SampleRatio:
        logs = [x.log_evidence for x in (self, other) if x.log_evidence is not None]
        return SampleRatio(
            self.statistic + other.statistic, self.degrees + other.degrees,
            sum(logs) if logs else None,
        )  # fmt: skip

    @property
    def p_value(self) -> float | None:
        """Probability of so much by chance, or None where too little was shown to tell."""
        found = [chi_square_tail(self.statistic, self.degrees)] if self.degrees else []
        found += [] if self.log_evidence is None else [math.exp(-max(0.0, self.log_evidence))]
        return min(1.0, len(found) * min(found)) if found else None

    @property
    def broken(self) -> bool:
        if self.log_evidence is not None and self.log_evidence > -math.log(ALARM):
            return True
        certain = self.degrees > 0 and chi_square_tail(self.statistic, self.degrees) < ALARM
        return certain and self.statistic > SLACK * self.degrees


NOTHING = SampleRatio(0.0, 0)


def by_week(
    rows: Iterable[Rollup], sets: Mapping[int, ActionSet], explored_share: float
) -> dict[int, SampleRatio]:
    """Return the check of a title's rows for each week (its Monday, in days since 1970).

    `explored_share` is what policies spread evenly at least.
    """
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
    for (monday, set_id, cell), of_variant in strata.items():
        ids = sets[set_id].variant_ids
        counts, weight, weight2 = np.array([of_variant.get(v, [0.0, 0.0, 0.0]) for v in ids]).T
        least = None if cell == IMPORTED else explored_share
        more = check(counts, weight, weight2, least)
        found[monday] = found.get(monday, NOTHING) + more
    return found


def check(
    counts: Floats, weight: Floats, weight2: Floats, explored_share: float | None
) -> SampleRatio:  # fmt: skip
    """Return the check of one action set in one cell: counts and sums of weights, per variant;
    without an `explored_share`, as of another system, only of what was drawn evenly."""
    rows, variants = float(counts.sum()), len(counts)
    if variants < 2 or rows == 0:
        return NOTHING
    if np.allclose(weight, counts * variants) and np.allclose(weight2, counts * variants**2):
        expected = rows / variants
        if expected < FEWEST_EXPECTED:
            return NOTHING
        return SampleRatio(float(np.sum((counts - expected) ** 2) / expected), variants - 1)
    if explored_share is None:
        return NOTHING
    # x = 1{v shown} / p - 1, and no p is below the floor.
    squares = weight2 - 2 * weight + rows
    evidence = log_evidence(weight - rows, squares, 1.0, variants / explored_share)
    return SampleRatio(0.0, 0, evidence)
