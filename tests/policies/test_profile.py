"""Profiles decay by half-lives and do not depend on the order of events."""

import datetime as dt
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artwork_bandit.domain import Event, EventType
from artwork_bandit.policies.profile import Profile, gains_of

DAY = dt.timedelta(days=1)
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
gain = st.tuples(
    st.integers(0, 400), st.dictionaries(st.sampled_from("abc"), st.floats(-2, 2), max_size=3)
)


def test_a_play_counts_half_after_a_half_life() -> None:
    profile = Profile().add([(START, {"a": 1.0})], 30 * DAY)
    assert profile.at(START + 30 * DAY, 30 * DAY) == pytest.approx({"a": 0.5})


@given(st.lists(gain, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(
    events: list[tuple[int, dict[str, float]]], rng: random.Random
) -> None:
    pairs = [(START + days * DAY, per_genre) for days, per_genre in events]
    together = Profile().add(pairs, 30 * DAY)
    rng.shuffle(pairs)
    one_by_one = Profile()
    for pair in pairs:
        one_by_one = one_by_one.add([pair], 30 * DAY)
    at = START + 500 * DAY
    a, b = together.at(at, 30 * DAY), one_by_one.at(at, 30 * DAY)
    for genre in set(a) | set(b):
        assert a.get(genre, 0.0) == pytest.approx(b.get(genre, 0.0), abs=2e-6)


def test_a_play_counts_by_its_watched_share() -> None:
    play = Event(
        event_id="e", type=EventType.PLAY, occurred_at=START, seconds_watched=30,
        duration_seconds=120,
    )  # fmt: skip
    assert gains_of(play, ["a", "b"]) == {"a": 0.25, "b": 0.25}


def test_events_that_say_nothing_about_taste_add_nothing() -> None:
    pause = Event(event_id="e", type=EventType.PAUSE, occurred_at=START)
    assert gains_of(pause, ["a"]) == {}
