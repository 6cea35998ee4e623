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
        own_cross=np.zeros((variants, len(form.factors))), own_genre=np.zeros(variants),
        genre_cross=np.zeros((form.genres, emphasis) if crossed else (0, 0)),
    )  # fmt: skip


def count(
    told: Information, form: Form, contexts: Floats, variants: Floats, numbers: Ints, place: Ints,
    shown: Ints, affinities: Floats, watched: Floats, curvature: Floats,
) -> None:  # fmt: skip
    """Add what n rows tell.

    `contexts` [c, columns] and `variants` [v, columns] are encoded, `numbers` those of the
    variants; row i showed variant `shown[i]` in context `place[i]`, with `affinities` [n, kinds],
    a share `watched` of the title and `curvature` p (1 - p) times its weight, the second derivative
    of its loss.
    """
    from scipy.sparse import csr_array

    squares = variants**2
    described, emphasis = squares[:, : form.described], squares[:, form.described :]
    # Rows of a context are summed up first: those of a page have it in common.
    pairs = csr_array((curvature, (place, shown)), (len(contexts), len(variants)))
    by_context = pairs @ described
    told.variant[:] += by_context.sum(axis=0)
    told.own[:] += np.bincount(numbers[shown], curvature, len(told.own))
    told.affinity[:] += curvature @ affinities**2
    told.cross[:] += (contexts[:, form.crossed] ** 2).T @ by_context
    if len(some := np.flatnonzero(watched)):
        told.watched[:] += (curvature * watched**2)[some] @ described[shown[some]]
    if form.factors:
        of_factors = pairs.T @ contexts[:, form.factors] ** 2
        np.add.at(told.own_cross, numbers, of_factors)
    if form.own_genres is not None:
        some = numbers[shown]
        rows, _, values = form.own_genres.beyond(contexts[place], some)
        mean = np.bincount(rows, values**2, len(some)) / np.maximum(form.own_genres.sizes[some], 1)
        told.own_genre[:] += np.bincount(some, curvature * mean, len(told.own_genre))
    if form.genre_crosses:
        told.genre_cross[:] += (contexts[:, : form.genres] ** 2).T @ (pairs @ emphasis)
