"""Mappings of many rows in columns, such as the genres of members: what a row has is added up by
numpy, not by a loop over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

from artwork_bandit.domain import Floats, Ints

UNNUMBERED = -1
LARGEST = 1e6
"""Of an entry; a larger one is taken for this, or sums of some would not be finite."""


class Flattened(NamedTuple):
    """The entries above 0, in the rows' order."""

    rows: Ints
    numbers: Ints
    """UNNUMBERED for a name without a number."""
    values: Floats

    @property
    def numbered(self) -> Flattened:
        """The entries that have a number."""
        kept = self.numbers != UNNUMBERED
        return Flattened(self.rows[kept], self.numbers[kept], self.values[kept])


def flatten(mappings: Sequence[Mapping[str, float]], numbers: Mapping[str, int]) -> Flattened:
    """Return the mappings' entries, `numbers` being those of their names.

    >>> flatten([{"a": 2.0}, {"b": 1.0, "a": -1.0, "c": 3.0}], {"a": 0, "b": 1}).numbers.tolist()
    [0, 1, -1]
    """
    sizes = np.fromiter(map(len, mappings), np.int64, len(mappings))
    entries = int(sizes.sum())
    names = chain.from_iterable(mappings)
    found = np.fromiter(map(numbers.get, names, repeat(UNNUMBERED)), np.int64, entries)
    values = np.fromiter(chain.from_iterable(m.values() for m in mappings), np.float64, entries)
    kept = values > 0
    rows = np.repeat(np.arange(len(mappings)), sizes)
    return Flattened(rows[kept], found[kept], np.minimum(values[kept], LARGEST))
