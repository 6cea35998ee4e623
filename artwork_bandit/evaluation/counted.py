"""Was each variant shown as often as its propensities promise?

Of a variant v that might be shown in a row, x = 1{v shown} / propensity - 1 has mean 0, and so has
the sum of any group's. Groups are of two families, and either may tell:

    variants   hashed into groups, so that memory does not grow with the catalogue (in a small one
               each has its own): a picture that does not load
    places     in the row's list, in the order of probability where the log has `logging_pmf`, and
               that of the default: what is lost with whatever stands there, in a catalogue of
               many titles a little of each

Bets on and against each group's sum (`estimators.betting`) tell. They know how heavy the rows may
be that have not come: the heaviest is taken as twice what came, since a floor draws all the time.
They take rows for fresh draws, and logs made elsewhere may have drawn once for all rows of a
member, so rows count as fewer: by how much more the sums of buckets of members vary than those of
fresh draws would.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import MEMBER_BUCKETS, Floats, Ints, ReplayBlock, stable_hash
from artwork_bandit.estimators import betting
from artwork_bandit.policies.ragged import spread, total

GROUPS = 64
PLACES = 16
"""The first of a list that have groups of their own, and as many of the most probable."""
DEFAULT = 2 * PLACES
HEAVIER = 2.0
FEWEST_BUCKETS = 10
"""Buckets of members that it takes to tell how much they vary."""
Mask = npt.NDArray[np.bool_]


class Counted:
    """Sums of x per group; merges with `+=`."""

    def __init__(self) -> None:
        self._rows = np.zeros(MEMBER_BUCKETS)
        self._variants, self._places = _Sums(GROUPS), _Sums(DEFAULT + 1)
        self._heaviest = 1.0
        """The largest 1 / propensity."""

    def __iadd__(self, other: Counted) -> Counted:
        self._rows = self._rows + other._rows
        self._variants += other._variants
        self._places += other._places
        self._heaviest = max(self._heaviest, other._heaviest)
        return self

    def add(self, block: ReplayBlock, could: Mask | None, bucket: Ints) -> None:
        """Take in rows; `could` says which variants might be shown, None if all; `bucket` is each
        row's bucket of members."""
        weight = 1.0 / block.propensity
        self._rows += np.bincount(bucket, minlength=MEMBER_BUCKETS)
        self._heaviest = max(self._heaviest, float(weight.max(initial=1.0)))
        self._add_variants(block, could, bucket, weight)
        self._add_positions(block, could, bucket, weight)
        if block.logging_pmf is not None:
            self._add_ranks(block, block.logging_pmf, bucket, weight)
        self._add_default(block, could, bucket, weight)

    @property
    def log_evidence(self) -> float:
        """Log of the wealth of bets that the propensities are wrong."""
        variants, places = (
            sums.log_evidence(self._rows, self._heaviest) for sums in (self._variants, self._places)
        )
        return float(np.logaddexp(variants, places) - np.log(2))

    def _add_variants(
        self, block: ReplayBlock, could: Mask | None, bucket: Ints, weight: Floats
    ) -> None:
        groups = [_groups(s.title_id, s.variant_ids) for s in block.action_sets]
        starts = np.cumsum([0, *(len(g) for g in groups)])[:-1]
        shown = np.concatenate(groups)[starts[block.set_of_row] + block.chosen]
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
            expected = _table(bucket[cell // GROUPS], cell % GROUPS, GROUPS, n)
            squares = np.bincount(cell % GROUPS, n**2, GROUPS)
        self._variants.most = max(self._variants.most, float(there.max(initial=1.0)))
        self._variants.add(bucket, shown, weight, besides, expected, squares)

    def _add_positions(
        self, block: ReplayBlock, could: Mask | None, bucket: Ints, weight: Floats
    ) -> None:
        if could is None:
            expected = _at_least(block.sizes, bucket)
        else:
            place = np.arange(len(could)) - np.repeat(block.offsets[:-1], block.sizes)
            first = could & (place < PLACES)
            expected = _table(np.repeat(bucket, block.sizes)[first], place[first], PLACES)
        self._places.add_places(0, bucket, block.chosen, weight, expected)

    def _add_ranks(self, block: ReplayBlock, pmf: Floats, bucket: Ints, weight: Floats) -> None:
        shown = pmf[block.offsets[:-1] + block.chosen]
        its, place = spread(shown, block.offsets), np.arange(len(pmf))
        before = place < np.repeat(block.offsets[:-1] + block.chosen, block.sizes)
        ahead = (pmf > its) | ((pmf == its) & before)
        rank = total(ahead.astype(float), block.offsets).astype(np.int64)
        might = total((pmf > 0).astype(float), block.offsets).astype(np.int64)
        self._places.add_places(PLACES, bucket, rank, weight, _at_least(might, bucket))

    def _add_default(
        self, block: ReplayBlock, could: Mask | None, bucket: Ints, weight: Floats
    ) -> None:
        defaults = [-1 if s.default is None else s.default for s in block.action_sets]
        default = np.array(defaults, np.int64)[block.set_of_row]
        known = default >= 0
        if could is not None:
            known &= could[block.offsets[:-1] + np.maximum(default, 0)]
        expected = _table(bucket[known], np.zeros(int(known.sum()), np.int64), 1)
        # Any other place is none of this group's.
        place = np.where(known & (block.chosen == default), 0, PLACES)
        self._places.add_places(DEFAULT, bucket, place, weight, expected)


class _Sums:
    """Sums of x of a family of groups, per bucket of members; merges with `+=`."""

    def __init__(self, groups: int) -> None:
        self.most = 1.0
        """Most variants of one group that a row might show."""
        self._buckets = np.zeros((MEMBER_BUCKETS, groups))
        self._squares = np.zeros(groups)

    def __iadd__(self, other: _Sums) -> _Sums:
        self.most = max(self.most, other.most)
        self._buckets = self._buckets + other._buckets
        self._squares = self._squares + other._squares
        return self

    def add(
        self, bucket: Ints, shown: Ints, weight: Floats, besides: Floats, expected: Floats,
        squares: Floats, first: int = 0,
    ) -> None:  # fmt: skip
        """Take in rows that showed a variant of the group `shown`, of which as many as `besides`
        might have been shown; `expected` [buckets, groups] and `squares` [groups] are the sums over
        all rows of how many of a group might be shown, and of their squares."""
        groups = slice(first, first + len(squares))
        self._buckets[:, groups] += _table(bucket, shown, len(squares), weight) - expected
        more = np.bincount(shown, weight**2 - 2 * weight * besides, len(squares))
        self._squares[groups] += more + squares

    def add_places(
        self, first: int, bucket: Ints, place: Ints, weight: Floats, expected: Floats
    ) -> None:
        """Take in rows that showed what is at a `place`, of which a list has one each: groups from
        the `first` on, for as many as `expected` has."""
        its = place < expected.shape[1]
        self.add(
            bucket[its], place[its], weight[its], np.ones(int(its.sum())), expected,
            expected.sum(axis=0), first,
        )  # fmt: skip

    def log_evidence(self, rows: Floats, heaviest: float) -> float:
        """Return the log of the wealth of bets that the propensities are wrong."""
        used, some = rows > 0, self._squares > 0
        n = int(used.sum())
        if n < FEWEST_BUCKETS or not some.any():  # nothing was left to chance
            return 0.0
        varies = float(self._buckets[used].var(axis=0)[some].sum()) * n * n / (n - 1)
        like = max(1.0, varies / float(self._squares[some].sum()))
        sums: Floats = self._buckets.sum(axis=0)[some]
        squares = like * self._squares[some]
        return betting.log_evidence(sums, squares, like * self.most, like * HEAVIER * heaviest)


def _table(bucket: Ints, group: Ints, groups: int, weight: Floats | Ints | None = None) -> Floats:
    """Return sums [buckets of members, groups] of weights, or of ones."""
    place = bucket * groups + group
    found = np.bincount(place, weight, MEMBER_BUCKETS * groups)
    return found.reshape(MEMBER_BUCKETS, groups).astype(float)


def _at_least(sizes: Ints, bucket: Ints) -> Floats:
    """Return [buckets of members, places]: the rows whose lists reach to a place."""
    ends = _table(bucket, np.minimum(sizes, PLACES), PLACES + 1)
    found: Floats = np.cumsum(ends[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return found


@lru_cache(100_000)
def _groups(title_id: str, variant_ids: tuple[str, ...]) -> Ints:
    found: Ints = np.array([stable_hash(title_id, v) % GROUPS for v in variant_ids], np.int64)
    return found
