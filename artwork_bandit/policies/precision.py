"""How surely a model knows its effects, so that another training can go on from it.

The posterior of a logistic regression, with normal priors of standard deviation s, is taken as
normal about its maximum (Laplace), each effect by itself (the diagonal of the Hessian; Chapelle and
Li 2011, algorithm 3):

    1 / variance = 1 / s^2 + information,   information = sum over rows of  weight p (1 - p) x^2

with p the title's own mean reward and x what the effect is multiplied with in that row. As rows
grow older, their information fades with their weight, and effects fall back towards 0 as far as
nothing else says where they are:

    effect' = d R / (1/s^2 + d information) x effect,    R = 1/s^2 + information,  d = 2^-half-lives
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import msgspec
import numpy as np

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.policies.priors import Priors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Information:
    """What rows tell of each effect, per unit of its feature, in 1 / logits^2."""

    variant: Floats
    """[described variant columns]."""
    own: Floats
    """[variants], by number."""
    affinity: Floats
    """[kinds of affinity]."""
    cross: Floats
    """[crossed context columns, described variant columns]."""
    watched: Floats
    """[described variant columns], of a title watched to the end."""
    own_cross: Floats
    """[variants, taste factors]."""
    own_genre: Floats
    """[variants]: mean over the genres that a variant may emphasise; 0 where a tag tells."""
    genre_cross: Floats
    """[genres, emphasis columns]; empty unless they are crossed."""

    def __add__(self, other: Information) -> Information:
        return Information(**{n: getattr(self, n) + getattr(other, n) for n in NAMES})

    def aged(self, share: float) -> Information:
        """Return what is left when every row weighs that share of what it did."""
        return Information(**{name: share * getattr(self, name) for name in NAMES})

    def renumbered(self, numbers: Ints, variants: int) -> Information:
        """Return it for that many variants; `numbers` are the new ones of those known so far."""
        known = {name: getattr(self, name) for name in NAMES}
        for name in OWN:
            before = known[name]
            known[name] = np.zeros((variants, *before.shape[1:]))
            known[name][numbers] = before
        return Information(**known)


NAMES = tuple(f.name for f in fields(Information))
OWN = ("own", "own_cross", "own_genre")
"""What is told of each variant."""


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """An array in a model's bytes."""

    shape: list[int]
    data: bytes

    @staticmethod
    def of(array: Floats) -> Stored:
        return Stored(list(array.shape), array.astype("<f4").tobytes())

    def array(self) -> Floats:
        return np.frombuffer(self.data, "<f4").reshape(self.shape).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spreads:
    """Posterior standard deviations, as values that features are multiplied with: what is known
    well moves little. Those of crosses are products of one of each side."""

    variant: Floats
    own: Floats
    """By a variant's number."""
    affinity: Floats
    crossed: Floats
    """Of crossed context columns that are no taste factors."""
    watched: float
    crossed_by: Floats
    """Of variant columns, crossed with such context columns or the title watched."""
    tastes: Floats
    """Of taste factors, crossed with what variants show."""
    tastes_by: Floats
    """Of variant columns, crossed with taste factors."""
    factors: Floats
    """Of taste factors, crossed with variants."""
    factors_by: Floats
    """Of variants, by number."""
    own_genre: Floats
    """Of each of a variant's genres, by the variant's number."""
    genres: Floats
    genres_by: Floats
    """Of emphasis columns."""

    @staticmethod
    def of(
        priors: Priors, known: Information, cross: Floats, own_cross: Floats, tastes: Ints,
        shown: Ints,
    ) -> Spreads:  # fmt: skip
        """Return them for `cross`, the priors' [crossed context columns, described variant
        columns], of which `tastes` are factors and `shown` what those are crossed with; `own_cross`
        [factors] are the priors' of those on each variant."""
        crosses = spread(cross, known.cross)
        tables = [np.delete(crosses, tastes, axis=0)] if priors.cross else []
        tables += [spread(priors.watched, known.watched)[None]] if priors.watched else []
        rows, crossed_by = as_product(np.vstack([*tables, np.empty((0, len(known.variant)))]))
        of_tastes, tastes_by = as_product(crosses[np.ix_(tastes, shown)])
        factors_by, factors = as_product(spread(own_cross, known.own_cross))
        genres, genres_by = as_product(spread(priors.genre_cross, known.genre_cross))
        plain = len(crosses) - len(tastes)
        return Spreads(
            variant=spread(priors.variant, known.variant), own=spread(priors.own, known.own),
            affinity=spread(priors.affinity, known.affinity),
            crossed=rows[:plain] if priors.cross else np.zeros(plain),
            watched=float(rows[-1]) if priors.watched else 0.0,
            crossed_by=crossed_by, tastes=of_tastes, tastes_by=tastes_by, factors=factors,
            factors_by=factors_by, own_genre=spread(priors.own_genre, known.own_genre),
            genres=genres, genres_by=genres_by,
        )  # fmt: skip


def spread(prior: float | Floats, information: Floats) -> Floats:
    """Return the posterior standard deviations of effects whose prior's is `prior`."""
    found: Floats = prior / np.sqrt(1.0 + np.square(prior) * information)
    return found


def kept(prior: float | Floats, information: Floats, share: float) -> Floats:
    """Return what effects are to be multiplied with when `information` has aged to `share`."""
    # Times the prior's variance above and below the line, as it may be 0.
    told = np.square(prior) * information
    found: Floats = share * (1 + told) / (1 + share * told)
    return found


def as_product(spreads: Floats) -> tuple[Floats, Floats]:
    """Return (of rows, of columns) whose products are nearest to a table, in logarithms.

    >>> rows, columns = as_product(np.array([[1.0, 2.0], [3.0, 6.0]]))
    >>> np.outer(rows, columns).round(6).tolist()
    [[1.0, 2.0], [3.0, 6.0]]
    """
    if not spreads.size or not spreads.all():
        return np.zeros(spreads.shape[0]), np.zeros(spreads.shape[1])
    logs = np.log(spreads)
    middle = logs.mean() / 2
    return np.exp(logs.mean(axis=1) - middle), np.exp(logs.mean(axis=0) - middle)
