"""Simulated members with known tastes, and what they do when shown a variant.

Response model (strength beta on "this variant emphasises a genre this member likes"):

    logit P(quality play) = base[title] + quality[variant] + composition effect
                            + beta x log-lift of the member's share of the emphasised genre
                            + hidden[member] x loading[variant]

with log-lift = log(member's share / audience's share), shares smoothed. What the service is told
of a member is viewing events only; the true tastes stay here.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Event, EventType, Floats, Title, Variant

SMOOTHING = 0.05
"""Share of the audience's tastes mixed into each member's before the log-lift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSettings:
    """How strong each effect is, in logits."""

    base: float = -2.5
    base_sd: float = 0.5
    quality_sd: float = 0.13
    """Between variants of a title, whoever looks."""
    composition_sd: float = 0.1
    beta: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hidden:
    """What the tags do not say: the genres that variants really emphasise, and a taste that only
    members' histories reveal."""

    emphasis: Mapping[str, str]
    """Variant id -> genre."""
    members: Floats
    """Per member, in the order of the tastes."""
    loadings: Floats
    """Per variant, logits per unit of it."""


class World:
    """Members, variants and the probability that the one leads to a play by the other."""

    def __init__(
        self, variants: Sequence[Variant], tastes: Mapping[str, Mapping[str, float]],
        settings: WorldSettings, rng: np.random.Generator, hidden: Hidden | None = None,
    ) -> None:  # fmt: skip
        """`tastes`: member id -> genre -> share or weight, >= 0."""
        self.members = list(tastes)
        self.row_of = {v.variant_id: i for i, v in enumerate(variants)}
        self.title_of = [v.title_id for v in variants]
        shown = [_genre(v) if hidden is None else hidden.emphasis[v.variant_id] for v in variants]
        genres = sorted({g for t in tastes.values() for g in t} | set(shown))
        self.log_lift = _log_lift(tastes, genres)
        column = {genre: i for i, genre in enumerate(genres)}
        self._emphasis = np.array([column[genre] for genre in shown])
        titles = {
            t: rng.normal(settings.base, settings.base_sd) for t in sorted(set(self.title_of))
        }
        compositions = sorted({str(v.features.get("composition")) for v in variants})
        self._effects = np.array([rng.normal(0, settings.composition_sd) for _ in compositions])
        at = {composition: i for i, composition in enumerate(compositions)}
        self._composition = np.array([at[str(v.features.get("composition"))] for v in variants])
        self._own = np.array(
            [titles[v.title_id] + rng.normal(0, settings.quality_sd) for v in variants]
        )
        self._beta = settings.beta
        self._hidden = np.zeros(len(self.members)) if hidden is None else hidden.members
        self._loading = np.zeros(len(variants)) if hidden is None else hidden.loadings

    def probabilities(self, member: int, rows: Sequence[int]) -> Floats:
        """Return the probability of a quality play for variants (rows) shown to a member."""
        at = np.asarray(rows, np.int64)
        logit = self._own[at] + self._effects[self._composition[at]]
        logit += self._beta * self.log_lift[member][self._emphasis[at]]
        logit += self._hidden[member] * self._loading[at]
        found: Floats = 1.0 / (1.0 + np.exp(-logit))
        return found

    def swapped(self, rng: np.random.Generator) -> World:
        """Return a world where genres, and compositions, have swapped what they do; tastes, titles
        and what is special about each variant stay."""
        other = copy.copy(self)
        genres = rng.permutation(self.log_lift.shape[1])
        now = np.empty_like(genres)
        now[genres] = np.roll(genres, 1)  # no genre keeps its own
        other._emphasis = now[self._emphasis]
        other._effects = np.roll(self._effects, 1)
        return other


def _log_lift(tastes: Mapping[str, Mapping[str, float]], genres: Sequence[str]) -> Floats:
    """Return [members, genres]."""
    weights = np.array([[t.get(g, 0.0) for g in genres] for t in tastes.values()])
    shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    audience = shares.mean(axis=0) + 1e-4
    audience /= audience.sum()
    lift: Floats = np.log((1 - SMOOTHING) * shares / audience + SMOOTHING)
    return lift


def _genre(variant: Variant) -> str:
    return str(variant.features["genre"])


def invent_tastes(
    titles: Sequence[Title], members: int, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Return members who each love a few of the titles' genres."""
    genres = sorted({g for t in titles for g in t.genres})
    shares = rng.dirichlet(np.full(len(genres), 0.15), members)
    return {
        f"member-{i + 1:05d}": dict(zip(genres, row.tolist(), strict=True))
        for i, row in enumerate(shares)
    }


def invent_history(
    titles: Sequence[Title], tastes: Mapping[str, Mapping[str, float]], plays: int,
    now: dt.datetime, rng: np.random.Generator,
) -> list[Event]:  # fmt: skip
    """Return what members watched before: titles drawn by how much they like their genres."""
    genres = sorted({g for t in titles for g in t.genres})
    tagged = np.array([[g in t.genres for g in genres] for t in titles], float)
    tagged /= tagged.sum(axis=1, keepdims=True)
    events = []
    for member, taste in tastes.items():
        liked = tagged @ np.array([taste.get(g, 0.0) for g in genres])
        watched = rng.choice(len(titles), plays, p=liked / liked.sum())
        ages = rng.random(plays) * 60
        for i, (row, age) in enumerate(zip(watched.tolist(), ages.tolist(), strict=True)):
            duration = titles[row].duration_seconds or 2700.0
            events.append(
                Event(
                    event_id=f"before:{member}:{i}",
                    type=EventType.PLAY,
                    occurred_at=now - dt.timedelta(days=age),
                    member_id=member,
                    title_id=titles[row].title_id,
                    seconds_watched=duration,
                    duration_seconds=duration,
                    source="history",
                    unjoined="history",
                )
            )
    return events
