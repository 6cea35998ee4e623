"""Which events count for which units, across draw periods, devices and clocks."""

import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from artwork_bandit.domain import EventType
from artwork_bandit.serving.audit import audit
from artwork_bandit.serving.service import Service
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import rewards
from artwork_bandit.store.tables import impressions
from artwork_bandit.store.tables import rewards as rewards_table
from artwork_bandit.store.unjoined import Asked, by_reason
from tests.samples import NOW
from tests.serving.test_merges import merge
from tests.serving.test_service import ask, ask_trailer, event, only_explore, send

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
ARTWORK = SLOTS["artwork"]
WINDOWS = {"artwork": DAY}


def decided(service: Service, request_id: str, at: dt.datetime, **more: object) -> str:
    return ask(service, request_id, title_ids=["t0"], now=at, **more).decision_ids[0]


def shown(
    service: Service, event_id: str, decision: str, at: dt.datetime, told: dt.datetime
) -> None:
    assert not send(
        service, event(event_id, "impression", at), decision=decision, now=told
    ).rejected


def settle(service: Service, now: dt.datetime) -> None:
    rewards.join(service.store, ARTWORK, ARTWORK.attribution_window, now)


def played(service: Service) -> dict[str, int]:
    """Return how many plays the rows of each request have."""
    query = sa.select(rewards_table.c.request_id, rewards_table.c.plays)
    with service.store.read() as connection:
        return {row.request_id: row.plays for row in connection.execute(query)}


def reasons(service: Service, now: dt.datetime) -> dict[str, int]:
    with service.store.read() as connection:
        return by_reason(connection, asked=Asked(now, WINDOWS))


@pytest.fixture
def alike(service: Service) -> Service:
    only_explore(service)
    return service


def test_what_followed_an_email_days_ago_does_not_pay_the_homepage(alike: Service) -> None:
    mailed = decided(alike, "mail", NOW, confirm="server")
    send(alike, event("p", "play", NOW + HOUR), decision=mailed, now=NOW + HOUR)
    decision = decided(alike, "home", NOW + 3 * DAY)
    shown(alike, "i", decision, NOW + 3 * DAY, NOW + 3 * DAY)
    settle(alike, NOW + 6 * DAY)
    assert played(alike) == {"mail": 1, "home": 0}
    assert audit(alike, decision).events == []


def test_what_followed_the_homepage_days_ago_does_not_pay_an_email(alike: Service) -> None:
    decision = decided(alike, "home", NOW)
    shown(alike, "i", decision, NOW, NOW)
    send(alike, event("p", "play", NOW + HOUR), decision=decision, now=NOW + HOUR)
    decided(alike, "mail", NOW + 3 * DAY, confirm="server")
    settle(alike, NOW + 6 * DAY)
    assert played(alike) == {"mail": 0, "home": 1}


def test_what_nobody_is_known_to_have_seen_pays_nothing_that_was_shown_later(
    alike: Service,
) -> None:
    lost = decided(alike, "lost", NOW)
    send(alike, event("p", "play", NOW + HOUR), decision=lost, now=NOW + HOUR)
    decision = decided(alike, "home", NOW + 3 * DAY)
    shown(alike, "i", decision, NOW + 3 * DAY, NOW + 3 * DAY)
    settle(alike, NOW + 6 * DAY)
    assert played(alike) == {"home": 0}
    assert reasons(alike, NOW + 6 * DAY) == {"not_shown": 1}
    assert [e.unjoined for e in audit(alike, lost).events] == ["not_shown"]


@pytest.mark.parametrize("names", ["first", "again"])
def test_a_wrong_clock_takes_nothing_from_whoever_names_what_was_shown(
    alike: Service, names: str
) -> None:
    first = decided(alike, "first", NOW)
    shown(alike, "i", first, NOW, NOW)
    again = decided(alike, "again", NOW + HOUR)
    shown(alike, "j", again, NOW + HOUR, NOW + HOUR)
    reset = event("p", "play", dt.datetime(2001, 1, 1, tzinfo=dt.UTC))
    named = {"first": first, "again": again}[names]
    send(alike, reset, decision=named, now=NOW + 2 * HOUR)
    settle(alike, NOW + 6 * DAY)
    assert played(alike) == {"first": 1}
    assert reasons(alike, NOW + 6 * DAY) == {}
    assert [e.unjoined for e in audit(alike, named).events] == [None]


@pytest.mark.parametrize("joins", [[26, 40], [40]])
def test_what_a_device_that_was_offline_showed_first_is_the_unit(
    alike: Service, joins: list[int]
) -> None:
    phone, tv = decided(alike, "phone", NOW), decided(alike, "tv", NOW + HOUR)
    shown(alike, "tv", tv, NOW + HOUR, NOW + HOUR)
    shown(alike, "phone", phone, NOW, NOW + 10 * HOUR)
    play = event("p", "play", NOW + HOUR / 2, member_id="m1", title_id="t0")
    send(alike, play, now=NOW + 10 * HOUR)
    for hours in joins:
        settle(alike, NOW + hours * HOUR)
    assert played(alike) == {"phone": 1}
    assert reasons(alike, NOW + 6 * DAY) == {}


def test_what_another_draw_period_counted_is_not_told_to_count_for_nothing(alike: Service) -> None:
    old = decided(alike, "old", NOW)
    shown(alike, "i", old, NOW, NOW)
    settle(alike, NOW + 2 * DAY)
    later = NOW + ARTWORK.period + HOUR
    new = decided(alike, "new", later)
    shown(alike, "j", new, later, later)
    send(alike, event("p", "play", later + HOUR), decision=old, now=later + HOUR)
    send(alike, event("q", "play", later - DAY), decision=old, now=later + HOUR)
    settle(alike, later + 2 * DAY)
    assert played(alike) == {"old": 0, "new": 1}
    assert reasons(alike, later + 2 * DAY) == {"outside_window": 1}
    told = {e.event_id: e.unjoined for e in audit(alike, old).events}
    assert told == {"p": None, "q": "outside_window"}
    assert [e.unjoined for e in audit(alike, new).events] == [None]


def test_what_the_homepage_counted_is_not_told_to_count_for_nothing_after_an_email(
    alike: Service,
) -> None:
    mailed = decided(alike, "mail", NOW, confirm="server")
    settle(alike, NOW + 2 * DAY)
    later = NOW + 3 * DAY
    home = decided(alike, "home", later)
    shown(alike, "i", home, later, later)
    send(alike, event("p", "play", later + HOUR), decision=mailed, now=later + HOUR)
    settle(alike, later + 2 * DAY)
    assert played(alike) == {"mail": 0, "home": 1}
    assert reasons(alike, later + 2 * DAY) == {}
    assert [e.unjoined for e in audit(alike, mailed).events] == [None]


def test_what_is_shown_long_after_it_was_chosen_is_audited_as_it_counts(alike: Service) -> None:
    """However short the draw period."""
    alike.settings = replace(alike.settings, period_seconds=600)
    decision = decided(alike, "home", NOW)
    shown(alike, "i", decision, NOW + HOUR, NOW + HOUR)
    send(alike, event("p", "play", NOW + 2 * HOUR), decision=decision, now=NOW + 2 * HOUR)
    settle(alike, NOW + 3 * DAY)
    assert played(alike) == {"home": 1}
    assert [e.unjoined for e in audit(alike, decision).events] == [None]


def test_a_join_goes_on_beyond_what_waits_for_an_earlier_showing(
    alike: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewards, "BATCH", 2)
    for i in range(5):  # of two devices each, the first of which tells of it late
        phone, tv = (
            ask(alike, f"{kind}{i}", f"m{i}", title_ids=["t0"], now=NOW + at).decision_ids[0]
            for kind, at in (("phone", 0 * HOUR), ("tv", HOUR))
        )
        shown(alike, f"tv{i}", tv, NOW + HOUR, NOW + HOUR)
        shown(alike, f"phone{i}", phone, NOW, NOW + 10 * HOUR)
    alone = ask(alike, "alone", "m9", title_ids=["t0"], now=NOW + 2 * HOUR).decision_ids[0]
    shown(alike, "alone", alone, NOW + 2 * HOUR, NOW + 2 * HOUR)
    settle(alike, NOW + 27 * HOUR)
    assert set(played(alike)) == {"alone"}
    settle(alike, NOW + 40 * HOUR)
    assert set(played(alike)) == {"alone", *(f"phone{i}" for i in range(5))}


def test_a_continuation_of_long_ago_catches_nothing_whatever_the_draw_period(
    service: Service,
) -> None:
    """It was shown first twenty days ago: what follows it now is what followed the trailer."""
    only_explore(service)
    service.settings = replace(service.settings, period_seconds=60 * DAY.total_seconds())
    first, now = decided(service, "first", NOW), NOW + 20 * DAY
    trailer = ask_trailer(service, "trailer", now)
    again = decided(service, "again", now + HOUR)
    shown(service, "i", first, NOW, NOW)
    shown(service, "k", trailer, now, now)
    shown(service, "j", again, now + HOUR, now + HOUR)
    play = event("p", "play", now + 2 * HOUR, member_id="m1", title_id="t0")
    send(service, play, now=now + 2 * HOUR)
    for slot in SLOTS.values():
        rewards.join(service.store, slot, slot.attribution_window, now + 3 * DAY)
    assert played(service) == {"first": 0, "trailer": 1}


def test_an_event_that_is_sent_again_moves_no_impression(alike: Service) -> None:
    decision = decided(alike, "home", NOW)
    for hours in (5, 1):
        report = send(
            alike, event("i", "impression", NOW + hours * HOUR), decision=decision,
            now=NOW + 5 * HOUR,
        )  # fmt: skip
    assert report.duplicates == 1
    with alike.store.read() as connection:
        at = connection.execute(sa.select(impressions.c.occurred_at)).scalar_one()
    assert at == NOW + 5 * HOUR


def test_a_merge_with_the_id_of_another_loses_none_of_its_neighbours(alike: Service) -> None:
    assert send(alike, merge("sign-in", "v1", "m")).accepted == 1
    told = [merge("sign-in", "v2", "m"), event("p", "play", member_id="m", title_id="t0")]
    report = send(alike, *told, merge("other", "v3", "m"), merge("sign-in", "v1", "m"))
    assert (report.accepted, report.duplicates) == (2, 1)
    (rejected,) = report.rejected
    assert (rejected.event_id, rejected.index) == ("sign-in", 0)
    assert "an id of its own" in rejected.reason


def test_the_id_of_another_event_is_refused_and_not_passed_over(alike: Service) -> None:
    """Ids that are unique within a session only lost all that other members did."""
    first = event("1", "play", member_id="m1", title_id="t0", seconds_watched=60.0)
    assert send(alike, first).accepted == 1
    again = replace(first, seconds_watched=120.0, occurred_at=NOW + HOUR)  # it says more by now
    assert send(alike, again, now=NOW + HOUR).duplicates == 1
    others = [
        replace(first, member_id="m2"), replace(first, title_id="t1"),
        replace(first, type=EventType.PAUSE),
    ]  # fmt: skip
    for other in others:
        report = send(alike, other, event(f"new-{other.type}-{other.title_id}-{other.member_id}",
                                          "play", member_id="m3", title_id="t0"))  # fmt: skip
        assert (report.accepted, report.duplicates) == (1, 0)
        (rejected,) = report.rejected
        assert (rejected.event_id, rejected.index) == ("1", 0)
        assert "give every event an id of its own" in rejected.reason
    # And where both come together.
    both = [event("2", "play", member_id=m, title_id="t0") for m in ("m1", "m1", "m2")]
    report = send(alike, *both)
    assert (report.accepted, report.duplicates) == (1, 1)
    assert [each.index for each in report.rejected] == [2]


def test_what_a_visitor_sent_and_sends_again_as_a_member_is_no_other_event(alike: Service) -> None:
    play = event("1", "play", member_id="v", title_id="t0", seconds_watched=60.0)
    assert send(alike, play).accepted == 1
    assert send(alike, replace(play, member_id="m")).rejected != []
    assert send(alike, merge("sign-in", "v", "m")).accepted == 1
    assert send(alike, replace(play, member_id="m")).duplicates == 1


def test_an_id_is_of_one_event_though_one_names_a_decision(alike: Service) -> None:
    decision = decided(alike, "home", NOW)
    play = event("1", "play", NOW, member_id="m1", title_id="t0")
    assert send(alike, play).accepted == 1
    assert send(alike, event("1", "play", NOW), decision=decision).duplicates == 1
    assert send(alike, event("1", "click", NOW), decision=decision).rejected != []
