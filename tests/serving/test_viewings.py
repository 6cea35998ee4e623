"""A viewing counts once in profiles, whatever a player tells of it, when, and in which order."""

import datetime as dt
import random
import threading

import pytest

from artwork_bandit.domain import Event
from artwork_bandit.policies.profile import Profile
from artwork_bandit.serving.service import Service
from artwork_bandit.settings import Settings
from artwork_bandit.store import profiles
from artwork_bandit.store.engine import Store
from tests.samples import NOW, fill
from tests.serving.test_merges import merge
from tests.serving.test_service import ask, event, send

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
LONG = 6000.0
"""Seconds."""


def watched(
    event_id: str, kind: str, at: dt.datetime, seconds: float | None = None, **more: object
) -> Event:
    more = {"member_id": "m", "title_id": "t0"} | more
    return event(
        event_id, kind, at, seconds_watched=seconds,
        duration_seconds=None if seconds is None else LONG, **more,
    )  # fmt: skip


def of(service: Service, member: str = "m") -> Profile:
    with service.store.read() as connection:
        return profiles.get(connection, member)


def taste(service: Service) -> float:
    """Return the plays that a genre of the title has."""
    (weight,) = set(of(service).genres.values())
    return weight


def test_a_player_that_tells_every_minute_tells_of_one_play(service: Service) -> None:
    for i in range(1, 101):
        send(service, watched(f"e{i}", "play", NOW + i * MINUTE, 60.0 * i), now=NOW + 2 * HOUR)
    assert taste(service) == pytest.approx(1.0, abs=1e-9)
    assert [share for _, share in of(service).played.values()] == [1.0]
    send(service, watched("next", "play", NOW + 24 * HOUR, LONG), now=NOW + 25 * HOUR)
    assert taste(service) == pytest.approx(2.0, abs=0.01)  # another day


@pytest.mark.parametrize(
    ("told", "plays", "share"),
    [
        ((("play", 0.0), ("pause", LONG)), 1.02, 1.0),
        ((("play", None), ("abandon", 60.0)), 0.01 - 0.5, 0.01),
        ((("play", None), ("abandon", None)), -0.5, 1.0),
        ((("play", 3000.0), ("play", None)), 0.5, 1.0),
        ((("play", LONG), ("rewatch", LONG)), 2.0, 1.0),
        ((("rewatch", 0.0), ("abandon", 60.0)), 0.01 - 0.5, 0.01),
        ((("rewatch", 3000.0), ("pause", 3000.0)), 0.52, 0.5),
        ((("play", LONG), ("rewatch", 0.0), ("pause", 3000.0)), 1.52, 0.5),
        ((("pause", 3000.0), ("play", LONG), ("rewatch", 60.0)), 1.03, 1.0),
        ((("pause", 1500.0), ("pause", 3000.0)), 0.54, 0.5),
        ((("pause", None),), 0.02, None),
    ],
)
def test_what_was_watched_is_what_the_event_says_that_tells_of_most(
    service: Service, told: tuple, plays: float, share: float | None
) -> None:
    sent = [
        watched(f"e{i}", kind, NOW + i * MINUTE, seconds) for i, (kind, seconds) in enumerate(told)
    ]
    send(service, *sent, now=NOW + HOUR)
    assert taste(service) == pytest.approx(plays, abs=1e-3)
    known = of(service).played.get("t0")
    assert (None if known is None else known[1]) == share


def test_what_is_told_in_several_batches_at_once_counts_once(service: Service) -> None:
    def tell(of: int) -> None:
        for i in range(10):
            send(service, watched(f"e{of}-{i}", "play", NOW + i * MINUTE, LONG), now=NOW + HOUR)

    threads = [threading.Thread(target=tell, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taste(service) == pytest.approx(1.0, abs=1e-9)


def story(service: Service, rng: random.Random) -> list[tuple[Event, str | None]]:
    """Return what a member and a visitor, who turns out to be the member, do in some days."""
    decisions = {
        who: ask(service, f"r-{who}", who, title_ids=["t0", "t1"]).decision_ids for who in "mv"
    }
    told: list[tuple[Event, str | None]] = [(merge("sign-in", "v", "m"), None)]
    for i in range(60):
        who, title = rng.choice("mv"), rng.randrange(2)
        kind = rng.choice(["play", "play", "pause", "abandon", "rewatch", "thumbs_up", "click"])
        seconds = rng.choice([None, 0.0, rng.uniform(0, LONG)])
        sent = watched(
            f"e{i}", kind, NOW + rng.randrange(90) * HOUR, seconds, member_id=who,
            title_id=f"t{title}", device=rng.choice([None, "tv", "phone"]),
        )  # fmt: skip
        told.append((sent, rng.choice([None, decisions[rng.choice("mv")][title]])))
    return told


def test_profiles_are_the_same_in_whatever_order_viewings_are_told(store: Store) -> None:
    made = Service(store, Settings(database_url=str(store._url), reload_seconds=3600))
    fill(store)
    made.state.refresh()
    told = story(made, random.Random(1))
    found = []
    for variant in range(4):
        rng = random.Random(variant)
        rng.shuffle(told)
        for each, decision in told:
            report = send(made, each, decision=decision, now=NOW + 91 * HOUR)
            assert (report.accepted, report.rejected) == (1, [])
        found.append(of(made))
        assert of(made, "v") == Profile()
        forget(store)
    assert set(found[0].habits) == {"device:tv", "device:phone"}
    for other in found[1:]:
        assert other.played == found[0].played
        assert other.genres == pytest.approx(found[0].genres, abs=1e-9)
        assert set(other.habits) == set(found[0].habits)
        for occasion, weights in found[0].habits.items():
            assert other.habits[occasion] == pytest.approx(weights, abs=1e-9)
    made.close()


def forget(store: Store) -> None:
    """Have nothing been told."""
    with store.write() as connection:
        for table in ("events", "impressions", "profiles", "merges"):
            connection.exec_driver_sql(f"DELETE FROM {table}")


def test_who_says_nothing_has_no_profile(service: Service) -> None:
    with service.store.write() as connection:
        connection.exec_driver_sql("UPDATE titles SET genres = '[]'")
    send(service, watched("e1", "click", NOW), now=NOW + HOUR)
    with service.store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM profiles").scalar() == 0
    send(service, watched("e2", "play", NOW, LONG), now=NOW + HOUR)
    assert set(of(service).played) == {"t0"}
