"""Counting what rows tell of each effect (`policies.precision`)."""

from __future__ import annotations

import numpy as np

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.policies.precision import Information
from artwork_bandit.policies.vowpal import Form


def nothing(form: Form, variants: int, emphasis: int) -> Information:
    """Return what no rows tell of so many variants and columns of emphasis."""
    n, crossed = form.described, form.genre_crosses
    return Information(
        variant=np.zeros(n), own=np.zeros(variants), affinity=np.zeros(len(form.pairs)),
        cross=np.zeros((len(form.crossed), n)), watched=np.zeros(n),
        own_cross=np.zeros((variants, len(form.factors))),
        genre_cross=np.zeros((form.genres, emphasis) if crossed else (0, 0)),
    )  # fmt: skip


def count(
    told: Information, form: Form, contexts: Floats, variants: Floats, numbers: Ints,
    affinities: Floats, watched: Floats, curvature: Floats,
) -> None:  # fmt: skip
    """Add what n rows tell: `contexts` [n, columns] and `variants` [n, columns] encoded, the
    `numbers` of the variants, `affinities` [n, kinds], shares `watched`, and per row the second
    derivative of its loss, p (1 - p) times its weight."""
    squares = variants**2
    described, emphasis = squares[:, : form.described], squares[:, form.described :]

    def of_contexts(columns: list[int] | range) -> Floats:
        found: Floats = (contexts[:, columns] ** 2 * curvature[:, None]).T
        return found

    told.variant[:] += curvature @ described
    told.own[:] += np.bincount(numbers, curvature, len(told.own))
    told.affinity[:] += curvature @ affinities**2
    told.cross[:] += of_contexts(form.crossed) @ described
    told.watched[:] += (curvature * watched**2) @ described
    for i, of_factor in enumerate(of_contexts(form.factors)):
        told.own_cross[:, i] += np.bincount(numbers, of_factor, len(told.own))
    if form.genre_crosses:
        told.genre_cross[:] += of_contexts(range(form.genres)) @ emphasis
