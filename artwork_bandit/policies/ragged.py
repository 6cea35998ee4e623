"""Arithmetic over the ragged columns of a page: one segment per decision.

`offsets` (d + 1, increasing) says where each decision's variants begin; no segment is empty.
"""

from __future__ import annotations

import numpy as np

from artwork_bandit.domain import Floats, Ints


def sizes(offsets: Ints) -> Ints:
    """Return the number of variants per decision."""
    return offsets[1:] - offsets[:-1]


def spread(values: Floats, offsets: Ints) -> Floats:
    """Return each decision's value repeated for each of its variants."""
    return values.repeat(sizes(offsets))


def total(flat: Floats, offsets: Ints) -> Floats:
    """Return the sum per decision."""
    return np.add.reduceat(flat, offsets[:-1]) if len(offsets) > 1 else np.empty(0)


def maximum(flat: Floats, offsets: Ints) -> Floats:
    """Return the largest value per decision."""
    return np.maximum.reduceat(flat, offsets[:-1]) if len(offsets) > 1 else np.empty(0)


def first_maximum(flat: Floats, offsets: Ints) -> Ints:
    """Return the flat index of each decision's largest value, the first one among equals."""
    if (n := _common_size(offsets)) is not None:
        return np.asarray(offsets[:-1] + flat.reshape(-1, n).argmax(axis=1))
    best = spread(maximum(flat, offsets), offsets)
    index = np.where(flat == best, np.arange(len(flat)), len(flat))
    return np.minimum.reduceat(index, offsets[:-1]) if len(offsets) > 1 else index


def _common_size(offsets: Ints) -> int | None:
    """Return the number of variants that every decision has, None where they differ."""
    each = sizes(offsets)
    return int(each[0]) if len(each) and np.all(each == each[0]) else None


def entropy(pmf: Floats, offsets: Ints) -> Floats:
    """Return each decision's entropy, nats."""
    logs = np.log(np.where(pmf > 0, pmf, 1.0))
    return -total(pmf * logs, offsets)
