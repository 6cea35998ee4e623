"""What variants show, in columns that a model is bound to in milliseconds.

Names and numbers of all features are numbered once, when a variant enters; a model then only says
which of them are columns of its own. So a new model costs one pass over numbers, not over names,
and a changed variant costs its own row.

Tokens: `key=value` with weight 1 (each of n list items: 1/n), `\\x1fkey` with a number as its
weight, `\\x1ekind:genre` for what it emphasises (see `emphasis`), and the token 0 with weight 1 in
every row (a model's constant).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from artwork_bandit.domain import Floats, Ints, Variant, ranges

NUMBER = "\x1f"
"""Begins the token of a numeric feature; no name from outside holds control characters."""
EMPHASIS = "\x1e"
"""Begins the token of a genre that a variant emphasises."""
GENRE = "genre"
"""The feature that names the genre (or genres) a variant emphasises."""
KINDS = ("emphasised", "tagged", "title's")
"""Of emphasis; see `emphasis`."""
CONSTANT = ""
"""The token 0."""
MOST_LEFT = 2
"""Times the tokens of all rows that a table may hold, those of rows that were replaced included."""


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
    def of(variants: Sequence[Variant]) -> FeatureTable:
        empty = np.empty(0, np.int64)
        return FeatureTable({CONSTANT: 0}, empty, empty, empty, np.empty(0)).changed({}, variants)

    def changed(self, rows: Mapping[int, Variant], added: Sequence[Variant]) -> FeatureTable:
        """Return the table with some rows replaced, and rows added at the end."""
        tokens: list[int] = []
        weights: list[float] = []
        sizes: list[int] = []
        for variant in (*rows.values(), *added):
            found = dict(_tokens(variant))
            tokens += [self.numbers.setdefault(name, len(self.numbers)) for name in found]
            weights += found.values()
            sizes.append(len(found))
        size = np.array(sizes, np.int64)
        start = len(self.tokens) + np.cumsum(size) - size
        all_sizes = np.concatenate([self.sizes, size[len(rows) :]])
        all_starts = np.concatenate([self.starts, start[len(rows) :]])
        replaced = np.fromiter(rows, np.int64, len(rows))
        all_sizes[replaced], all_starts[replaced] = size[: len(rows)], start[: len(rows)]
        all_tokens = np.concatenate([self.tokens, np.array(tokens, np.int64)])
        all_weights = np.concatenate([self.weights, np.array(weights, np.float64)])
        if len(all_tokens) > MOST_LEFT * all_sizes.sum():  # what was replaced is in nobody's row
            kept = ranges(all_starts, all_sizes)
            all_tokens, all_weights = all_tokens[kept], all_weights[kept]
            all_starts = np.cumsum(all_sizes) - all_sizes
        return FeatureTable(self.numbers, all_starts, all_sizes, all_tokens, all_weights)

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


def emphasis(variant: Variant) -> Iterator[tuple[str, float]]:
    """Give the genres a variant may emphasise, as `kind:genre`, with their weights.

    A tag among its title's genres is `emphasised`; one that is not may be wrong, and is `tagged`.
    A variant without an emphasised genre may emphasise any of its title's: those are `title's`.
    How much each kind says, a model learns.
    """
    tags = variant.features.get(GENRE)
    given = [tags] if isinstance(tags, str) else tags if isinstance(tags, list | tuple) else []
    names = list(dict.fromkeys(given))
    own = variant.title_genres
    trusted = False
    for name in names:
        known = not own or name in own
        trusted |= known
        yield f"{KINDS[0] if known else KINDS[1]}:{name}", 1.0 / len(names)
    if not trusted:
        for name in own:
            yield f"{KINDS[2]}:{name}", 1.0 / len(own)


def is_trusted(variant: Variant) -> bool:
    """Tell whether a tag among its title's genres says what a variant emphasises."""
    return any(name.startswith(f"{KINDS[0]}:") for name, _ in emphasis(variant))


def _tokens(variant: Variant) -> Iterable[tuple[str, float]]:
    yield CONSTANT, 1.0
    yield from indicators(variant.features)
    for key, value in numeric(variant.features):
        yield NUMBER + key, value
    for name, weight in emphasis(variant):
        yield EMPHASIS + name, weight
