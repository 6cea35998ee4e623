"""Was each variant shown as often as its propensities promise?

Of a variant v that might be shown in a row, 1{v shown} / propensity - 1 has mean 0. Variants are
hashed into groups, so that memory does not grow with the catalogue (in a small one each has its
own), and bets on and against each group's sum (`estimators.betting`) tell. They know how heavy the
rows may be that have not come: the heaviest is taken as twice what came, since a floor draws all
the time. They take rows for fresh draws, and logs made elsewhere may have drawn once for all rows
of a member, so rows count as fewer: by how much more the sums of buckets of members vary than
those of fresh draws would.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import MEMBER_BUCKETS, Floats, Ints, ReplayBlock, stable_hash
from artwork_bandit.estimators import betting

GROUPS = 64
HEAVIER = 2.0
FEWEST_BUCKETS = 10
"""Buckets of members that it takes to tell how much they vary."""


class Counted:
    """Sums per group of variants; merges with `+=`."""

    def __init__(self) -> None:
        self._buckets = np.zeros((MEMBER_BUCKETS, GROUPS))
        self._rows = np.zeros(MEMBER_BUCKETS)
        """Sums of x per bucket of members and group; rows."""
        self._squares = np.zeros(GROUPS)
        self._most, self._heaviest = 1.0, 1.0
        """Most variants of one group that a row might show; the largest 1 / propensity."""

    def __iadd__(self, other: Counted) -> Counted:
        self._buckets, self._rows = self._buckets + other._buckets, self._rows + other._rows
        self._squares = self._squares + other._squares
        self._most = max(self._most, other._most)
        self._heaviest = max(self._heaviest, other._heaviest)
        return self

    def add(
        self, block: ReplayBlock, could: npt.NDArray[np.bool_] | None, bucket: Ints
    ) -> None:  # fmt: skip
        """Take in rows; `could` says which variants might be shown, None if all; `bucket` is each
        row's bucket of members."""
        groups = [_groups(s.title_id, s.variant_ids) for s in block.action_sets]
        starts = np.cumsum([0, *(len(g) for g in groups)])[:-1]
        shown = np.concatenate(groups)[starts[block.set_of_row] + block.chosen]
        weight = 1.0 / block.propensity
        if could is None:
            there = np.stack([np.bincount(g, minlength=GROUPS) for g in groups]).astype(float)
            shape = (MEMBER_BUCKETS, len(groups))
            place = bucket * len(groups) + block.set_of_row
            rows = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
            besides = there[block.set_of_row, shown]
            expected, squares = rows @ there, rows.sum(axis=0) @ there**2
        else:
            flat = np.concatenate([groups[i] for i in block.set_of_row.tolist()])[could]
            of_row = np.repeat(np.arange(len(block)), block.sizes)[could]
            cell, n = np.unique(of_row * GROUPS + flat, return_counts=True)
            there = np.zeros(len(block) * GROUPS)
            there[cell] = n
            besides = there[np.arange(len(block)) * GROUPS + shown]
            place = bucket[cell // GROUPS] * GROUPS + cell % GROUPS
            expected = np.bincount(place, n, self._buckets.size).reshape(self._buckets.shape)
            squares = np.bincount(cell % GROUPS, n**2, GROUPS)
        came = np.bincount(bucket * GROUPS + shown, weight, self._buckets.size)
        self._buckets += came.reshape(self._buckets.shape) - expected
        self._rows += np.bincount(bucket, minlength=MEMBER_BUCKETS)
        self._squares += np.bincount(shown, weight**2 - 2 * weight * besides, GROUPS) + squares
        self._most = max(self._most, float(there.max(initial=1.0)))
        self._heaviest = max(self._heaviest, float(weight.max(initial=1.0)))

    @property
    def log_evidence(self) -> float:
        """Log of the wealth of bets that the propensities are wrong."""
        used, some = self._rows > 0, self._squares > 0
        n = int(used.sum())
        if n < FEWEST_BUCKETS or not some.any():  # nothing was left to chance
            return 0.0
        varies = float(self._buckets[used].var(axis=0)[some].sum()) * n * n / (n - 1)
        like = max(1.0, varies / float(self._squares[some].sum()))
        sums: Floats = self._buckets.sum(axis=0)[some]
        squares, heaviest = like * self._squares[some], HEAVIER * self._heaviest
        return betting.log_evidence(sums, squares, like * self._most, like * heaviest)


@lru_cache(100_000)
def _groups(title_id: str, variant_ids: tuple[str, ...]) -> Ints:
    found: Ints = np.array([stable_hash(title_id, v) % GROUPS for v in variant_ids], np.int64)
    return found
