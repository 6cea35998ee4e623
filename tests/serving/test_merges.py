"""A visitor who signs in: one person from then on, whatever comes in whatever order."""

import datetime as dt
import itertools
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from artwork_bandit.domain import Event
from artwork_bandit.serving.service import Service
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import migrate, profiles, rewards, unjoined
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import events
from artwork_bandit.store.tables import rewards as rewards_table
from tests.samples import NOW, fill
from tests.serving.test_service import ask, event, send

HOUR = dt.timedelta(hours=1)
LATER = NOW + 48 * HOUR
WINDOW = dt.timedelta(hours=24)


def merge(event_id: str = "sign-in", visitor: str = "v", member: str = "m") -> Event:
    return replace(event(event_id, "merge", member_id=member), visitor_id=visitor)


def plays() -> list[Event]:
    return [
        event("e1", "play", NOW - 5 * HOUR, member_id="v", title_id="t0"),
        event("e2", "play", NOW - 4 * HOUR, member_id="m", title_id="t1"),
        event("e3", "thumbs_up", NOW - 3 * HOUR, member_id="v", title_id="t1"),
        event("e4", "rewatch", NOW - 2 * HOUR, member_id="v", title_id="t0"),
    ]  # fmt: skip


def test_profiles_are_the_same_in_whatever_order_things_come(tmp_path: Path) -> None:
    found = []
    whole = [*plays(), merge()]
    for number, order in enumerate(itertools.islice(itertools.permutations(whole), 0, 120, 7)):
        url = f"sqlite:///{tmp_path}/{number}.db"
        store = Store(url)
        migrate.migrate(store)
        fill(store)
        made = Service(store, Settings(database_url=url, reload_seconds=3600))
        for each in order:
            assert send(made, each).accepted == 1
        with store.read() as connection:
            found.append(profiles.get(connection, "m"))
            assert profiles.get(connection, "v").genres == {}
        made.close()
        store.close()
    for other in found[1:]:
        assert other.genres == pytest.approx(found[0].genres, abs=1e-9)
        assert (other.played, other.as_of) == (found[0].played, found[0].as_of)
    assert set(found[0].played) == {"t0", "t1"}


def test_a_play_after_sign_in_counts_for_what_the_visitor_was_shown(service: Service) -> None:
    first = ask(service, "r1", "v").decision_ids[0]
    send(service, event("shown", "impression"), decision=first)
    title = ask(service, "r1", "v").decisions.choices[0].title_id
    report = send(
        service, merge(),
        event("lone", "play", NOW + HOUR, member_id="m", title_id=title, seconds_watched=3000.0),
        now=NOW + HOUR,
    )  # fmt: skip
    assert (report.accepted, report.rejected) == (2, [])
    named = event("named", "click", NOW + HOUR, member_id="m")
    assert send(service, named, now=NOW + HOUR, decision=first).rejected == []
    stranger = event("other", "click", NOW + HOUR, member_id="x")
    assert send(service, stranger, now=NOW + HOUR, decision=first).accepted == 1  # who may sign in
    with service.store.read() as connection:
        rows = connection.execute(sa.select(events).order_by(events.c.event_id)).all()
    assert {(r.event_id, r.member_id, r.request_id, r.unjoined) for r in rows} == {
        ("lone", "m", None, "no_impression"), ("named", "v", "r1", None),
        ("shown", "v", "r1", None), ("other", "x", "r1", "other_member"),
    }  # fmt: skip
    assert rewards.join(service.store, SLOTS["artwork"], WINDOW, LATER) == 1
    with service.store.read() as connection:
        rows = connection.execute(sa.select(events).where(events.c.event_id == "lone")).all()
        assert [(r.member_id, r.request_id) for r in rows] == [("v", "r1")]
        (unit,) = connection.execute(sa.select(rewards_table)).all()
        assert title in profiles.get(connection, "m").played
    assert (unit.member_id, unit.quality_play, unit.clicks) == ("v", 1, 1)


@pytest.mark.parametrize("names", ["its decision", "its title"])
@pytest.mark.parametrize("before", [True, False])
def test_rewards_are_the_same_in_whatever_order_things_come(
    tmp_path: Path, names: str, before: bool
) -> None:
    """Shown to the visitor and played by the member, or the other way round."""
    shown_to, played_by = ("v", "m") if before else ("m", "v")
    found = []
    for number, order in enumerate(itertools.permutations(["shown", "played", "signed in"])):
        url = f"sqlite:///{tmp_path}/{number}.db"
        store = Store(url)
        migrate.migrate(store)
        fill(store)
        made = Service(store, Settings(database_url=url, reload_seconds=3600))
        answer = ask(made, "r1", shown_to)
        title, decision = answer.decisions.choices[0].title_id, answer.decision_ids[0]
        watched = {"seconds_watched": 3000.0, "duration_seconds": 3600.0}
        play = event("play", "play", NOW + HOUR, member_id=played_by, title_id=title, **watched)
        for each in order:
            if each == "shown":
                report = send(made, event("seen", "impression"), decision=decision)
            elif each == "signed in":
                report = send(made, merge(), now=NOW + HOUR)
            else:
                named = decision if names == "its decision" else None
                report = send(made, play, now=NOW + HOUR, decision=named)
            assert (report.accepted, report.rejected) == (1, [])
        assert rewards.join(store, SLOTS["artwork"], WINDOW, LATER) == 1
        with store.read() as connection:
            (unit,) = connection.execute(sa.select(rewards_table)).all()
            assert unjoined.by_reason(connection) == {}
            found.append((unit.member_id, unit.reward, profiles.get(connection, "m").played))
        made.close()
        store.close()
    assert found == [found[0]] * 6
    assert found[0][:2] == (shown_to, 1.0)


def test_what_waited_for_signing_in_too_long_counts_for_nothing(service: Service) -> None:
    answer = ask(service, "r1", "v")
    send(service, event("seen", "impression"), decision=answer.decision_ids[0])
    play = event("play", "play", NOW + HOUR, member_id="m")
    send(service, play, now=NOW + HOUR, decision=answer.decision_ids[0])
    assert rewards.join(service.store, SLOTS["artwork"], WINDOW, LATER) == 1
    send(service, merge(), now=LATER)
    with service.store.read() as connection:
        assert unjoined.by_reason(connection) == {"other_member": 1}
    again = event("again", "click", NOW + HOUR, member_id="m")
    send(service, again, now=LATER, decision=answer.decision_ids[0])
    with service.store.read() as connection:
        assert unjoined.by_reason(connection) == {"other_member": 1, "late": 1}


def test_of_two_impressions_the_nearer_has_the_reward_in_any_order(tmp_path: Path) -> None:
    """The member's own, and two hours later the visitor's, before they play."""
    found = []
    whole = ["shown to m", "shown to v", "played", "signed in"]
    for number, order in enumerate(itertools.permutations(whole)):
        url = f"sqlite:///{tmp_path}/{number}.db"
        store = Store(url)
        migrate.migrate(store)
        fill(store)
        made = Service(store, Settings(database_url=url, reload_seconds=3600))
        first, second = ask(made, "r1", "m"), ask(made, "r2", "v", now=NOW + 2 * HOUR)
        title = first.decisions.choices[0].title_id
        later = NOW + 3 * HOUR
        play = event("play", "play", later, member_id="m", title_id=title, seconds_watched=3000.0)
        for each in order:
            if each == "shown to m":
                send(made, event("im", "impression"), decision=first.decision_ids[0], now=later)
            elif each == "shown to v":
                seen = event("iv", "impression", NOW + 2 * HOUR)
                send(made, seen, decision=second.decision_ids[0], now=later)
            else:
                send(made, merge() if each == "signed in" else play, now=later)
        assert rewards.join(store, SLOTS["artwork"], WINDOW, LATER) == 2
        with store.read() as connection:
            units = connection.execute(sa.select(rewards_table)).all()
            assert unjoined.by_reason(connection) == {}
        found.append({unit.member_id: unit.reward for unit in units})
        made.close()
        store.close()
    assert found == [{"m": 0.0, "v": 1.0}] * 24


def test_an_event_that_names_another_s_decision_counts_for_one_reward_at_most(
    service: Service,
) -> None:
    mine = ask(service, "r1", "m")
    others = ask(service, "r2", "v", now=NOW + 20 * HOUR)
    send(service, event("im", "impression"), decision=mine.decision_ids[0])
    at = NOW + 20 * HOUR
    send(service, event("iv", "impression", at), decision=others.decision_ids[0], now=at)
    play = event("play", "play", NOW + 21 * HOUR, member_id="m", seconds_watched=3000.0)
    send(service, play, decision=others.decision_ids[0], now=NOW + 21 * HOUR)
    rewards.join(service.store, SLOTS["artwork"], WINDOW, NOW + 25 * HOUR)  # of the member's own
    send(service, merge(), now=NOW + 26 * HOUR)
    rewards.join(service.store, SLOTS["artwork"], WINDOW, LATER)
    with service.store.read() as connection:
        units = connection.execute(sa.select(rewards_table)).all()
    assert {unit.member_id: unit.reward for unit in units} == {"m": 0.0, "v": 1.0}


def test_what_waited_is_joined_to_impressions_that_are_assumed(service: Service) -> None:
    send(service, merge())
    title = "t0"
    play = event("play", "play", NOW + HOUR, member_id="m", title_id=title, seconds_watched=3000.0)
    send(service, play, now=NOW + HOUR)
    ask(service, "r1", "v", confirm="server", title_ids=[title])
    assert rewards.join(service.store, SLOTS["artwork"], WINDOW, LATER) == 1
    with service.store.read() as connection:
        (unit,) = connection.execute(sa.select(rewards_table)).all()
    assert (unit.confirm, unit.reward) == ("server", 1.0)


def test_merging_twice_is_harmless_and_two_members_are_refused(service: Service) -> None:
    assert send(service, merge()).accepted == 1
    for again in (merge(), merge("another-time")):
        assert send(service, again).duplicates == 1
    for wrong, reason in (
        (merge("w1", member="other"), "another member"),
        (merge("w2", visitor="m"), "would be merged into"),
        (merge("w3", visitor="x", member="x"), "would be merged into"),
        (replace(merge("w4"), visitor_id=None), "needs member_id and visitor_id"),
        (replace(event("w5", "click", member_id="m", title_id="t0"), visitor_id="v"), "merge"),
    ):
        (rejected,) = send(service, wrong).rejected
        assert reason in rejected.reason


def test_a_visitor_of_a_visitor_is_the_same_member(service: Service) -> None:
    send(service, event("e1", "play", member_id="tv", title_id="t0"))
    send(service, merge("one", "tv", "phone"))
    send(service, merge("two", "phone", "m"))
    send(service, event("e2", "play", member_id="tv", title_id="t1"))
    with service.store.read() as connection:
        assert set(profiles.get(connection, "m").played) == {"t0", "t1"}
        assert profiles.get(connection, "phone").played == {}


def test_signing_in_while_events_come_loses_none(service: Service) -> None:
    errors: list[BaseException] = []

    def watch(of: int) -> None:
        try:
            for i in range(20):
                send(service, event(f"e{of}-{i}", "thumbs_up", member_id="v", title_id="t0"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=watch, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    assert send(service, merge()).accepted == 1
    for thread in threads:
        thread.join()
    assert errors == []
    with service.store.read() as connection:
        assert profiles.get(connection, "v").genres == {}
        assert sum(profiles.get(connection, "m").genres.values()) == pytest.approx(2 * 80)
