"""Similar audiences: what a member's history says beyond genre tags, in a few numbers.

A member's taste factors are a linear map of the genre log-lifts and of the shares of the titles
watched last, learned from the log's members (`training.audiences`) and shipped with the model:

    factors = lifts . genres + sum_t  w_t / (W + k) . titles[t] - center,    k = 2

with w_t the decayed watched share of title t and W their sum, so that a member without history is
near the center. A community is the nearest of a few centroids in the space of the factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.policies.flattened import Flattened, flatten

PRIOR_TITLES = 2.0
"""k: watched titles of an average member that the shares are shrunk towards."""
FARTHEST = 4.0
"""Factors are cut here, in standard deviations of the members they were learned from."""


class Audiences(msgspec.Struct, frozen=True):
    """Taste factors and communities."""

    genres: list[list[float]]
    """[genre columns, k]."""
    titles: dict[str, list[float]]
    """Title -> its direction, k."""
    center: list[float]
    """k."""
    communities: list[list[float]]
    """[communities, k], centroids."""

    @property
    def columns(self) -> list[str]:
        factors = [f"factor:{i}" for i in range(len(self.center))]
        return factors + [f"community:{i}" for i in range(len(self.communities))]

    @property
    def title_factors(self) -> list[int]:
        """The factors that titles watched have a part in; the others are of genres alone."""
        titles = np.array(list(self.titles.values()), np.float64).reshape(-1, len(self.center))
        found: list[int] = np.flatnonzero(titles.any(axis=0)).tolist()
        return found


class BoundAudiences:
    """Audiences with what they look up made ready once."""

    def __init__(self, audiences: Audiences) -> None:
        k = len(audiences.center)
        self.factors = k
        self._genres = np.array(audiences.genres, np.float64).reshape(-1, k)
        self._row = {title: i for i, title in enumerate(audiences.titles)}
        self._titles = np.array(list(audiences.titles.values()), np.float64).reshape(-1, k)
        self._center = np.array(audiences.center)
        self._communities = np.array(audiences.communities, np.float64).reshape(-1, k)
        self._norms = (self._communities**2).sum(axis=1)

    def encode(self, lifts: Floats, played: Sequence[Mapping[str, float]]) -> Floats:
        """Return [n, k + communities] of n members' log-lifts [n, genres] and titles watched."""
        factors = lifts @ self._genres - self._center
        watched = title_shares(played, self._row)
        for factor, title in zip(factors.T, self._titles.T, strict=True):
            # Summed in the order of the titles, however many members there are.
            factor += np.bincount(watched.rows, watched.values * title[watched.numbers], len(lifts))
        factors = np.clip(factors, -FARTHEST, FARTHEST)
        members = np.zeros((len(lifts), len(self._communities)))
        if len(self._communities):
            members[np.arange(len(lifts)), self.nearest(factors)] = 1.0
        return np.concatenate([factors, members], axis=1)

    def nearest(self, factors: Floats) -> Ints:
        """Return each member's community."""
        distance = self._norms - 2 * factors @ self._communities.T
        found: Ints = distance.argmin(axis=1)
        return found


def title_shares(played: Sequence[Mapping[str, float]], numbers: Mapping[str, int]) -> Flattened:
    """Return the shrunken shares of the numbered titles that members watched."""
    watched = flatten(played, numbers)
    total = np.bincount(watched.rows, watched.values, len(played)) + PRIOR_TITLES
    return watched._replace(values=watched.values / total[watched.rows]).numbered
