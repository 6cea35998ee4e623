"""Variants of which no trusted tag says what genre they emphasise: their rows may.

Such a variant may emphasise any genre of its title's, and is expected to suit whoever likes them on
average (`features.emphasis`). That it emphasises one more than the others shows in who liked it:
each of its genres has an effect of the variant's own, of the member's log-lift of that genre beyond
the mean over the title's. If the variant emphasises one of n of them and one unit of log-lift is
worth b, these effects spread with standard deviation b sqrt(n - 1) / n, close to b / 2 for any n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from artwork_bandit.domain import Floats, Ints, Variant, ranges
from artwork_bandit.policies.encoding import ContextEncoder
from artwork_bandit.policies.features import KINDS, emphasis


class Beyond(NamedTuple):
    """The features of some rows."""

    rows: Ints
    """Where each feature belongs, increasing."""
    features: Ints
    """Numbers of (variant, genre) pairs."""
    values: Floats
    """Log-lift beyond the mean over the title's genres."""


@dataclass(frozen=True, eq=False)
class Doubtful:
    """Genres that variants may emphasise, by the variants' numbers; none for those that a tag tells
    of, or whose title has but one."""

    sizes: Ints
    """Per variant number, how many genres."""
    columns: Ints
    """Of all variants one after another: the context columns of the genres."""

    @staticmethod
    def of(variants: Mapping[int, Variant], count: int, contexts: ContextEncoder) -> Doubtful:
        """Return those of `count` variants, of which these numbers are known."""
        column = {genre: i for i, genre in enumerate(contexts.genres)}
        sizes, columns = np.zeros(count, np.int64), []
        for number, variant in sorted(variants.items()):
            kinds = (name.split(":", 1) for name, _ in emphasis(variant))
            some = [column[g] for kind, g in kinds if kind == KINDS[2] and g in column]
            if len(some) > 1:
                sizes[number] = len(some)
                columns += some
        return Doubtful(sizes, np.array(columns, np.int64))

    def __len__(self) -> int:
        """Number of (variant, genre) pairs."""
        return len(self.columns)

    @cached_property
    def starts(self) -> Ints:
        found: Ints = np.cumsum(self.sizes) - self.sizes
        return found

    def beyond(self, contexts: Floats, numbers: Ints) -> Beyond:
        """Return what rows [n, context columns] that showed variants of these numbers have."""
        sizes = self.sizes[numbers]
        features = ranges(self.starts[numbers], sizes)
        rows = np.repeat(np.arange(len(sizes)), sizes)
        values = contexts[rows, self.columns[features]]
        means = np.bincount(rows, values, len(sizes)) / np.maximum(sizes, 1)
        return Beyond(rows, features, values - means[rows])

    @cached_property
    def genres(self) -> list[int]:
        """The context columns of genres that any variant may emphasise."""
        found: list[int] = np.unique(self.columns).tolist()
        return found

    def per_genre(self, effects: Floats) -> Floats:
        """Return [variants, genres] from the effect of each pair: what one unit of each genre's
        log-lift adds for each variant."""
        of = np.repeat(np.arange(len(self.sizes)), self.sizes)
        means = np.bincount(of, effects, len(self.sizes)) / np.maximum(self.sizes, 1)
        found = np.zeros((len(self.sizes), len(self.genres)))
        found[of, np.searchsorted(self.genres, self.columns)] = effects - means[of]
        return found
