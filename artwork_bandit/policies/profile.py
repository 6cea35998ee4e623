"""A member's profile: genre weights that halve with time, those of habits, and the titles watched
last.

    weight[g] at t = sum over events i of gain_i * 2^(-(t - t_i) / half-life)

An event older than the profile's date is discounted to that date before it is added, and of the
titles watched those of the latest moments are kept, each with its latest play. Both are the same in
whatever order events come, up to rounding: a title can only be dropped for later ones, and only
return by a later play of its own; a device only for ones that are never dropped for it.

A viewing is all that one person does with one title on one day: a player may tell of it every
minute, or say at the end how long it was, and it counts once, by the event that tells of most.

Habits are the genre weights of what was watched on some occasions: on a device, in a part of the
day, on working days or at the weekend.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import NamedTuple

from artwork_bandit.domain import HOURS, SATURDAY, Event, EventType, microseconds, stable_hash

GAINS: Mapping[EventType, float] = {
    EventType.IMPRESSION: -0.01,
    EventType.CLICK: 0.11,
    EventType.PAUSE: 0.02,
    EventType.ABANDON: -0.5,
    EventType.SEARCH: 0.5,
    EventType.THUMBS_UP: 1.0,
    EventType.THUMBS_DOWN: -1.0,
}
"""Plays that an event adds to each genre of its title, besides the viewing that it tells of. What
was shown and not clicked says a hundredth of a play against it; who pauses has at least begun; who
searches for a title wants it."""
VIEWING = (EventType.PLAY, EventType.REWATCH, EventType.PAUSE, EventType.ABANDON)
"""What tells of a viewing."""

SECONDS = 1200.0
"""Watched of a title whose length nobody says, from which on it was watched to the end."""
MOST_PLAYED = 100
"""Titles watched last that are remembered."""
LOOKED_IN = 0.05
"""Watched share below which a title is not remembered as watched, unless it was abandoned there."""
LEAST_SHARE = 0.01
"""A decayed watched share below this is not told any more."""
DEVICE = "device:"
"""Begins the occasions that a client names."""
MOST_DEVICES = 16
"""Of a member that are remembered, of more those of smallest hash: which of them weigh most hangs
on the order that events come in, and sums that were dropped would be gone."""
NEGLIGIBLE = 1e-12
"""Weights smaller than this are dropped, so that profiles do not grow for ever."""

Weights = Mapping[str, float]
"""Genre -> plays."""
Play = tuple[int, float]
"""Moment, microseconds since 1970 UTC, and watched share, in (0, 1]."""


class Viewing(NamedTuple):
    """What events tell of together."""

    sender_id: str
    title_id: str
    day: int
    """UTC, counted from 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What an event, or a viewing, says about its member's taste."""

    moment: dt.datetime
    genres: Mapping[str, float] = field(default_factory=dict)
    """Gain per genre, in plays."""
    played: Mapping[str, float] = field(default_factory=dict)
    """Title -> watched share, for what tells of it."""
    occasions: tuple[str, ...] = ()
    """On which it was watched, for a viewing."""

    def taken_back(self) -> Sign:
        """Return what makes this sign unsaid."""
        unsaid = {genre: -gain for genre, gain in self.genres.items()}
        return replace(self, genres=unsaid, played={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Decayed viewing weight per genre, and titles watched."""

    as_of: dt.datetime | None = None
    """The date the weights are discounted to; None for an empty profile."""
    genres: Mapping[str, float] = field(default_factory=dict)
    played: Mapping[str, Play] = field(default_factory=dict)
    """Title -> its latest play, of the titles watched last."""
    habits: Mapping[str, Weights] = field(default_factory=dict)
    """Occasion -> decayed viewing weight per genre, discounted to the same date."""

    def at(self, moment: dt.datetime, half_life: dt.timedelta) -> Weights:
        """Return the weights discounted to `moment` (not grown, if it is earlier)."""
        return self._discounted(self.genres, moment, half_life)

    def habits_at(self, moment: dt.datetime, half_life: dt.timedelta) -> dict[str, Weights]:
        """Return the habits' weights discounted to `moment`."""
        found = {o: self._discounted(w, moment, half_life) for o, w in self.habits.items()}
        return {occasion: weights for occasion, weights in found.items() if weights}

    def on(
        self, occasions: Iterable[str], moment: dt.datetime, half_life: dt.timedelta
    ) -> Weights:  # fmt: skip
        """Return the weights of what was watched on occasions like these, to four digits."""
        there = [self.habits[o] for o in occasions if o in self.habits]
        together: Weights = reduce(_plus, there, {})
        weights = self._discounted(together, moment, half_life)
        return {genre: round(weight, 4) for genre, weight in weights.items() if weight >= 1e-4}

    def _discounted(
        self, weights: Weights, moment: dt.datetime, half_life: dt.timedelta
    ) -> Weights:  # fmt: skip
        if self.as_of is None or moment <= self.as_of:
            return weights
        factor = decay(moment - self.as_of, half_life)
        return {g: w * factor for g, w in weights.items() if abs(w * factor) > NEGLIGIBLE}

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
        genres = self.at(as_of, half_life)
        played = dict(self.played)
        habits = self.habits_at(as_of, half_life)
        for sign in signs:
            factor = decay(as_of - sign.moment, half_life)
            gains = {genre: gain * factor for genre, gain in sign.genres.items()}
            genres = _plus(genres, gains)
            habits = _together(habits, dict.fromkeys(sign.occasions, gains))
            for title, share in sign.played.items():
                play = (microseconds(sign.moment), share)
                played[title] = max(play, played.get(title, play))
        return Profile(as_of=as_of, genres=genres, played=_latest(played), habits=_bounded(habits))

    def merged(self, other: Profile, half_life: dt.timedelta) -> Profile:
        """Return what both say together: as if all signs had come to one."""
        if self.as_of is None or other.as_of is None:
            return self if other.as_of is None else other
        as_of = max(self.as_of, other.as_of)
        genres = _plus(self.at(as_of, half_life), other.at(as_of, half_life))
        habits = _together(self.habits_at(as_of, half_life), other.habits_at(as_of, half_life))
        played = dict(self.played)
        for title, play in other.played.items():
            played[title] = max(play, played.get(title, play))
        return Profile(as_of=as_of, genres=genres, played=_latest(played), habits=_bounded(habits))


def sign_of(event: Event, genres: Iterable[str]) -> Sign | None:
    """Return what an event says besides the viewing that it tells of, its title having these
    genres; None if it says nothing."""
    gain = GAINS.get(event.type, 0.0)
    gains = dict.fromkeys(genres, gain) if gain else {}
    played: dict[str, float] = {}
    share = _share(event)
    if share is None and event.type in _PLAYS:
        share = 1.0
    # Who opens a title again for a moment has watched it all the same.
    if event.title_id and share and (share >= LOOKED_IN or event.type is EventType.ABANDON):
        played = {event.title_id: share}
    if not gains and not played:
        return None
    return Sign(moment=event.occurred_at, genres=gains, played=played)


def viewing_of(event: Event) -> Viewing | None:
    """Return the viewing that an event tells of, if it does."""
    if event.type not in VIEWING or event.sender_id is None or event.title_id is None:
        return None
    return Viewing(event.sender_id, event.title_id, microseconds(event.occurred_at) // _DAY)


def signs_of_viewing(events: Sequence[Event], genres: Iterable[str]) -> list[Sign]:
    """Return what a viewing says of which these are all events: a play, by its watched share, and
    another where it was watched again.

    The share is the largest that is told; where nobody says how long the title is, of `SECONDS`.
    Where no share is told, all was watched, unless it was abandoned. Pauses, and who abandons, are
    of the play, or of the one again, that began last.
    """
    genres, found = list(genres), []
    for some in _plays(events):
        shares = [share for e in some if (share := _share(e)) is not None]
        kinds = {e.type for e in some}
        if shares:
            share = max(shares)
        else:
            share = float(not kinds.isdisjoint(_PLAYS) and EventType.ABANDON not in kinds)
        if not share or not genres:
            continue
        first = min(some, key=lambda e: (e.occurred_at, e.event_id))
        found.append(
            Sign(
                moment=max(e.occurred_at for e in some), genres=dict.fromkeys(genres, share),
                occasions=occasions(first.device, first.hour, first.weekday),
            )
        )  # fmt: skip
    return found


def _plays(events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """Return a viewing's events: of the play, and of the one again."""
    in_order = sorted(events, key=lambda e: (e.occurred_at, e.type not in _PLAYS, e.event_id))
    again = all(e.type is not EventType.PLAY for e in events) and any(
        e.type is EventType.REWATCH for e in events
    )
    found: tuple[list[Event], list[Event]] = ([], [])
    for event in in_order:
        if event.type in _PLAYS:
            again = event.type is EventType.REWATCH
        found[again].append(event)
    return found


_PLAYS = (EventType.PLAY, EventType.REWATCH)
_DAY = dt.timedelta(days=1) // dt.timedelta(microseconds=1)


def _share(event: Event) -> float | None:
    """Return the watched share that an event tells of, if it tells of any."""
    if event.type not in VIEWING or event.seconds_watched is None:
        return None
    return min(1.0, event.seconds_watched / (event.duration_seconds or SECONDS))


def occasions(device: str | None, hour: int | None, weekday: int | None) -> tuple[str, ...]:
    """Return the occasions that a moment belongs to; `hour` and `weekday` are local.

    >>> occasions("tv", 21, 5)
    ('device:tv', 'daypart:5', 'weekend')
    """
    found = [] if device is None else [f"{DEVICE}{device}"]
    if hour is not None:
        found.append(f"daypart:{hour // HOURS}")
    if weekday is not None:
        found.append("weekend" if weekday >= SATURDAY else "weekdays")
    return tuple(found)


def decay(age: dt.timedelta, half_life: dt.timedelta) -> float:
    """Return 2^(-age / half-life), in (0, 1] for ages >= 0."""
    return float(2.0 ** (-(age / half_life)))


def _plus(some: Weights, more: Weights) -> Weights:
    found = dict(some)
    for genre, weight in more.items():
        found[genre] = found.get(genre, 0.0) + weight
    return found


def _together(
    some: Mapping[str, Weights], more: Mapping[str, Weights]
) -> dict[str, Weights]:  # fmt: skip
    return {**some, **{o: _plus(some.get(o, {}), weights) for o, weights in more.items()}}


def _bounded(habits: Mapping[str, Weights]) -> Mapping[str, Weights]:
    devices = [occasion for occasion in habits if occasion.startswith(DEVICE)]
    if len(devices) <= MOST_DEVICES:
        return habits
    left_out = set(sorted(devices, key=stable_hash)[MOST_DEVICES:])
    return {occasion: w for occasion, w in habits.items() if occasion not in left_out}


def _latest(played: dict[str, Play]) -> dict[str, Play]:
    if len(played) <= MOST_PLAYED:
        return played
    kept = sorted(played.items(), key=lambda p: (-p[1][0], p[0]))[:MOST_PLAYED]
    return dict(kept)
