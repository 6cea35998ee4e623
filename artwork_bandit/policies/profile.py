"""A member's profile: genre weights that halve with time, and the titles watched last.

    weight[g] at t = sum over events i of gain_i * 2^(-(t - t_i) / half-life)

An event older than the profile's date is discounted to that date before it is added, and of the
titles watched those of the latest moments are kept, each with its latest play. Both are the same in
whatever order events come, up to rounding: a title can only be dropped for later ones, and only
return by a later play of its own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from artwork_bandit.domain import Event, EventType, microseconds

GAINS: Mapping[EventType, float] = {
    EventType.IMPRESSION: -0.01,
    EventType.CLICK: 0.11,
    EventType.PLAY: 1.0,
    EventType.PAUSE: 0.02,
    EventType.REWATCH: 1.0,
    EventType.ABANDON: -0.5,
    EventType.SEARCH: 0.5,
    EventType.THUMBS_UP: 1.0,
    EventType.THUMBS_DOWN: -1.0,
}
"""Plays that an event adds to each genre of its title. What was shown and not clicked says a
hundredth of a play against it; who pauses has at least begun; who searches for a title wants it."""

MOST_PLAYED = 50
"""Titles watched last that are remembered."""
LEAST_SHARE = 0.01
"""A decayed watched share below this is not told any more."""
NEGLIGIBLE = 1e-12
"""Weights smaller than this are dropped, so that profiles do not grow for ever."""

Play = tuple[int, float]
"""Moment, microseconds since 1970 UTC, and watched share, in (0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What one event says about its member's taste."""

    moment: dt.datetime
    genres: Mapping[str, float] = field(default_factory=dict)
    """Gain per genre, in plays."""
    played: Mapping[str, float] = field(default_factory=dict)
    """Title -> watched share, for a play."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Decayed viewing weight per genre, and titles watched."""

    as_of: dt.datetime | None = None
    """The date the weights are discounted to; None for an empty profile."""
    genres: Mapping[str, float] = field(default_factory=dict)
    played: Mapping[str, Play] = field(default_factory=dict)
    """Title -> its latest play, of the titles watched last."""

    def at(self, moment: dt.datetime, half_life: dt.timedelta) -> Mapping[str, float]:
        """Return the weights discounted to `moment` (not grown, if it is earlier)."""
        if self.as_of is None or moment <= self.as_of:
            return self.genres
        factor = decay(moment - self.as_of, half_life)
        return {g: w * factor for g, w in self.genres.items() if abs(w * factor) > NEGLIGIBLE}

    def played_at(self, moment: dt.datetime, half_life: dt.timedelta) -> dict[str, float]:
        """Return the watched shares discounted to `moment`, to three digits, those that count."""
        now, per = microseconds(moment), half_life / dt.timedelta(microseconds=1)
        shares = {
            title: round(share * 2.0 ** (-max(now - then, 0) / per), 3)
            for title, (then, share) in self.played.items()
        }
        return {title: share for title, share in shares.items() if share >= LEAST_SHARE}

    def add(self, signs: Iterable[Sign], half_life: dt.timedelta) -> Profile:
        """Return the profile with signs added, in any order."""
        signs = list(signs)
        if not signs:
            return self
        moments = [sign.moment for sign in signs]
        as_of = max(moments if self.as_of is None else [self.as_of, *moments])
        genres = dict(self.at(as_of, half_life))
        played = dict(self.played)
        for sign in signs:
            factor = decay(as_of - sign.moment, half_life)
            for genre, gain in sign.genres.items():
                genres[genre] = genres.get(genre, 0.0) + gain * factor
            for title, share in sign.played.items():
                play = (microseconds(sign.moment), share)
                played[title] = max(play, played.get(title, play))
        return Profile(as_of=as_of, genres=genres, played=_latest(played))

    def merged(self, other: Profile, half_life: dt.timedelta) -> Profile:
        """Return what both say together: as if all signs had come to one."""
        if self.as_of is None or other.as_of is None:
            return self if other.as_of is None else other
        as_of = max(self.as_of, other.as_of)
        genres, more = dict(self.at(as_of, half_life)), other.at(as_of, half_life)
        for genre, weight in more.items():
            genres[genre] = genres.get(genre, 0.0) + weight
        played = dict(self.played)
        for title, play in other.played.items():
            played[title] = max(play, played.get(title, play))
        return Profile(as_of=as_of, genres=genres, played=_latest(played))


def sign_of(event: Event, genres: Iterable[str]) -> Sign | None:
    """Return what an event says, its title having these genres; None if it says nothing.

    A play whose watched share is known counts by that share.
    """
    gain = GAINS.get(event.type, 0.0)
    played: dict[str, float] = {}
    if event.type in (EventType.PLAY, EventType.REWATCH):
        share = 1.0
        if event.seconds_watched is not None and event.duration_seconds:
            share = min(1.0, event.seconds_watched / event.duration_seconds)
        gain *= share
        if event.title_id and share > 0:
            played = {event.title_id: share}
    gains = dict.fromkeys(genres, gain) if gain else {}
    if not gains and not played:
        return None
    return Sign(moment=event.occurred_at, genres=gains, played=played)


def decay(age: dt.timedelta, half_life: dt.timedelta) -> float:
    """Return 2^(-age / half-life), in (0, 1] for ages >= 0."""
    return float(2.0 ** (-(age / half_life)))


def _latest(played: dict[str, Play]) -> dict[str, Play]:
    if len(played) <= MOST_PLAYED:
        return played
    kept = sorted(played.items(), key=lambda p: (-p[1][0], p[0]))[:MOST_PLAYED]
    return dict(kept)
