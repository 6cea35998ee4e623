"""Was each variant shown as often as its propensities promise?

Of a variant v that might be shown in a row, 1{v shown} / propensity - 1 has mean 0. Variants are
hashed into groups, so that memory does not grow with the catalogue (in a small one each has its
own), and bets on and against each group's sum tell (`estimators.betting`). The heaviest a row can
be is taken as twice what came: a floor draws all the time.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints, ReplayBlock, stable_hash
from artwork_bandit.estimators import betting

GROUPS = 64
HEAVIER = 2.0


class Counted:
    """Sums per group of variants; merges with `+=`."""

    def __init__(self) -> None:
        self._sums, self._squares = np.zeros(GROUPS), np.zeros(GROUPS)
        self._most, self._heaviest = 1.0, 1.0
        """Most variants of one group that a row might show; the largest 1 / propensity."""

    def __iadd__(self, other: Counted) -> Counted:
        self._sums, self._squares = self._sums + other._sums, self._squares + other._squares
        self._most = max(self._most, other._most)
        self._heaviest = max(self._heaviest, other._heaviest)
        return self

    def add(self, block: ReplayBlock, could: npt.NDArray[np.bool_] | None) -> None:
        """Take in rows; `could` says which variants might be shown, None if all."""
        groups = [_groups(s.title_id, s.variant_ids) for s in block.action_sets]
        starts = np.cumsum([0, *(len(g) for g in groups)])[:-1]
        shown = np.concatenate(groups)[starts[block.set_of_row] + block.chosen]
        weight = 1.0 / block.propensity
        if could is None:
            there = np.stack([np.bincount(g, minlength=GROUPS) for g in groups]).astype(float)
            rows = np.bincount(block.set_of_row, minlength=len(groups)).astype(float)
            besides = there[block.set_of_row, shown]
            expected, squares = rows @ there, rows @ there**2
        else:
            flat = np.concatenate([groups[i] for i in block.set_of_row.tolist()])[could]
            of_row = np.repeat(np.arange(len(block)), block.sizes)[could]
            cell, n = np.unique(of_row * GROUPS + flat, return_counts=True)
            there = np.zeros(len(block) * GROUPS)
            there[cell] = n
            besides = there[np.arange(len(block)) * GROUPS + shown]
            expected = np.bincount(cell % GROUPS, n, GROUPS)
            squares = np.bincount(cell % GROUPS, n**2, GROUPS)
        self._sums += np.bincount(shown, weight, GROUPS) - expected
        self._squares += np.bincount(shown, weight**2 - 2 * weight * besides, GROUPS) + squares
        self._most = max(self._most, float(there.max(initial=1.0)))
        self._heaviest = max(self._heaviest, float(weight.max(initial=1.0)))

    @property
    def log_evidence(self) -> float:
        """Log of the wealth of bets that the propensities are wrong."""
        some = self._squares > 0
        sums: Floats = self._sums[some]
        bound = HEAVIER * self._heaviest
        return betting.log_evidence(sums, self._squares[some], self._most, bound)


@lru_cache(100_000)
def _groups(title_id: str, variant_ids: tuple[str, ...]) -> Ints:
    found: Ints = np.array([stable_hash(title_id, v) % GROUPS for v in variant_ids], np.int64)
    return found
