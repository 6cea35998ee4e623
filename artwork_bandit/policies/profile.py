"""A member's genre profile: viewing weights that halve with time.

    weight[g] at t = sum over events i of gain_i * 2^(-(t - t_i) / half-life)

An event older than the profile's date is discounted to that date before it is added, so the same
events give the same profile in any order, up to rounding.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from artwork_bandit.domain import Event, EventType

GAINS: Mapping[EventType, float] = {
    EventType.CLICK: 0.1,
    EventType.PLAY: 1.0,
    EventType.REWATCH: 1.0,
    EventType.THUMBS_UP: 1.0,
    EventType.THUMBS_DOWN: -1.0,
    EventType.ABANDON: -0.5,
}
"""Plays that an event adds to each genre of its title; other types add none."""

NEGLIGIBLE = 1e-6
"""Weights smaller than this are dropped, so that profiles do not grow for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Decayed viewing weight per genre."""

    as_of: dt.datetime | None = None
    """The date the weights are discounted to; None for an empty profile."""
    genres: Mapping[str, float] = field(default_factory=dict)

    def at(self, moment: dt.datetime, half_life: dt.timedelta) -> Mapping[str, float]:
        """Return the weights discounted to `moment` (not grown, if it is earlier)."""
        if self.as_of is None or moment <= self.as_of:
            return self.genres
        factor = decay(moment - self.as_of, half_life)
        return {g: w * factor for g, w in self.genres.items() if abs(w * factor) > NEGLIGIBLE}

    def add(
        self, gains: Iterable[tuple[dt.datetime, Mapping[str, float]]], half_life: dt.timedelta
    ) -> Profile:
        """Return the profile with (moment, gain per genre) pairs added, in any order."""
        gains = list(gains)
        if not gains:
            return self
        moments = [moment for moment, _ in gains]
        as_of = max(moments if self.as_of is None else [self.as_of, *moments])
        genres = dict(self.at(as_of, half_life))
        for moment, per_genre in gains:
            factor = decay(as_of - moment, half_life)
            for genre, gain in per_genre.items():
                genres[genre] = genres.get(genre, 0.0) + gain * factor
        return Profile(as_of=as_of, genres=genres)


def gains_of(event: Event, genres: Iterable[str]) -> Mapping[str, float]:
    """Return what an event adds to each genre of its title.

    A play whose watched share is known counts by that share.
    """
    gain = GAINS.get(event.type, 0.0)
    played = event.type in (EventType.PLAY, EventType.REWATCH)
    if played and event.seconds_watched is not None and event.duration_seconds:
        gain *= min(1.0, event.seconds_watched / event.duration_seconds)
    return dict.fromkeys(genres, gain) if gain else {}


def decay(age: dt.timedelta, half_life: dt.timedelta) -> float:
    """Return 2^(-age / half-life), in (0, 1] for ages >= 0."""
    return float(2.0 ** (-(age / half_life)))
