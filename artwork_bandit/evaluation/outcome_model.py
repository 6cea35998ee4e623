"""q-hat: predicted reward per variant, for the estimators that use a prediction.

A closed form, so that it needs no training and no tuning: a variant's mean reward shrunk towards
its title's, which is shrunk towards the log's,

    q = (S_v + k m_t) / (n_v + k),    m_t = (S_t + k m) / (n_t + k),    k = 20

fitted on *earlier* rows of *other* members only: members are split into two halves by hash, and a
row is predicted from the other half's past. Otherwise the doubly robust estimate would be biased
by predicting rows from themselves.
"""

from __future__ import annotations

import numpy as np

from artwork_bandit.domain import Floats, Ints, ReplayBlock, ranges
from artwork_bandit.policies.rendezvous import variant_key

SHRINKAGE = 20.0
FOLDS = 2
ROWS_AT_ONCE = 1_000


class OutcomeModel:
    """Running sums per fold, over a log that comes in blocks, in time order."""

    def __init__(self, start: float = 0.0) -> None:
        """`start` is predicted while nothing is known."""
        self._start = start
        self._variants: dict[int, int] = {}
        self._titles: dict[tuple[str, str], int] = {}
        self._title_of: list[int] = []
        self._sums = np.zeros((FOLDS, 0, 2))
        """[fold, variant, (count, reward)]."""

    def predict(self, block: ReplayBlock, cluster: Ints) -> Floats:
        """Return q-hat, flat over the block's action sets, and learn from the block.

        Rows are taken a thousand at a time: each is predicted before any of its thousand is
        learned from.
        """
        numbers, offsets = self._numbers(block), block.offsets
        fold = cluster % FOLDS
        q = np.empty(len(numbers))
        for start in range(0, len(block), ROWS_AT_ONCE):
            end = min(start + ROWS_AT_ONCE, len(block))
            flat = slice(offsets[start], offsets[end])
            fold_of = np.repeat(fold[start:end], np.diff(offsets[start : end + 1]))
            q[flat] = self._means()[fold_of, numbers[flat]]
            shown = numbers[offsets[start:end] + block.chosen[start:end]]
            self._learn(shown, block.reward[start:end], fold[start:end])
        return q

    def _means(self) -> Floats:
        """Return [fold, variant] predictions, each fold's from the other folds' rewards."""
        title_of = np.array(self._title_of, np.int64)
        q = np.empty((FOLDS, len(title_of)))
        for fold in range(FOLDS):
            others = self._sums.sum(axis=0) - self._sums[fold]
            count, earned = others[:, 0], others[:, 1]
            mean = earned.sum() / count.sum() if count.sum() else self._start
            n_title = np.bincount(title_of, count, len(self._titles))
            s_title = np.bincount(title_of, earned, len(self._titles))
            title_mean = (s_title + SHRINKAGE * mean) / (n_title + SHRINKAGE)
            q[fold] = (earned + SHRINKAGE * title_mean[title_of]) / (count + SHRINKAGE)
        return q

    def _learn(self, shown: Ints, reward: Floats, fold: Ints) -> None:
        width = self._sums.shape[1]
        for each in range(FOLDS):
            numbers = shown[fold == each]
            self._sums[each, :, 0] += np.bincount(numbers, minlength=width)
            self._sums[each, :, 1] += np.bincount(numbers, reward[fold == each], width)

    def _numbers(self, block: ReplayBlock) -> Ints:
        """Return the number of each variant, flat over the block; new ones get one."""
        per_set, starts = [], [0]
        for action_set in block.action_sets:
            title = (action_set.slot, action_set.title_id)
            title_number = self._titles.setdefault(title, len(self._titles))
            for variant_id in action_set.variant_ids:
                key = variant_key(action_set.title_id, action_set.slot, variant_id)
                if key not in self._variants:
                    self._variants[key] = len(self._variants)
                    self._title_of.append(title_number)
                per_set.append(self._variants[key])
            starts.append(len(per_set))
        grown = len(self._variants) - self._sums.shape[1]
        self._sums = np.pad(self._sums, ((0, 0), (0, grown), (0, 0)))
        first = np.array(starts, np.int64)[block.set_of_row]
        numbers: Ints = np.array(per_set, np.int64)[ranges(first, block.sizes)]
        return numbers
