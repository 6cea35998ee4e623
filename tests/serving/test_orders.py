"""Rewards hang on what happened, not on when it was told or how units were settled."""

import datetime as dt
import random
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from artwork_bandit.domain import Event
from artwork_bandit.serving.service import Service
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import events as event_store
from artwork_bandit.store import migrate, rewards, secrets
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import rewards as rewards_table
from tests.samples import NOW, fill
from tests.serving.test_merges import merge
from tests.serving.test_service import ask, event, only_explore, put_trailers, send

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
TOLD = NOW + 42 * HOUR
"""When everything has been told; nothing is settled before."""
PEOPLE = ("m", "v", "w")
"""A member, and two visitors who may turn out to be the member."""


def story(made: Service, rng: random.Random) -> list[tuple[Event, str | None]]:
    """Return impressions, events that name them, events that name nothing, and sign-ins."""
    told: list[tuple[Event, str | None]] = []
    for i in range(6):
        at, slot = NOW + rng.randrange(40 * 60) * MINUTE, SLOTS[rng.choice(sorted(SLOTS))]
        made_for = rng.choice(PEOPLE)
        answer = ask(made, f"r{i}", made_for, slot=slot, title_ids=["t0"], now=at)
        told.append((event(f"i{i}", "impression", at), answer.decision_ids[0]))
        if rng.random() < 0.4:  # and was on screen once more
            again = event(f"j{i}", "impression", at + rng.randrange(1, 600) * MINUTE)
            told.append((again, answer.decision_ids[0]))
        if rng.random() < 0.4:
            when = at + rng.randrange(-60, 60) * MINUTE
            named = event(f"n{i}", "click", when, member_id=rng.choice(PEOPLE))
            told.append((named, answer.decision_ids[0]))
        when = NOW + rng.randrange(41 * 60) * MINUTE
        member = rng.choice(PEOPLE)
        told.append((event(f"e{i}", "play", when, member_id=member, title_id="t0"), None))
    told.append((merge("first", "v", "m"), None))
    if rng.random() < 0.5:
        told.append((merge("second", "w", "m"), None))
    return told


def settled(
    folder: Path, seed: int, variant: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[object, ...]]:
    """Return the rewards of a story that is told, and settled, in one of many ways."""
    url = f"sqlite:///{folder}/{seed}-{variant}.db"
    store = Store(url)
    migrate.migrate(store)
    fill(store)
    for name in ("draw", "cell", "decision"):  # the same periods in every telling
        secrets.put(store, name, f"{name} of the story".encode())
    with store.write() as connection:
        put_trailers(connection)
    made = Service(store, Settings(database_url=url, reload_seconds=3600))
    told, rng = story(made, random.Random(seed)), random.Random(variant)
    rng.shuffle(told)
    for each, decision in told:
        report = send(made, each, decision=decision, now=TOLD)
        assert (report.accepted, report.rejected) == (1, [])
    monkeypatch.setattr(rewards, "BATCH", (1, 2, 3, 5_000)[variant % 4])
    slots = sorted(SLOTS.values(), key=lambda slot: slot.name, reverse=bool(variant % 2))
    for hours in [*range(0, 70, 1 + variant % 5)] * bool(variant % 3) + [80]:
        for slot in slots:
            rewards.join(store, slot, slot.attribution_window, TOLD + hours * HOUR)
    names = ("member_id", "slot", "request_id", "occurred_at", "clicks", "plays")
    columns = [rewards_table.c[n] for n in names]
    with store.read() as connection:
        found = sorted(tuple(row) for row in connection.execute(sa.select(*columns)))
    made.close()
    store.close()
    return found


@pytest.mark.parametrize("seed", range(1, 6))
def test_rewards_are_the_same_however_a_story_is_told_and_settled(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settled(tmp_path, seed, 3, monkeypatch)
    assert sum(row[-1] for row in wanted) > 0
    for variant in (4, 5, 6, 7):
        assert settled(tmp_path, seed, variant, monkeypatch) == wanted, variant


def test_what_is_taken_in_while_its_unit_is_settled_counts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_explore(service)
    decision = ask(service, "r", title_ids=["t0"]).decision_ids[0]
    send(service, event("i", "impression"), decision=decision)
    store, later = Store(service.settings.database_url), NOW + 25 * HOUR
    settling = threading.Thread(
        target=rewards.join, args=(store, SLOTS["artwork"], 24 * HOUR, later)
    )
    insert = event_store.insert

    def meanwhile(*told: object) -> set[str]:
        settling.start()  # the play has been found to be in time, and is not there yet
        settling.join(timeout=0.5)
        return insert(*told)

    monkeypatch.setattr(event_store, "insert", meanwhile)
    send(service, event("p", "play", NOW + HOUR), decision=decision, now=later)
    settling.join(timeout=30)
    store.close()
    with service.store.read() as connection:
        plays = connection.execute(sa.select(rewards_table.c.plays)).scalar_one()
    assert plays == 1
