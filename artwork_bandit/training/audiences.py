"""Learning similar audiences from the log's members: taste factors and communities.

Half of the factors are principal directions of the genre log-lifts. The others are what members
watched beyond what their genres say: the leading directions of the titles' shares, divided by the
root of the title's mean share (as in correspondence analysis, so that what everybody watched tells
least), after a least-squares fit on the genres is taken off. All are scaled to a standard deviation
of 1 over members; k-means in their space gives the communities (scikit-learn does both).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from artwork_bandit.domain import Context, Floats
from artwork_bandit.policies.audiences import Audiences, BoundAudiences, title_shares
from artwork_bandit.policies.encoding import ContextEncoder

GENRE_FACTORS, TITLE_FACTORS = 4, 4
COMMUNITIES = 8
MOST_TITLES = 2_000
FEWEST_WATCHERS = 5
"""A title that fewer members watched says nothing about who is alike."""
FEWEST_MEMBERS, MOST_MEMBERS = 50, 10_000
SMALLEST_SPREAD = 1e-6


def learn(contexts: Sequence[Context], encoder: ContextEncoder, seed: int) -> Audiences | None:
    """Return audiences from one context per member; None if there are too few to tell.

    `encoder` gives the genre columns.
    """
    told = [c for c in contexts if c.genres or c.played][-MOST_MEMBERS:]
    if len(told) < FEWEST_MEMBERS:
        return None
    # scikit-learn takes a second to import, and only training needs it.
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    lifts = encoder.encode(told)[:, : len(encoder.genres)]
    row = _titles(told)
    shares = np.zeros((len(told), len(row)))
    for member, context in zip(shares, told, strict=True):
        at, share = title_shares(context.played, row)
        member[at] = share
    with threadpool_limits(1):  # sums in one order: the same log gives the same bytes
        of_genres, of_titles = _directions(lifts, shares, seed)
        made = lifts @ of_genres + shares @ of_titles
        spread = made.std(axis=0)
        kept = spread > SMALLEST_SPREAD
        if not kept.any():
            return None
        of_genres, of_titles = (
            np.round(d[:, kept] / spread[kept], 6) for d in (of_genres, of_titles)
        )
        plain = Audiences(
            genres=of_genres.tolist(),
            titles={title: of_titles[i].tolist() for title, i in row.items()},
            center=np.round((made.mean(axis=0) / np.where(kept, spread, 1))[kept], 6).tolist(),
            communities=[],
        )
        factors = BoundAudiences(plain).encode(lifts, [c.played for c in told])
        groups = min(COMMUNITIES, len(np.unique(factors, axis=0)))
        found = KMeans(groups, n_init=4, random_state=seed).fit(factors)
    return msgspec.structs.replace(plain, communities=np.round(found.cluster_centers_, 6).tolist())


def _directions(lifts: Floats, shares: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return what each genre column [genres, k] and each title [titles, k] adds to each factor."""
    from sklearn.utils.extmath import randomized_svd

    known = np.concatenate([np.ones((len(lifts), 1)), lifts], axis=1)
    k_genres = min(GENRE_FACTORS, lifts.shape[1])
    k_titles = min(TITLE_FACTORS, shares.shape[1])
    of_genres = np.zeros((lifts.shape[1], k_genres + k_titles))
    of_titles = np.zeros((shares.shape[1], k_genres + k_titles))
    if k_genres:
        centered = lifts - lifts.mean(axis=0)
        _, _, right = randomized_svd(centered, k_genres, random_state=seed)
        of_genres[:, :k_genres] = right.T
    if k_titles:
        scale = 1.0 / np.sqrt(shares.mean(axis=0))
        fitted = np.linalg.lstsq(known, shares, rcond=None)[0]
        beyond = (shares - known @ fitted) * scale
        _, _, right = randomized_svd(beyond, k_titles, random_state=seed)
        of_titles[:, k_genres:] = scale[:, None] * right.T
        of_genres[:, k_genres:] = -fitted[1:] @ of_titles[:, k_genres:]
    return of_genres, of_titles


def _titles(contexts: Sequence[Context]) -> dict[str, int]:
    """Return the most watched titles, numbered."""
    seen = Counter(t for c in contexts for t, weight in c.played.items() if weight > 0)
    common = sorted(seen.items(), key=lambda s: (-s[1], s[0]))[:MOST_TITLES]
    return {title: i for i, (title, n) in enumerate(common) if n >= FEWEST_WATCHERS}
