"""From scores to probabilities: closed forms over a page, and the additive floor.

Each form takes flat scores (larger is better) and `offsets`, and returns a flat pmf; the floor is
applied last and the same for all:

    pmf = floor + (1 - n floor) form,    floor = explored share / n

It is additive, never clip-and-renormalise, so that a variant's propensity is known in closed
form; as a total share it means the same for 3 variants and for 40.

References: epsilon-greedy and softmax, Sutton and Barto (2018), ch. 2; SquareCB / inverse gap
weighting, Foster and Rakhlin (2020), "Beyond UCB", arXiv:2002.04926.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies import ragged

Form = Literal["greedy", "softmax", "squarecb"]
FORMS: tuple[Form, ...] = ("greedy", "softmax", "squarecb")

STRENGTHS = (1.0, 1e9)
HALVINGS = 40
SCORE_GRID = 2.0**20
"""Scores are rounded to multiples of 1/SCORE_GRID, so that a page and a single title, whose
matrix products may differ in the last bit, give the same answer."""


def likeliest(pmf: Floats, is_default: npt.NDArray[np.bool_]) -> int:
    """Return the place of the likeliest variant of a title, the default where several are."""
    best = np.flatnonzero(pmf == pmf.max())
    defaults = best[is_default[best]]
    return int(defaults[0] if len(defaults) else best[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """How a policy turns scores into a pmf; part of a model's bundle."""

    form: Form
    strength: float
    """softmax: inverse temperature; squarecb: gamma; unused by greedy (epsilon is the share)."""
    explored_share: float
    """Total probability spread evenly over the eligible variants, in (0, 1]."""

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InvalidInput(f"exploration is {self.form!r}; it must be one of {FORMS}")
        if not 0 < self.explored_share <= 1:
            raise InvalidInput(f"explored share is {self.explored_share}; it must be in (0, 1]")
        if not 0 <= self.strength < float("inf"):
            raise InvalidInput(f"exploration strength is {self.strength}; it must be >= 0")

    def pmf(self, scores: Floats, offsets: Ints) -> Floats:
        """Return the flat pmf; every entry is at least `explored_share / n`.

        Raises ArithmeticError for scores that are not finite.
        """
        if not np.all(np.isfinite(scores)):
            raise ArithmeticError("a score is not finite")
        scores = np.round(scores * SCORE_GRID) / SCORE_GRID
        weights = weigh(self.form, scores, offsets, self.strength)
        return with_floor(weights, offsets, self.explored_share)


def weigh(form: Form, scores: Floats, offsets: Ints, strength: float) -> Floats:
    """Return the flat pmf of a form, before the floor."""
    match form:
        case "greedy":
            return greedy(scores, offsets)
        case "softmax":
            return softmax(scores, offsets, strength)
        case "squarecb":
            return squarecb(scores, offsets, strength)


def strength_that_costs(share: float, form: Form, scores: Floats, offsets: Ints) -> float:
    """Return the strength at which exploring, before the floor, costs so much of what the best
    scores are over the mean ones.

    `share` is in (0, 1); the answer lies in STRENGTHS, whose ends stand for what lies beyond.
    """
    best = ragged.maximum(scores, offsets).sum()
    gain = best - (scores * uniform(offsets)).sum()

    def cost(log_strength: float) -> float:
        pmf = weigh(form, scores, offsets, math.exp(log_strength))
        return float(best - (scores * pmf).sum() - share * gain)

    weakest, strongest = map(math.log, STRENGTHS)
    for _ in range(HALVINGS):
        middle = (weakest + strongest) / 2
        if cost(middle) > 0:
            weakest = middle
        else:
            strongest = middle
    return math.exp(strongest)


def uniform(offsets: Ints) -> Floats:
    """Return the same probability for each variant of a decision."""
    return ragged.spread(1.0 / ragged.sizes(offsets), offsets)


def greedy(scores: Floats, offsets: Ints) -> Floats:
    """Return probability 1 on the best variant, the first one among equals."""
    pmf = np.zeros(len(scores))
    pmf[ragged.first_maximum(scores, offsets)] = 1.0
    return pmf


def softmax(scores: Floats, offsets: Ints, inverse_temperature: float) -> Floats:
    """Return probabilities proportional to exp(inverse_temperature * score)."""
    best = ragged.spread(ragged.maximum(scores, offsets), offsets)
    weights = np.exp(inverse_temperature * (scores - best))
    return weights / ragged.spread(ragged.total(weights, offsets), offsets)


def squarecb(scores: Floats, offsets: Ints, gamma: float) -> Floats:
    """Return inverse-gap weights: 1 / (n + gamma * gap) off the best, the rest on the best."""
    best_at = ragged.first_maximum(scores, offsets)
    gap = ragged.spread(scores[best_at], offsets) - scores
    pmf = 1.0 / (ragged.spread(ragged.sizes(offsets).astype(float), offsets) + gamma * gap)
    pmf[best_at] = 0.0
    pmf[best_at] = 1.0 - ragged.total(pmf, offsets)
    return pmf


def with_floor(weights: Floats, offsets: Ints, share: float) -> Floats:
    """Return `weights` with `share` of the probability spread evenly within each decision."""
    return share * uniform(offsets) + (1.0 - share) * weights


def check(pmf: Floats, offsets: Ints, floor_share: float = 0.0) -> None:
    """Raise ArithmeticError unless the pmf is finite, sums to 1 and keeps its floor.

    Called before every draw: a log that could lie is worse than a fallback.
    """
    sums = ragged.total(pmf, offsets)
    if not np.all(np.isfinite(pmf)) or np.any(np.abs(sums - 1.0) > 1e-9):
        raise ArithmeticError("a pmf is not finite or does not sum to 1")
    floor = floor_share / ragged.spread(ragged.sizes(offsets).astype(float), offsets)
    if np.any(pmf < floor * (1 - 1e-9)) or np.any(pmf > 1 + 1e-9):
        raise ArithmeticError("a pmf has an entry below its floor or above 1")
