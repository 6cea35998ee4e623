"""Learning similar audiences from the log's members: taste factors and communities.

Half of the factors are principal directions of the genre log-lifts. The others are what members
watched beyond what their genres say: the leading directions of the titles' shares, divided by the
fourth root of the title's mean share (halfway to correspondence analysis, where what everybody
watched tells least and titles that a handful watched make directions of their own), after a
least-squares fit on the genres is taken off. All are scaled to a standard deviation of 1 over
members; k-means in their space gives the communities. scipy does all of it: it is there anyway, and
loads in a third of the time that scikit-learn takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from artwork_bandit.domain import Context, Floats
from artwork_bandit.policies.audiences import FARTHEST, Audiences, title_shares
from artwork_bandit.policies.encoding import ContextEncoder
from artwork_bandit.policies.flattened import UNNUMBERED, Flattened

if TYPE_CHECKING:
    from scipy.sparse import csr_array

GENRE_FACTORS, TITLE_FACTORS = 4, 4
SCALED = 0.25
"""Power of a title's mean share that its shares are divided by."""
COMMUNITIES, RUNS = 8, 4
MOST_TITLES = 2_000
FEWEST_WATCHERS = 5
"""A title that fewer members watched says nothing about who is alike."""
FEWEST_MEMBERS = 50
SMALLEST_SPREAD = 1e-6
FEWEST_ITERATED = 200
"""Columns of a table from which on its leading directions are found without all others."""


def learn(contexts: Sequence[Context], encoder: ContextEncoder, seed: int) -> Audiences | None:
    """Return audiences from one context per member; None if there are too few to tell.

    `encoder` gives the genre columns.
    """
    told = [c for c in contexts if c.genres or c.played]
    if len(told) < FEWEST_MEMBERS:
        return None
    # Only training needs these.
    from scipy.sparse import csr_array
    from threadpoolctl import threadpool_limits

    lifts = encoder.encode(told)[:, : len(encoder.genres)]
    titles, watched = _watched(told)
    shares = csr_array((watched.values, (watched.rows, watched.numbers)), (len(told), len(titles)))
    with threadpool_limits(1):  # sums in one order: the same log gives the same bytes
        of_genres, of_titles = _directions(lifts, shares)
        spread = (lifts @ of_genres + shares @ of_titles).std(axis=0)
        kept = spread > SMALLEST_SPREAD
        if not kept.any():
            return None
        of_genres, of_titles = (
            np.round(d[:, kept] / spread[kept], 6) for d in (of_genres, of_titles)
        )
        factors = lifts @ of_genres + shares @ of_titles
        center = np.round(factors.mean(axis=0), 6)
        communities = _centroids(np.clip(factors - center, -FARTHEST, FARTHEST), seed)
    return Audiences(
        genres=of_genres.tolist(),
        titles={title: of_titles[i].tolist() for i, title in enumerate(titles)},
        center=center.tolist(),
        communities=np.round(communities, 6).tolist(),
    )


def _directions(lifts: Floats, shares: csr_array) -> tuple[Floats, Floats]:
    """Return what each genre column [genres, k] and each title [titles, k] adds to each factor."""
    known = np.concatenate([np.ones((len(lifts), 1)), lifts], axis=1)
    k_genres = min(GENRE_FACTORS, lifts.shape[1])
    k_titles = min(TITLE_FACTORS, shares.shape[1])
    of_genres = np.zeros((lifts.shape[1], k_genres + k_titles))
    of_titles = np.zeros((shares.shape[1], k_genres + k_titles))
    if k_genres:
        centered = lifts - lifts.mean(axis=0)
        gram = centered.T @ centered
        of_genres[:, :k_genres] = _leading(lambda d: gram @ d, len(gram), k_genres)
    if k_titles:
        scale = shares.mean(axis=0) ** -SCALED
        onto = shares.T @ known
        fitted = np.linalg.pinv(known.T @ known, hermitian=True) @ onto.T

        def beyond(directions: Floats) -> Floats:
            # Of what the fit leaves, which is at right angles to what is known.
            scaled = scale[:, None] * directions
            left: Floats = shares.T @ (shares @ scaled) - onto @ (fitted @ scaled)
            left *= scale[:, None]
            return left

        directions = _leading(beyond, len(scale), k_titles)
        of_titles[:, k_genres:] = scale[:, None] * directions
        of_genres[:, k_genres:] = -fitted[1:] @ of_titles[:, k_genres:]
    return of_genres, of_titles


def _leading(times: Callable[[Floats], Floats], n: int, k: int) -> Floats:
    """Return the k leading directions [n, k] of a table of n columns, each with its largest part
    above 0; `times` multiplies the products of its columns [n, n] with directions [n, m]."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    found: Floats | None = None
    if n >= FEWEST_ITERATED:
        start = np.random.default_rng(1).normal(size=n)  # the same directions every time
        products = LinearOperator((n, n), lambda x: times(x.reshape(n, 1)), dtype=np.float64)
        with suppress(ArpackError):
            values, directions = eigsh(products, k, v0=start)
            found = directions[:, np.argsort(values)[::-1]]
    if found is None:
        found = eigh(times(np.eye(n)), subset_by_index=(n - k, n - 1))[1][:, ::-1]
    largest = np.abs(found).argmax(axis=0)
    signed: Floats = found * np.sign(found[largest, np.arange(k)])
    return signed


def _centroids(factors: Floats, seed: int) -> Floats:
    """Return the centers of communities: the best of some runs of k-means, of fewer communities
    where every run leaves one empty."""
    from scipy.cluster.vq import ClusterError, kmeans2

    groups = min(COMMUNITIES, len(np.unique(factors, axis=0)))
    rng = np.random.default_rng(seed)
    runs: list[tuple[float, Floats]] = []
    while not runs:
        for _ in range(RUNS):
            with suppress(ClusterError):
                centers, of = kmeans2(factors, groups, 50, minit="++", missing="raise", seed=rng)
                runs.append((float(((factors - centers[of]) ** 2).sum()), centers))
        groups -= 1
    return min(runs, key=lambda run: run[0])[1]


def _watched(contexts: Sequence[Context]) -> tuple[list[str], Flattened]:
    """Return the titles that most members watched, and the shares of what each watched."""
    played = [c.played for c in contexts]
    names = sorted(set(chain.from_iterable(played)))
    shares = title_shares(played, {title: i for i, title in enumerate(names)})
    watchers = np.bincount(shares.numbers, minlength=len(names))
    common = np.argsort(-watchers, kind="stable")[:MOST_TITLES]
    common = common[watchers[common] >= FEWEST_WATCHERS]
    place = np.full(len(names), UNNUMBERED)
    place[common] = np.arange(len(common))
    return [names[i] for i in common.tolist()], shares._replace(
        numbers=place[shares.numbers]
    ).numbered
