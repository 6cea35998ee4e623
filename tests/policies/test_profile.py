"""Profiles decay by half-lives and do not depend on the order of events."""

import datetime as dt
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artwork_bandit.domain import Event, EventType
from artwork_bandit.policies.profile import (
    LOOKED_IN,
    MOST_DEVICES,
    MOST_PLAYED,
    VIEWING,
    Profile,
    Sign,
    occasions,
    sign_of,
    signs_of_viewing,
)

DAY = dt.timedelta(days=1)
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
signs = st.builds(
    Sign,
    moment=st.integers(0, 400).map(lambda days: START + days * DAY),
    genres=st.dictionaries(st.sampled_from("abc"), st.floats(-2, 2), max_size=3),
    played=st.dictionaries(st.integers(1, 60).map(str), st.floats(0.01, 1), max_size=30),
    occasions=st.lists(st.sampled_from(["device:tv", "daypart:5", "weekend"]), unique=True).map(
        tuple
    ),
)


def test_a_play_counts_half_after_a_half_life() -> None:
    profile = Profile().add([Sign(moment=START, genres={"a": 1.0})], 30 * DAY)
    assert profile.at(START + 30 * DAY, 30 * DAY) == pytest.approx({"a": 0.5})


@given(st.lists(signs, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(events: list[Sign], rng: random.Random) -> None:
    together = Profile().add(events, 30 * DAY)
    rng.shuffle(events)
    one_by_one = Profile()
    for sign in events:
        one_by_one = one_by_one.add([sign], 30 * DAY)
    assert one_by_one.played == together.played
    assert len(together.played) <= MOST_PLAYED
    at = START + 500 * DAY
    told = [
        {"": profile.at(at, 30 * DAY), **profile.habits_at(at, 30 * DAY)}
        for profile in (together, one_by_one)
    ]
    for occasion in set(told[0]) | set(told[1]):
        a, b = (each.get(occasion, {}) for each in told)
        for genre in set(a) | set(b):
            assert a.get(genre, 0.0) == pytest.approx(b.get(genre, 0.0), abs=1e-9)


def test_habits_are_what_is_watched_on_such_occasions() -> None:
    def play(genre: str, device: str, hour: int, weekday: int) -> Sign:
        event = Event(
            event_id="e", type=EventType.PLAY, occurred_at=START, title_id="t", device=device,
            hour=hour, weekday=weekday,
        )  # fmt: skip
        (sign,) = signs_of_viewing([event], [genre])
        return sign

    profile = Profile().add([play("kids", "tablet", 9, 5), play("horror", "tv", 23, 5)], 30 * DAY)
    assert profile.on(occasions("tablet", 10, 6), START, 30 * DAY) == {"kids": 3.0, "horror": 1.0}
    assert profile.on(occasions("tv", 22, 0), START, 30 * DAY) == {"horror": 2.0}
    assert profile.on(occasions("tv", 22, 0), START + 30 * DAY, 30 * DAY) == {"horror": 1.0}
    assert profile.on(occasions("fridge", None, None), START, 30 * DAY) == {}
    both = profile.merged(profile, 30 * DAY)
    assert both.on(("daypart:5",), START, 30 * DAY) == {"horror": 2.0}
    assert profile.at(START, 30 * DAY) == {"kids": 1.0, "horror": 1.0}


def test_only_what_is_watched_is_a_habit() -> None:
    for kind in set(EventType) - {EventType.PLAY, EventType.REWATCH, EventType.MERGE}:
        event = Event(event_id="e", type=kind, occurred_at=START, title_id="t", device="tv")
        sign = sign_of(event, ["a"])
        assert sign is not None
        assert sign.occasions == ()


def test_habits_do_not_grow_for_ever() -> None:
    devices = [
        Sign(moment=START, genres={"a": float(i)}, occasions=(f"device:{i}",)) for i in range(99)
    ]
    day = [Sign(moment=START, genres={"a": 1.0}, occasions=("daypart:3", "weekend"))]
    habits = Profile().add(devices + day, DAY).habits
    assert len(habits) == MOST_DEVICES + 2
    assert {"daypart:3", "weekend"} < set(habits)


def test_habits_on_many_devices_are_the_same_in_any_order() -> None:
    rng = random.Random(1)
    events = [
        Sign(
            moment=START + rng.random() * 90 * DAY, genres={rng.choice("abc"): rng.random()},
            occasions=(f"device:{rng.randrange(40)}", f"daypart:{rng.randrange(6)}"),
        )
        for _ in range(400)
    ]  # fmt: skip
    wanted = Profile().add(events, 30 * DAY).habits
    for _ in range(5):
        rng.shuffle(events)
        found, left = Profile(), events
        while left:
            size = rng.randrange(1, 30)
            found, left = found.add(left[:size], 30 * DAY), left[size:]
        assert set(found.habits) == set(wanted)
        for occasion, weights in wanted.items():
            assert found.habits[occasion] == pytest.approx(weights, abs=1e-9)


@pytest.mark.parametrize(("seconds", "share"), [(10.0, 1 / 120), (1200.0, 1.0), (9000.0, 1.0)])
def test_a_play_of_a_title_whose_length_nobody_says_counts_by_its_seconds(
    seconds: float, share: float
) -> None:
    play = Event(
        event_id="e", type=EventType.PLAY, occurred_at=START, title_id="t", seconds_watched=seconds
    )
    (viewing,), sign = signs_of_viewing([play], ["a"]), sign_of(play, ["a"])
    assert viewing.genres == pytest.approx({"a": share})
    if share < LOOKED_IN:
        assert sign is None
        abandoned = sign_of(replace(play, type=EventType.ABANDON), ["a"])
        assert abandoned is not None
        assert abandoned.played == pytest.approx({"t": share})
    else:
        assert sign is not None
        assert sign.played == pytest.approx({"t": share})
    (unknown,) = signs_of_viewing([replace(play, seconds_watched=None)], ["a"])
    assert unknown.genres == {"a": 1.0}


def test_a_play_counts_by_its_watched_share() -> None:
    play = Event(
        event_id="e", type=EventType.PLAY, occurred_at=START, seconds_watched=30,
        duration_seconds=120,
    )  # fmt: skip
    (viewing,) = signs_of_viewing([play], ["a", "b"])
    assert viewing == Sign(moment=START, genres={"a": 0.25, "b": 0.25})
    for duration in (0.0, None):
        nothing = replace(play, seconds_watched=0.0, duration_seconds=duration)
        assert sign_of(nothing, ["a"]) is None
        assert signs_of_viewing([nothing], ["a"]) == []


def test_a_title_is_remembered_with_its_latest_play_and_fades() -> None:
    def play(days: int, seconds: float) -> Sign:
        event = Event(
            event_id="e", type=EventType.PLAY, occurred_at=START + days * DAY, title_id="t",
            seconds_watched=seconds, duration_seconds=100,
        )  # fmt: skip
        sign = sign_of(event, [])
        assert sign is not None
        return sign

    profile = Profile().add([play(10, 50), play(3, 100)], 30 * DAY)
    assert profile.played_at(START + 10 * DAY, 30 * DAY) == {"t": 0.5}
    assert profile.played_at(START + 40 * DAY, 30 * DAY) == {"t": 0.25}
    assert profile.played_at(START + 400 * DAY, 30 * DAY) == {}


@pytest.mark.parametrize("kind", [kind for kind in EventType if kind is not EventType.MERGE])
def test_every_type_of_event_says_something(kind: EventType) -> None:
    event = Event(event_id="e", type=kind, occurred_at=START, title_id="t")
    signs = [sign_of(event, ["a"]), *signs_of_viewing([event] * (kind in VIEWING), ["a"])]
    assert any(sign is not None and sign.genres.get("a") for sign in signs)


def test_a_title_without_genres_says_nothing_until_it_is_played() -> None:
    assert sign_of(Event(event_id="e", type=EventType.CLICK, occurred_at=START), []) is None
