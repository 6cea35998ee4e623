"""Choosing and taking in events, on both databases."""

import datetime as dt
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from artwork_bandit.domain import Context, Event, EventType, Variant
from artwork_bandit.errors import Conflict
from artwork_bandit.operations.joining import join_rewards, why_empty
from artwork_bandit.policies.policy import Uniform
from artwork_bandit.serving import chooser
from artwork_bandit.serving.audit import audit
from artwork_bandit.serving.chooser import Question
from artwork_bandit.serving.ingest import Incoming
from artwork_bandit.serving.service import Answer, Rung, Service
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import catalog, cells, merges, profiles, replay, rewards, unjoined
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection, Store
from artwork_bandit.store.tables import events as event_table
from artwork_bandit.store.tables import impressions
from artwork_bandit.store.tables import rewards as rewards_table
from artwork_bandit.store.window import Window
from tests.samples import NOW, fill, patch

TITLES = ("t0", "t1", "t2")
HOUR = dt.timedelta(hours=1)


def ask(service: Service, request_id: str, member: str = "m1", **more: object) -> Answer:
    now = more.pop("now", NOW)
    question = Question(
        request_id=request_id, member_id=member, slot=more.pop("slot", SLOTS["artwork"]),
        title_ids=more.pop("title_ids", TITLES), context=more.pop("context", Context()), **more,
    )  # fmt: skip
    return service.answer(question, genres_given=False, now=now)


def send(service: Service, *events: Event, now: dt.datetime = NOW, decision: str | None = None):
    batch = [Incoming(index=i, event=e, decision_id=decision) for i, e in enumerate(events)]
    return service.take_in(batch, now)


def event(event_id: str, kind: str, at: dt.datetime = NOW, **more: object) -> Event:
    return Event(event_id=event_id, type=EventType(kind), occurred_at=at, **more)


def only_explore(service: Service) -> None:
    with service.store.write() as connection:
        cells.set_shares(connection, {"explore": 1.0})
    service.state.refresh()


def units(service: Service, now: dt.datetime) -> list:
    """Join what has closed by `now`; return (title, reward) of every unit."""
    rewards.join(service.store, SLOTS["artwork"], 24 * HOUR, now)
    return [
        (block.action_sets[s].title_id, r)
        for block in replay.blocks(service.store, Window())
        for s, r in zip(block.set_of_row.tolist(), block.reward.tolist(), strict=True)
    ]


def test_the_answer_is_in_the_order_asked_and_in_the_log_with_its_propensities(
    service: Service,
) -> None:
    answer = ask(service, "r1", title_ids=("t2", "nowhere", "t0"))
    with service.store.read() as connection:
        logged, _ = request_store.get(connection, "r1")
        sets = request_store.get_action_sets(
            connection, [c.action_set_id for c in logged.choices if c.action_set_id is not None]
        )
    assert [c.title_id for c in answer.decisions.choices] == ["t2", "nowhere", "t0"]
    assert [msgspec.structs.replace(c, uri=None) for c in answer.decisions.choices] == list(
        logged.choices
    )
    assert logged.choices[1].fallback
    assert logged.choices[1].reason == chooser.UNKNOWN_TITLE
    for choice in (logged.choices[0], logged.choices[2]):
        assert choice.variant_id == sets[choice.action_set_id].variant_ids[choice.index]
        assert 0 < choice.propensity <= 1


def test_repeating_a_request_repeats_the_answer_and_reusing_its_id_is_a_conflict(
    service: Service,
) -> None:
    before, after = ask(service, "r1"), ask(service, "r1", now=NOW + HOUR)
    assert (before.decisions, before.decision_ids) == (after.decisions, after.decision_ids)
    assert (before.rung, after.rung) == (Rung.FULL, Rung.REPEAT)
    with pytest.raises(Conflict, match="another question"):
        ask(service, "r1", member="m2")


def test_every_decision_can_be_made_again_from_the_log(service: Service) -> None:
    for i in range(50):
        ask(service, f"r{i}", member=f"m{i}")
    service.state.current = service.state._build(None)  # a server that has restarted
    for i in range(50):
        with service.store.read() as connection:
            logged, _ = request_store.get(connection, f"r{i}")
        question = Question(
            request_id=f"r{i}", member_id=logged.member_id, slot=SLOTS["artwork"],
            title_ids=TITLES, context=logged.context,
        )  # fmt: skip
        again, _ = chooser.choose(
            question, service.state.current, service.keys.draw,
            SLOTS["artwork"].period.total_seconds(), logged.occurred_at,
        )  # fmt: skip
        assert [msgspec.structs.replace(c, uri=None) for c in again.choices] == list(logged.choices)


def test_same_member_title_and_period_give_the_same_variant(service: Service) -> None:
    only_explore(service)
    for member in range(30):
        first = ask(service, f"a{member}", member=f"m{member}")
        later = ask(service, f"b{member}", member=f"m{member}", now=NOW + HOUR)
        if first.decisions.period == later.decisions.period:
            shown = [[c.variant_id for c in a.decisions.choices] for a in (first, later)]
            assert shown[0] == shown[1]


def test_frequencies_agree_with_logged_propensities_by_chi_square(service: Service) -> None:
    """Members are new each time, so draws are independent; keys are fixed for a fixed result."""
    only_explore(service)
    state, context = service.state.current, Context()
    seen, promised = Counter(), Counter()
    for i in range(4_000):
        question = Question(
            request_id="x", member_id=f"member-{i}", slot=SLOTS["artwork"], title_ids=TITLES,
            context=context,
        )  # fmt: skip
        made, _ = chooser.choose(question, state, b"fixed", 86_400.0, NOW)
        for choice in made.choices:
            seen[choice.variant_id] += 1
            for j in range(4):
                promised[f"{choice.title_id}-a{j}"] += choice.propensity  # uniform: all the same
    chi_square = sum((seen[v] - promised[v]) ** 2 / promised[v] for v in promised)
    assert chi_square < 27.88  # the 0.999 quantile for 3 x 3 degrees of freedom


def test_the_baseline_cell_shows_the_default_with_certainty(service: Service) -> None:
    with service.store.write() as connection:
        cells.set_shares(connection, {"baseline": 1.0})
    service.state.refresh()
    made = ask(service, "r1").decisions
    assert made.cell == "baseline"
    assert [(c.variant_id, c.propensity) for c in made.choices] == [
        (f"{t}-a0", 1.0) for t in TITLES
    ]


def test_only_and_except_narrow_the_action_set_and_keep_propensities_exact(
    service: Service,
) -> None:
    only_explore(service)
    made = ask(service, "r1", only=frozenset({"t0-a1", "t0-a2", "t1-a3"}),
               excluded=frozenset({"t0-a1"})).decisions  # fmt: skip
    t0, t1, t2 = made.choices
    assert (t0.variant_id, t0.propensity) == ("t0-a2", 1.0)
    assert (t1.variant_id, t1.propensity) == ("t1-a3", 1.0)
    assert (t2.variant_id, t2.reason) == (None, chooser.NOTHING_ELIGIBLE)


@pytest.mark.parametrize(
    ("changes", "context", "eligible"),
    [
        ({"status": "paused"}, Context(), False),
        ({"starts_at": NOW + HOUR}, Context(), False),
        ({"starts_at": NOW - HOUR, "ends_at": NOW}, Context(), False),
        ({"starts_at": NOW, "ends_at": NOW + HOUR}, Context(), True),
        ({"countries": ("DE",)}, Context(country="US"), False),
        ({"countries": ("DE",)}, Context(), False),
        ({"countries": ("DE", "US")}, Context(country="US"), True),
        ({"languages": ("es",)}, Context(language="en"), False),
        ({"maturity": "TV-MA"}, Context(maturity="TV-14"), False),
        ({"maturity": "TV-MA"}, Context(), True),
        ({"maturity": "PG-13"}, Context(maturity="TV-14"), True),
    ],
)
def test_eligibility(service: Service, changes: dict, context: Context, eligible: bool) -> None:
    only_explore(service)
    with service.store.write() as connection:
        variant = catalog.get_variant(connection, "t0", "t0-a1")
        changed = {**changes, "status": type(variant.status)(changes.get("status", "active"))}
        patch(connection, "t0", "t0-a1", changed, NOW)
    service.state.refresh()
    choice = ask(service, "r1", title_ids=("t0",), context=context).decisions.choices[0]
    assert choice.propensity == pytest.approx(1 / 4 if eligible else 1 / 3)


def test_a_date_that_passes_takes_effect_without_a_reload(service: Service) -> None:
    only_explore(service)
    with service.store.write() as connection:
        patch(connection, "t0", "t0-a1", {"ends_at": NOW + HOUR}, NOW)
    service.state.refresh()
    before = ask(service, "r1", title_ids=("t0",)).decisions.choices[0]
    after = ask(service, "r2", title_ids=("t0",), now=NOW + HOUR).decisions.choices[0]
    assert (before.propensity, after.propensity) == (pytest.approx(1 / 4), pytest.approx(1 / 3))


def test_whatever_fails_in_choosing_the_client_gets_the_default(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_explore(service)
    monkeypatch.setattr(Uniform, "pmf", lambda *_: np.array([0.5, 0.6] * 6))
    made = ask(service, "r1").decisions
    assert [(c.variant_id, c.propensity, c.fallback) for c in made.choices] == [
        (f"{t}-a0", None, True) for t in TITLES
    ]


def test_a_fallback_never_becomes_a_training_row(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chooser, "draw", lambda *_: 1 / 0)
    answer = ask(service, "r1")
    report = send(service, event("e1", "impression"), decision=answer.decision_ids[0])
    assert report.accepted == 1
    assert units(service, NOW + 48 * HOUR) == []


def test_impression_click_and_play_make_one_rewarded_unit(service: Service) -> None:
    answer = ask(service, "r1")
    first = answer.decision_ids[0]
    send(service, event("e1", "impression"), decision=first)
    send(service, event("e2", "click", NOW + HOUR), decision=first, now=NOW + HOUR)
    watched = {"seconds_watched": 3000.0, "duration_seconds": 3600.0}
    send(service, event("e3", "play", NOW + HOUR, **watched), decision=first, now=NOW + HOUR)
    assert units(service, NOW + 23 * HOUR) == []  # the window is open
    assert units(service, NOW + 25 * HOUR) == [("t0", 1.0)]
    assert units(service, NOW + 26 * HOUR) == [("t0", 1.0)]  # joined once


def test_what_was_never_seen_never_becomes_a_row(service: Service) -> None:
    ask(service, "r1")
    assert units(service, NOW + 48 * HOUR) == []


def test_a_click_that_arrives_before_its_impression_counts(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    send(service, event("e1", "play", NOW + HOUR), decision=first, now=NOW + HOUR)
    send(service, event("e2", "impression", NOW + HOUR * 2), decision=first, now=NOW + HOUR * 2)
    assert units(service, NOW + 48 * HOUR) == [("t0", 1.0)]


def test_an_event_without_decision_joins_the_latest_impression(service: Service) -> None:
    answer = ask(service, "r1")
    send(service, event("e1", "impression"), decision=answer.decision_ids[1])
    later = NOW + HOUR
    send(service, event("e2", "play", later, member_id="m1", title_id="t1"), now=later)
    send(service, event("e3", "play", later, member_id="m1", title_id="t2"), now=later)
    assert units(service, NOW + 48 * HOUR) == [("t1", 1.0)]
    with service.store.read() as connection:
        rows = connection.execute(
            sa.select(event_table.c.event_id, event_table.c.unjoined, event_table.c.request_id)
        ).all()
    assert {r.event_id: (r.unjoined, r.request_id) for r in rows} == {
        "e1": (None, "r1"), "e2": (None, "r1"), "e3": ("no_impression", None),
    }  # fmt: skip


def test_an_event_without_decision_counts_as_long_as_the_settings_say(
    store: Store, database_url: str
) -> None:
    fill(store)
    settings = Settings(
        database_url=database_url, reload_seconds=3600, attribution_window_seconds=72 * 3600
    )
    made = Service(store, settings)
    later = NOW + 48 * HOUR
    send(made, event("e1", "impression"), decision=ask(made, "r1").decision_ids[1])
    send(made, event("e2", "play", later, member_id="m1", title_id="t1"), now=later)
    join_rewards(store, SLOTS["artwork"], settings, NOW + 73 * HOUR)
    with store.read() as connection:
        assert unjoined.by_reason(connection) == {}
        assert connection.execute(sa.select(rewards_table.c.plays)).scalars().all() == [1]
    made.close()


def test_what_was_watched_is_a_share_of_the_title_where_nobody_says_of_what(
    service: Service,
) -> None:
    only_explore(service)
    with service.store.write() as connection:
        known = catalog.get_title(connection, "t0")
        catalog.put_titles(connection, [replace(known, duration_seconds=600.0)], NOW)
    answer = ask(service, "r1", title_ids=["t0", "t1"])
    for i, decision in enumerate(answer.decision_ids):
        send(service, event(f"i{i}", "impression"), decision=decision)
        send(service, event(f"p{i}", "play", seconds_watched=500.0), decision=decision)
    assert units(service, NOW + 25 * HOUR) == [("t0", 1.0), ("t1", 0.0)]
    with service.store.read() as connection:
        profile = profiles.get(connection, "m1")
    shares = {title: share for title, (_, share) in profile.played.items()}
    assert shares == {"t0": pytest.approx(500 / 600), "t1": pytest.approx(500 / 1200)}


def put_trailers(connection: Connection) -> None:
    """Give t0 two trailers."""
    trailers = [
        Variant(variant_id=f"t0-b{i}", title_id="t0", slot="trailer", uri=f"/{i}.mp4",
                is_default=i == 0)
        for i in range(2)
    ]  # fmt: skip
    catalog.put_variants(connection, trailers, NOW)


def ask_trailer(service: Service, request_id: str, now: dt.datetime) -> str:
    """Return the decision for a trailer of t0, which has two from then on."""
    with service.store.write() as connection:
        put_trailers(connection)
    service.state.refresh()
    return ask(service, request_id, slot=SLOTS["trailer"], title_ids=["t0"], now=now).decision_ids[
        0
    ]


def test_an_event_without_decision_counts_for_the_nearest_that_it_may_count_for(
    service: Service,
) -> None:
    """A trailer counts what follows for six hours, an artwork for a day."""
    shown = ask(service, "r1").decision_ids[0]
    trailer = ask_trailer(service, "r2", NOW + HOUR)
    send(service, event("i1", "impression"), decision=shown)
    send(service, event("i2", "impression", NOW + HOUR), decision=trailer, now=NOW + HOUR)
    near, far = NOW + 2 * HOUR, NOW + 10 * HOUR
    send(service, event("e1", "click", near, member_id="m1", title_id="t0"), now=near)
    send(service, event("e2", "play", far, member_id="m1", title_id="t0"), now=far)
    for now in (NOW + 11 * HOUR, NOW + 26 * HOUR):
        for slot in (SLOTS["artwork"], SLOTS["trailer"]):
            rewards.join(service.store, slot, slot.attribution_window, now)
    with service.store.read() as connection:
        rows = connection.execute(sa.select(rewards_table)).all()
        assert unjoined.by_reason(connection) == {}
    assert {r.slot: (r.clicks, r.plays) for r in rows} == {"artwork": (0, 1), "trailer": (1, 0)}


def test_a_nearer_impression_in_another_slot_has_the_reward_however_late_it_comes(
    service: Service,
) -> None:
    """What another batch closes in between decides nothing about it."""
    shown = ask(service, "r1", now=NOW + HOUR).decision_ids[0]
    trailers = [ask_trailer(service, f"t{i}", NOW + i * 2 * HOUR) for i in range(2)]
    send(service, event("i0", "impression"), decision=trailers[0])
    send(service, event("i1", "impression", NOW + HOUR), decision=shown, now=NOW + HOUR)
    at = NOW + 3 * HOUR
    send(service, event("e1", "play", at, member_id="m1", title_id="t0"), now=at)
    trailer, artwork = SLOTS["trailer"], SLOTS["artwork"]
    rewards.join(service.store, artwork, artwork.attribution_window, NOW + 7 * HOUR)
    late = NOW + 9 * HOUR
    send(service, event("i2", "impression", NOW + 2 * HOUR), decision=trailers[1], now=late)
    for slot in (artwork, trailer):
        rewards.join(service.store, slot, slot.attribution_window, NOW + 40 * HOUR)
    with service.store.read() as connection:
        rows = connection.execute(sa.select(rewards_table)).all()
    assert {r.slot: r.plays for r in rows} == {"artwork": 0, "trailer": 1}


def test_what_follows_a_continuation_counts_for_its_unit(service: Service) -> None:
    first, again = (
        ask(service, f"r{i}", now=NOW + i * 10 * HOUR).decision_ids[0] for i in range(2)
    )
    send(service, event("i0", "impression"), decision=first)
    send(service, event("i1", "impression", NOW + 10 * HOUR), decision=again, now=NOW + 10 * HOUR)
    at = NOW + 12 * HOUR
    send(service, event("e1", "play", at, member_id="m1", title_id="t0"), now=at)
    assert units(service, NOW + 25 * HOUR) == [("t0", 1.0)]
    too_late = NOW + 33 * HOUR  # the continuation's own window is open, its unit's is not
    send(service, event("e2", "click", too_late, member_id="m1", title_id="t0"), now=too_late)
    assert units(service, NOW + 60 * HOUR) == [("t0", 1.0)]
    with service.store.read() as connection:
        assert unjoined.by_reason(connection) == {"no_impression": 1}


@pytest.mark.parametrize("how", ["at once", "hourly", "one by one", "the first received last"])
@pytest.mark.parametrize("what", ["another period", "assumed"])
def test_an_event_counts_for_all_units_in_whose_window_it_is_however_they_are_settled(
    service: Service, what: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    period = ask(service, "r", "m1").decisions.period
    turn = next(
        NOW + i * HOUR
        for i in range(24 * 15)
        if ask(service, f"p{i}", "m1", now=NOW + i * HOUR).decisions.period != period
    )
    assumed = {"confirm": "server"} if what == "assumed" else {}
    at = [turn - 2 * HOUR, turn + HOUR]
    first, second = (
        ask(service, f"r{i}", "m1", title_ids=["t0"], now=moment, **(assumed if i == 0 else {}))
        for i, moment in enumerate(at)
    )
    seen = [
        (event("i0", "impression", at[0]), first.decision_ids[0]),
        (event("i1", "impression", at[1]), second.decision_ids[0]),
    ]
    for each, decision in seen[::-1] if how == "the first received last" else seen:
        if not (assumed and each.event_id == "i0"):
            send(service, each, decision=decision, now=turn + 3 * HOUR)
    play = event("e", "play", turn + 2 * HOUR, member_id="m1", title_id="t0")
    send(service, play, now=turn + 3 * HOUR)
    if how == "one by one":
        monkeypatch.setattr(rewards, "BATCH", 1)
    steps = range(3, 61) if how == "hourly" else [60]
    for hour in steps:
        units(service, turn + hour * HOUR)
    with service.store.read() as connection:
        rows = connection.execute(sa.select(rewards_table)).all()
        assert unjoined.by_reason(connection) == {}
    assert [row.plays for row in rows] == [1, 1]


def test_what_comes_too_late_for_one_waits_for_a_nearer_one(service: Service) -> None:
    with service.store.write() as connection:
        merges.add(connection, "v", "m1", "sign-in", NOW)
    own = [ask(service, f"r{i}", now=NOW + i * 5 * HOUR).decision_ids[0] for i in range(2)]
    other = ask(service, "r9", "v", now=NOW + 22 * HOUR).decision_ids[0]
    send(service, event("i0", "impression"), decision=own[0])
    send(service, event("i1", "impression", NOW + 5 * HOUR), decision=own[1], now=NOW + 5 * HOUR)
    assert units(service, NOW + 25 * HOUR) == [("t0", 0.0)]
    play = event("e", "play", NOW + 23 * HOUR, member_id="m1", title_id="t0")
    send(service, play, now=NOW + 26 * HOUR)
    assert [e.unjoined for e in audit(service, own[0]).events] == ["late"]
    units(service, NOW + 30 * HOUR)
    late = event("i9", "impression", NOW + 22 * HOUR)
    send(service, late, decision=other, now=NOW + 40 * HOUR)
    assert units(service, NOW + 70 * HOUR) == [("t0", 0.0), ("t0", 1.0)]


def test_what_can_no_longer_count_takes_nothing_away(service: Service) -> None:
    first, again = (
        ask(service, f"r{i}", now=NOW + i * 25 * HOUR).decision_ids[0] for i in range(2)
    )
    trailer = ask_trailer(service, "t", NOW + 24 * HOUR)
    send(service, event("i0", "impression"), decision=first)
    send(service, event("i1", "impression", NOW + 24 * HOUR), decision=trailer, now=NOW + 24 * HOUR)
    send(service, event("i2", "impression", NOW + 25 * HOUR), decision=again, now=NOW + 25 * HOUR)
    at = NOW + 26 * HOUR
    send(service, event("e", "play", at, member_id="m1", title_id="t0"), now=at)
    for slot in (SLOTS["artwork"], SLOTS["trailer"]):
        rewards.join(service.store, slot, slot.attribution_window, NOW + 60 * HOUR)
    with service.store.read() as connection:
        rows = connection.execute(sa.select(rewards_table)).all()
    assert {r.slot: r.plays for r in rows} == {"artwork": 0, "trailer": 1}


def test_an_event_whose_impression_arrives_later_still_counts(service: Service) -> None:
    answer = ask(service, "r1")
    later = NOW + HOUR
    send(service, event("e1", "play", later, member_id="m1", title_id="t1"), now=later)
    send(service, event("e2", "impression", NOW), decision=answer.decision_ids[1], now=later)
    assert units(service, NOW + 48 * HOUR) == [("t1", 1.0)]


def test_events_outside_the_window_do_not_count(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    send(service, event("e1", "impression"), decision=first)
    late = NOW + 25 * HOUR
    send(service, event("e2", "play", late), decision=first, now=late)
    assert units(service, NOW + 48 * HOUR) == [("t0", 0.0)]


def test_an_abandoned_or_disliked_play_earns_nothing(service: Service) -> None:
    ids = ask(service, "r1").decision_ids
    for i, decision in enumerate(ids):
        send(service, event(f"i{i}", "impression"), decision=decision)
    send(service, event("p0", "play"), event("a0", "abandon"), decision=ids[0])
    send(service, event("p1", "play"), event("d1", "thumbs_down"), decision=ids[1])
    short = {"seconds_watched": 60.0, "duration_seconds": 3600.0}
    send(service, event("p2", "play", **short), decision=ids[2])
    assert sorted(units(service, NOW + 48 * HOUR)) == [("t0", 0.0), ("t1", 0.0), ("t2", 0.0)]


def test_thumbs_count_as_they_stand_in_the_end(service: Service) -> None:
    """Whichever comes first over the wire; both at one instant is down."""
    ids = ask(service, "r1").decision_ids
    times = [(HOUR, 2 * HOUR), (2 * HOUR, HOUR), (HOUR, HOUR)]
    for i, (decision, (down, up)) in enumerate(zip(ids, times, strict=True)):
        send(
            service, event(f"i{i}", "impression"), event(f"p{i}", "play"),
            event(f"u{i}", "thumbs_up", NOW + up), event(f"d{i}", "thumbs_down", NOW + down),
            decision=decision, now=NOW + 3 * HOUR,
        )  # fmt: skip
    assert sorted(units(service, NOW + 48 * HOUR)) == [("t0", 1.0), ("t1", 0.0), ("t2", 0.0)]
    with service.store.read() as connection:
        rows = connection.execute(sa.select(rewards_table).order_by(rewards_table.c.title_id)).all()
    assert [(row.thumbs_up, row.thumbs_down) for row in rows] == [(1, 0), (0, 1), (0, 1)]


def test_the_replay_log_holds_one_row_per_fresh_draw(service: Service) -> None:
    """Later decisions of a period are continuations: impressions, but never rows."""
    answers = [ask(service, f"r{i}", now=NOW + i * HOUR) for i in range(3)]
    for i, answer in enumerate(answers):
        at = NOW + i * HOUR
        send(service, event(f"e{i}", "impression", at), decision=answer.decision_ids[0], now=at)
    periods = {a.decisions.period for a in answers}
    assert len(units(service, NOW + 48 * HOUR)) == len(periods)
    with service.store.read() as connection:
        seen = connection.execute(sa.select(sa.func.count()).select_from(impressions)).scalar()
    assert seen == 3
    next_period = NOW + SLOTS["artwork"].period
    again = ask(service, "r9", now=next_period)
    shown = event("e9", "impression", next_period)
    send(service, shown, decision=again.decision_ids[0], now=next_period)
    assert len(units(service, next_period + 48 * HOUR)) == len(periods) + 1


def test_assumed_impressions_are_kept_apart(service: Service) -> None:
    ask(service, "r1", confirm="server")
    assert units(service, NOW + 48 * HOUR) == []
    window = Window(confirm="server")
    assert sum(len(b) for b in replay.blocks(service.store, window)) == 3
    why = why_empty(service.store, SLOTS["artwork"], service.settings)
    assert "3 rows of artwork are of impressions that were assumed" in why


def test_sending_again_is_harmless(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    batch = [event("e1", "impression"), event("e2", "play")]
    assert send(service, *batch, decision=first).accepted == 2
    with service.store.read() as connection:
        before = profiles.get(connection, "m1")
    again = send(service, *batch, event("e1", "impression"), decision=first)
    assert (again.accepted, again.duplicates) == (0, 3)
    with service.store.read() as connection:
        assert profiles.get(connection, "m1") == before


def test_one_bad_event_never_loses_its_neighbours(service: Service) -> None:
    answer = ask(service, "r1")
    good = answer.decision_ids[0]
    request_id, index, signature = good.split(".")
    batch = [
        (event("e0", "impression"), good),
        (event("e1", "impression"), None),
        (event("e2", "click"), f"{request_id}.{index}.{signature[:-2]}xx"),
        (event("e3", "click"), f"{request_id}.99.{signature}"),
        (event("e4", "click"), "not a decision"),
        (event("e5", "click", NOW + HOUR), good),
        (event("e6", "click", title_id="other"), good),
        (event("e7", "play"), None),
        (event("e8", "search", member_id="m1", query="x"), None),
        (event("e9", "click"), good),
    ]
    incoming = [Incoming(index=i, event=e, decision_id=d) for i, (e, d) in enumerate(batch)]
    report = service.take_in(incoming, NOW)
    assert report.accepted == 3
    reasons = {r.index: r.reason for r in report.rejected}
    assert set(reasons) == {1, 2, 3, 4, 5, 6, 7}
    assert "was not made by this service" in reasons[2]
    assert "never made" in reasons[3]
    assert "future" in reasons[5]
    assert "title_id is not the one" in reasons[6]


def test_habits_come_from_where_and_when_things_were_watched(service: Service) -> None:
    evening = Context(device="tv", hour=21, weekday=5)
    first = ask(service, "r1", context=evening).decision_ids[0]
    send(service, event("e1", "play"), decision=first)
    # Of no decision: the event itself says where.
    send(service, event("e2", "play", member_id="m1", title_id="t1", device="tablet", hour=9))
    with service.store.read() as connection:
        assert set(profiles.get(connection, "m1").habits) == {
            "device:tv", "daypart:5", "weekend", "device:tablet", "daypart:2",
        }  # fmt: skip
    at = [Context(device="tv", hour=22, weekday=6), Context(device="tablet"), Context(device="?")]
    found = [
        ask(service, f"a{i}", context=context).decisions.context.habits
        for i, context in enumerate(at)
    ]
    assert [round(max(h.values(), default=0.0)) for h in found] == [3, 1, 0]


def test_events_update_the_profile_and_the_next_choice_sees_it(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    send(service, event("e1", "play"), event("e2", "thumbs_up"), decision=first)
    ask(service, "r2", now=NOW + service.half_life)
    with service.store.read() as connection:
        logged, _ = request_store.get(connection, "r2")
    assert logged.context.genres == pytest.approx({"TV Horror": 1.0, "TV Dramas": 1.0})


def test_titles_watched_are_part_of_the_next_choices_context(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    send(service, event("e1", "play", seconds_watched=600, duration_seconds=800), decision=first)
    ask(service, "r2", now=NOW + service.half_life)
    with service.store.read() as connection:
        logged, _ = request_store.get(connection, "r2")
    assert logged.context.played == {"t0": 0.375}


def test_what_comes_after_its_unit_was_settled_is_marked_late(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    send(service, event("e1", "impression"), decision=first)
    assert units(service, NOW + 25 * HOUR) == [("t0", 0.0)]
    late = NOW + 26 * HOUR
    assert send(service, event("e2", "play", NOW + HOUR), decision=first, now=late).accepted == 1
    with service.store.read() as connection:
        assert unjoined.by_reason(connection) == {"late": 1}


def test_what_follows_another_showing_after_the_window_is_not_late(service: Service) -> None:
    """It came at once; the unit, which is the first showing's, is closed all the same."""
    first = ask(service, "r1").decision_ids[0]
    send(service, event("e1", "impression"), decision=first)
    assert units(service, NOW + 25 * HOUR) == [("t0", 0.0)]
    then = NOW + 30 * HOUR
    again = ask(service, "r2", now=then).decision_ids[0]
    for kind in ("impression", "click"):
        send(service, event(kind, kind, then), decision=again, now=then)
    with service.store.read() as connection:
        assert unjoined.by_reason(connection) == {"outside_window": 1}


def test_a_device_that_was_offline_can_still_tell(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    back = NOW + 30 * HOUR
    send(service, event("e1", "impression"), decision=first, now=back)
    assert units(service, back) == []  # what followed may still be on its way
    send(service, event("e2", "play", NOW + HOUR), decision=first, now=back + HOUR)
    assert units(service, back + 25 * HOUR) == [("t0", 1.0)]


def test_a_short_play_of_something_long_does_not_spoil_a_finished_one(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    whole = {"seconds_watched": 590.0, "duration_seconds": 600.0}
    bit = {"seconds_watched": 5.0, "duration_seconds": 5400.0}
    send(service, event("e1", "impression"), event("e2", "play", **whole),
         event("e3", "play", **bit), decision=first)  # fmt: skip
    assert units(service, NOW + 25 * HOUR) == [("t0", 1.0)]


def test_an_assumed_impression_does_not_take_a_confirmed_ones_place(service: Service) -> None:
    ask(service, "r1", confirm="server", title_ids=("t0",))
    first = ask(service, "r2", title_ids=("t0",), now=NOW + HOUR).decision_ids[0]
    later = NOW + HOUR
    batch = [event("e1", "impression", later), event("e2", "play", later)]
    send(service, *batch, decision=first, now=later)
    assert units(service, NOW + 48 * HOUR) == [("t0", 1.0)]


def test_an_old_impression_of_another_slot_does_not_catch_todays_play(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    send(service, event("e1", "impression"), decision=first)
    later = NOW + 20 * 24 * HOUR
    again = ask(service, "r2", now=later).decision_ids[0]
    send(service, event("e2", "play", later, member_id="m1", title_id="t0"), now=later)
    send(service, event("e3", "impression", later), decision=again, now=later)
    assert dict(units(service, later + 48 * HOUR)[-1:]) == {"t0": 1.0}


def test_a_repeated_answer_shows_the_picture_it_showed(service: Service) -> None:
    before = ask(service, "r1", title_ids=("t0",))
    shown = before.decisions.choices[0]
    with service.store.write() as connection:
        variant = catalog.get_variant(connection, "t0", shown.variant_id)
        catalog.put_variants(connection, [replace(variant, uri="/new.svg")], NOW)
    assert ask(service, "r1", title_ids=("t0",)).decisions == before.decisions


def test_pages_in_any_order_from_many_threads_are_all_answered(service: Service) -> None:
    """New action sets of one page lock the same rows as another's: in one order, or deadlock."""
    fill(service.store, titles=60)
    service.state.refresh()
    titles = [f"t{i}" for i in range(60)]
    orders = [titles, titles[::-1], titles[30:] + titles[:30]]

    def client(number: int) -> int:
        made = ask(service, f"r{number}", f"m{number}", title_ids=tuple(orders[number % 3]))
        return len(made.decisions.choices)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(client, range(12))) == [60] * 12
