"""q-hat: predicted reward per variant, for the estimators that use a prediction.

A closed form, so that it needs no training and no tuning: a variant's mean reward shrunk towards
its title's, which is shrunk towards the log's,

    q = (S_v + k m_t) / (n_v + k),    m_t = (S_t + k m) / (n_t + k),    k = 20

fitted on *earlier* rows of *other* members only: the log's time is cut into 32 equal parts and
members into two halves by hash, and a row is predicted from the other half's rows in the parts
before its own. Otherwise the doubly robust estimate would be biased by predicting rows from
themselves. The sums are kept per part and half, so that predictions are the same however the log
is split, and in whatever order it is read.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from artwork_bandit.domain import ActionSet, Floats, Ints, ReplayBlock, ranges, stable_hash
from artwork_bandit.evaluation.distinct import Hashes
from artwork_bandit.evaluation.span import Span
from artwork_bandit.policies.rendezvous import variant_keys

SHRINKAGE = 20.0
FOLDS, PARTS = 2, 32


@dataclass
class Past:
    """Rows and rewards per variant, part of the log's time and half of the members; merges with
    `+=`."""

    numbers: dict[int, int] = field(default_factory=dict)
    """64-bit variant id -> number."""
    titles: list[int] = field(default_factory=list)
    """Per number, the 64-bit id of its title."""
    sums: Floats = field(default_factory=lambda: np.zeros((0, PARTS, FOLDS, 2)))
    """[variant, part, fold, (count, reward)]."""
    _known: dict[ActionSet, Ints] = field(default_factory=dict)

    def add(self, block: ReplayBlock, span: Span, members: Hashes) -> None:
        """Take in what was shown and earned; `members` are the rows' hashed members."""
        numbers = [self._numbers_of(s) for s in block.action_sets]
        sizes = np.array([len(each) for each in numbers], np.int64)
        place = (np.cumsum(sizes) - sizes)[block.set_of_row] + block.chosen
        part, fold = span.parts_of(block.occurred_at, PARTS), _fold(members)
        at = (np.concatenate(numbers)[place], part, fold)
        np.add.at(self.sums[..., 0], at, 1.0)
        np.add.at(self.sums[..., 1], at, block.reward)

    def __iadd__(self, other: Past) -> Past:
        numbers = [self._number(*each) for each in zip(other.numbers, other.titles, strict=True)]
        self.sums[numbers] += other.sums[: len(numbers)]
        return self

    def _numbers_of(self, of: ActionSet) -> Ints:
        """Return the numbers of an action set's variants."""
        found = self._known.get(of)
        if found is None:
            title = _title_key(of.slot, of.title_id)
            keys = variant_keys(of.title_id, of.slot, of.variant_ids)
            found = np.array([self._number(key, title) for key in keys], np.int64)
            self._known[of] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": {}}

    def _number(self, key: int, title: int) -> int:
        if (known := self.numbers.get(key)) is not None:
            return known
        number = self.numbers[key] = len(self.numbers)
        self.titles.append(title)
        if number == len(self.sums):
            more = max(256, number // 2)
            self.sums = np.concatenate([self.sums, np.zeros((more, *self.sums.shape[1:]))])
        return number


class OutcomeModel:
    """Predicts from the past."""

    def __init__(
        self, past: Past, span: Span, start: float = 0.0, *, hindsight: bool = False
    ) -> None:
        """`start` is predicted where nothing is known; in `hindsight`, all rows are known."""
        self._span = span
        self._numbers = past.numbers
        self._known: dict[ActionSet, tuple[Ints, int]] = {}
        titles, title_of = np.unique(np.array(past.titles, np.uint64), return_inverse=True)
        self._titles = {title: i for i, title in enumerate(titles.tolist())}
        n = len(past.numbers)
        until = np.cumsum(past.sums[:n], axis=1)
        before = np.concatenate([np.zeros((n, 1, FOLDS, 2)), until[:, :-1]], axis=1)
        others = before.sum(axis=2, keepdims=True) - before
        if hindsight:
            others = np.broadcast_to(until[:, -1:].sum(axis=2, keepdims=True), others.shape)
        # Variants and titles that were never shown are predicted too: one row more of each.
        self._variant = np.zeros((n + 1, PARTS, FOLDS))
        self._title = np.zeros((len(titles) + 1, PARTS, FOLDS))
        for part in range(PARTS):
            for fold in range(FOLDS):
                q, of_title, mean = means(others[:, part, fold], title_of, len(titles), start)
                self._variant[:n, part, fold] = q
                self._title[:, part, fold] = [*of_title, mean]

    def predict(self, block: ReplayBlock, members: Hashes) -> Floats:
        """Return q-hat, flat over the block's action sets."""
        sizes = block.sizes
        of_set = [self._known.get(s) or self._find(s) for s in block.action_sets]
        per_set = np.array([len(variants) for variants, _ in of_set], np.int64)
        starts = np.cumsum(per_set) - per_set
        flat = ranges(starts[block.set_of_row], sizes)
        variant = np.concatenate([variants for variants, _ in of_set])[flat]
        title_of = np.repeat(np.array([title for _, title in of_set])[block.set_of_row], sizes)
        part = np.repeat(self._span.parts_of(block.occurred_at, PARTS), sizes)
        fold = np.repeat(_fold(members), sizes)
        q: Floats = np.where(
            variant < 0, self._title[title_of, part, fold], self._variant[variant, part, fold]
        )
        return q

    def _find(self, of: ActionSet) -> tuple[Ints, int]:
        """Return the numbers of an action set's variants and of its title, -1 where unknown."""
        title = self._titles.get(_title_key(of.slot, of.title_id), -1)
        keys = variant_keys(of.title_id, of.slot, of.variant_ids)
        found = np.array([self._numbers.get(key, -1) for key in keys], np.int64), title
        self._known[of] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": {}}


def means(sums: Floats, title_of: Ints, titles: int, start: float) -> tuple[Floats, Floats, float]:
    """Return the shrunken mean rewards of variants and titles, and the mean of all.

    `sums` [variants, (count, reward)]; `start` is the mean where there is no row.
    """
    count, earned = sums.T
    mean = float(earned.sum() / count.sum()) if count.sum() else start
    n_title = np.bincount(title_of, count, titles)
    s_title = np.bincount(title_of, earned, titles)
    of_title = (s_title + SHRINKAGE * mean) / (n_title + SHRINKAGE)
    return (earned + SHRINKAGE * of_title[title_of]) / (count + SHRINKAGE), of_title, mean


@functools.lru_cache(maxsize=50_000)
def _title_key(slot: str, title_id: str) -> int:
    return stable_hash("title", slot, title_id)


def _fold(members: Hashes) -> Ints:
    found: Ints = (members % np.uint64(FOLDS)).astype(np.int64)
    return found
