"""What variants show, in columns that a model is bound to in milliseconds.

Names and numbers of all features are numbered once, when a variant enters; a model then only says
which of them are columns of its own. So a new model costs one pass over numbers, not over names,
and a changed variant costs its own row.

Tokens: `key=value` with weight 1 (each of n list items: 1/n), `\\x1fkey` with a number as its
weight, and the token 0 with weight 1 in every row (a model's constant).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from artwork_bandit.domain import Floats, Ints, ranges

NUMBER = "\x1f"
"""Begins the token of a numeric feature; no name from outside holds control characters."""
CONSTANT = ""
"""The token 0."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """The features of V variants: row i holds `tokens[starts[i]:starts[i] + sizes[i]]`."""

    numbers: dict[str, int]
    """Token -> its number; only ever grows, shared by a table and those made from it."""
    starts: Ints
    sizes: Ints
    """V, at least 1: the constant."""
    tokens: Ints
    weights: Floats

    def __len__(self) -> int:
        return len(self.starts)

    @staticmethod
    def of(features: Sequence[Mapping[str, Any]]) -> FeatureTable:
        empty = np.empty(0, np.int64)
        return FeatureTable({CONSTANT: 0}, empty, empty, empty, np.empty(0)).changed({}, features)

    def changed(
        self, rows: Mapping[int, Mapping[str, Any]], added: Sequence[Mapping[str, Any]]
    ) -> FeatureTable:
        """Return the table with the features of some rows replaced, and rows added at the end."""
        tokens: list[int] = []
        weights: list[float] = []
        sizes: list[int] = []
        for features in (*rows.values(), *added):
            found = dict(_tokens(features))
            tokens += [self.numbers.setdefault(name, len(self.numbers)) for name in found]
            weights += found.values()
            sizes.append(len(found))
        size = np.array(sizes, np.int64)
        start = len(self.tokens) + np.cumsum(size) - size
        all_sizes = np.concatenate([self.sizes, size[len(rows) :]])
        all_starts = np.concatenate([self.starts, start[len(rows) :]])
        replaced = np.fromiter(rows, np.int64, len(rows))
        all_sizes[replaced], all_starts[replaced] = size[: len(rows)], start[: len(rows)]
        return FeatureTable(
            self.numbers,
            all_starts,
            all_sizes,
            np.concatenate([self.tokens, np.array(tokens, np.int64)]),
            np.concatenate([self.weights, np.array(weights, np.float64)]),
        )

    def flat(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return (positions of the rows' tokens, where each row begins among them)."""
        sizes = self.sizes[rows]
        return ranges(self.starts[rows], sizes), np.cumsum(sizes) - sizes


def indicators(features: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Give the names of strings and list items, with their weights."""
    for key, value in features.items():
        if isinstance(value, str):
            yield f"{key}={value}", 1.0
        elif isinstance(value, list | tuple):
            for item in value:
                yield f"{key}={item}", 1.0 / len(value)


def numeric(features: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Give the numbers and booleans."""
    for key, value in features.items():
        if isinstance(value, bool | int | float):
            yield key, float(value)


def _tokens(features: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    yield CONSTANT, 1.0
    yield from indicators(features)
    for key, value in numeric(features):
        yield NUMBER + key, value
