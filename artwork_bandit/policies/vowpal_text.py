"""Numbers as Vowpal Wabbit reads them: features and labels, all finite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from artwork_bandit.domain import Floats

FEW = 16
"""Rows that are formatted as they come."""


def columns_texts(values: Floats) -> list[str]:
    """Return ` i:value` for each non-zero column, per row; raises ValueError unless all are finite.

    Columns of a training log have few different values: each is formatted once.
    """
    require_finite(values)
    n, columns = values.shape
    if n < FEW:
        return ["".join(f" {i}:{x:.7g}" for i, x in enumerate(row) if x) for row in values.tolist()]
    texts = np.empty(values.shape, object)
    for i in range(columns):
        found, place = np.unique(values[:, i], return_inverse=True)
        written = np.array([f" {i}:{x:.7g}" if x else "" for x in found.tolist()], object)
        texts[:, i] = written[place]
    return ["".join(row) for row in texts.tolist()]


def labels(reward: Floats, weight: Floats, base: Floats) -> list[list[str]]:
    """Return the labels of each row: a reward strictly between 0 and 1 is a part of each class.

    `base` is the logit that the example starts from. Raises ValueError for what is none.
    """
    right = (reward >= 0) & (reward <= 1) & (weight > 0) & (weight < np.inf) & np.isfinite(base)
    if not right.all():
        i = int(np.argmin(right))
        raise ValueError(f"label with reward {reward[i]}, weight {weight[i]} and base {base[i]}")
    parts = (reward * weight).tolist(), ((1 - reward) * weight).tolist(), base.tolist()
    return [
        [f"{label} {part:.7g} {b:.5f}" for label, part in (("1", won), ("-1", lost)) if part > 0]
        for won, lost, b in zip(*parts, strict=True)
    ]


def labelled(labels: Iterable[list[str]], lines: Iterable[str]) -> Iterator[str]:
    """Yield each line of features behind each of its row's labels."""
    for parts, line in zip(labels, lines, strict=True):
        for label in parts:
            yield f"{label} {line}"


def require_finite(values: Floats) -> None:
    if not np.all(np.isfinite(values)):
        raise ValueError("a value for Vowpal Wabbit is not finite")
