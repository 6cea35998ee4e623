"""Crosses of genres with emphasis, each with a prior of its own.

Where liking a genre has come to say something of other pictures than before, it says much of a few
kinds and nothing of the others: a dozen crosses of hundreds. One prior for all shrinks the few too
much and leaves noise in the others. So each cross is given the standard deviation that makes the
log likelier, found by expectation and maximisation (Tipping 2001, "Sparse Bayesian learning",
equation 17), where the common prior counts as a part of one effect:

    spread'^2 = (effect^2 + 1 / (told + 1 / spread^2) + share x prior^2) / (1 + share)

told being what the rows tell of it. A training is repeated with these.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.policies.precision import Information
from artwork_bandit.policies.vowpal import Form

STEPS = 2
"""Trainings that are repeated."""
SHARE = 0.3
"""What the common prior counts for, in effects."""


def sharpened(form: Form, effects: Floats, told: Floats) -> Form:
    """Return how examples are to be written next: with spreads under which the log is likelier.

    `effects` and `told` [genres, emphasis columns] are of the training that `form` was for.
    """
    prior = form.priors.genre_cross
    spreads = np.full(effects.shape, prior) if form.genre_spreads is None else form.genre_spreads
    squares = np.square(effects) + 1 / (told + 1 / np.square(spreads))
    found = np.sqrt((squares + SHARE * prior**2) / (1 + SHARE))
    return msgspec.structs.replace(form, genre_spreads=found.round(5))


def beside_common_prior(form: Form, told: Information) -> Information:
    """Return what rows and the crosses' own priors tell beyond the common prior, by which a
    training that goes on from the model knows how far each effect may move."""
    if form.genre_spreads is None:
        return told
    own = 1 / np.square(form.genre_spreads) - 1 / form.priors.genre_cross**2
    return replace(told, genre_cross=told.genre_cross + own)
