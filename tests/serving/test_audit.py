"""A past decision is made again from the log, comes out the same, and says why."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from artwork_bandit.domain import Context, VariantStatus
from artwork_bandit.errors import InvalidInput, NotFound
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.policies.policy import Fixed
from artwork_bandit.serving.audit import audit, explanations
from artwork_bandit.serving.service import Service
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import catalog, cells, pauses, registry
from artwork_bandit.store.engine import Store
from artwork_bandit.store.unjoined import Asked, by_reason, latest
from tests.samples import NOW, patch
from tests.serving.test_service import TITLES, ask, event, send, units
from tests.simulated import Simulation

HOUR = dt.timedelta(hours=1)
DAY = 24 * HOUR


@pytest.fixture
def simulation(store: Store, database_url: str) -> Iterator[Simulation]:
    begun = Simulation.begin(store, database_url)
    yield begun
    begun.service.close()


def set_cells(service: Service, **shares: float) -> None:
    with service.store.write() as connection:
        cells.set_shares(connection, shares)
    service.state.refresh()


def test_decisions_of_every_cell_come_out_the_same(simulation: Simulation) -> None:
    service = simulation.service
    simulation.visits(400)
    made = retrain(service.store, SLOTS["artwork"], simulation.settings, simulation.later())
    with service.store.write() as connection:
        registry.promote(connection, made.version, "test", simulation.now)
    set_cells(service, explore=0.3, baseline=0.3, live=0.4)
    seen = set()
    for i in range(60):
        context = Context(
            device="tv", genres={"TV Horror": float(i), "Docuseries": 3.0},
            played={"t0": 1.0, "t1": 0.5}, habits={"TV Horror": 2.0},
        )  # fmt: skip
        answer = ask(service, f"a{i}", f"someone{i}", context=context)
        for decision_id in answer.decision_ids:
            found = audit(service, decision_id)
            assert found.derived is not None, found.why_not
            assert found.derived.same
            assert sum(found.derived.explanation.pmf) == pytest.approx(1)
        seen.add(answer.decisions.cell)
        if answer.decisions.cell == "live":
            again = found.derived.explanation
            assert again.scores is not None
            # The parts shown are parts of what sets the variant's score apart from the mean.
            apart = again.scores[again.index] - float(np.mean(again.scores))
            assert again.reasons
            parts = sum(r.value for r in again.reasons)
            assert abs(parts - apart) < 0.2 * (
                abs(apart) + max(abs(r.value) for r in again.reasons)
            )
    assert seen == {"explore", "baseline", "live"}


def test_a_decision_stays_the_same_when_the_world_moves_on(service: Service) -> None:
    set_cells(service, baseline=1.0)
    answer = ask(service, "r1")
    with service.store.write() as connection:  # another default, other features, one variant less
        other = catalog.get_variant(connection, "t0", "t0-a2")
        catalog.put_variants(connection, [replace(other, is_default=True)], NOW)
        patch(connection, "t0", "t0-a0", {"status": VariantStatus.RETIRED}, NOW)
    service.state.refresh()
    found = audit(service, answer.decision_ids[0])
    assert found.choice.variant_id == "t0-a0"
    assert found.derived is not None
    assert found.derived.same
    assert ask(service, "r2").decisions.choices[0].variant_id == "t0-a2"


def test_a_log_row_that_was_tampered_with_does_not_come_out_the_same(service: Service) -> None:
    set_cells(service, explore=1.0)
    answers = [ask(service, f"r{i}", f"m{i}") for i in range(20)]
    from artwork_bandit.store.tables import requests

    with service.store.write() as connection:  # as if another member had been asked for
        connection.execute(requests.update().values(member_id="somebody else"))
    found = [audit(service, d) for a in answers for d in a.decision_ids]
    assert any(f.derived is not None and not f.derived.same for f in found)


def test_what_came_of_it(service: Service) -> None:
    first, second, _ = ask(service, "r1").decision_ids
    send(service, event("e1", "impression"), decision=first)
    send(service, event("e2", "play", NOW + HOUR), decision=first, now=NOW + HOUR)
    assert audit(service, first).reward is None
    assert "counts until 2026" in (audit(service, first).why_no_reward or "")
    units(service, NOW + 25 * HOUR)
    found = audit(service, first)
    assert (found.shown_at, [e.event_id for e in found.events], found.reward) == (NOW, ["e2"], 1.0)
    unseen = audit(service, second)
    assert (unseen.shown_at, unseen.events, unseen.reward) == (None, [], None)
    assert "no impression has come" in (unseen.why_no_reward or "")
    assert (found.why_no_reward, found.counts_for) == (None, None)


def test_why_there_is_no_reward_is_said(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    play = event("e0", "play", NOW + HOUR)
    send(service, play, decision=first, now=NOW + HOUR)
    assert [e.unjoined for e in audit(service, first).events] == ["not_shown"]
    send(service, event("e1", "impression"), decision=first, now=NOW + HOUR)
    again = ask(service, "r2", now=NOW + HOUR).decision_ids[0]
    send(service, event("e2", "impression", NOW + HOUR), decision=again, now=NOW + HOUR)
    after = event("e3", "click", NOW + 25 * HOUR)
    send(service, after, decision=first, now=NOW + 25 * HOUR)
    told = {e.event_id: e.unjoined for e in audit(service, first).events}
    assert told == {"e0": None, "e3": "outside_window"}
    late = event("e4", "click", NOW + 25 * HOUR)  # the unit's window is over, if not its own
    send(service, late, decision=again, now=NOW + 25 * HOUR)
    assert {e.event_id: e.unjoined for e in audit(service, again).events} == {
        "e4": "outside_window"
    }
    named = event(
        "e5", "play", NOW + 2 * HOUR
    )  # names what was never seen, and counts all the same
    unseen = ask(service, "r3", now=NOW + HOUR).decision_ids[0]
    send(service, named, decision=unseen, now=NOW + 2 * HOUR)
    assert {e.event_id: e.unjoined for e in audit(service, unseen).events} == {"e5": None}
    told = {e.event_id: e.unjoined for e in audit(service, first).events}
    assert told == {"e0": None, "e5": None, "e3": "outside_window"}
    found = audit(service, again)
    assert (found.reward, found.counts_for) == (None, first)
    assert (
        f"shown before within the draw period, and what follows counts until {NOW + DAY:%F %T}Z"
        in (found.why_no_reward or "")
    )
    units(service, NOW + 50 * HOUR)
    assert (audit(service, first).reward, audit(service, first).counts_for) == (1.0, None)
    found = audit(service, again)
    assert (found.reward, found.counts_for) == (None, first)
    assert "an earlier decision has the reward" in (found.why_no_reward or "")
    asked = Asked(NOW + 60 * HOUR, {"artwork": 24 * HOUR})
    with service.store.read() as connection:
        assert by_reason(connection, asked=asked) == {"outside_window": 2}
        assert {e.event_id for e in latest(connection, "outside_window", None, None, 9, asked)} == {
            "e3", "e4"
        }  # fmt: skip


def test_what_nobody_is_known_to_have_seen_and_what_waits_is_told(service: Service) -> None:
    first, second, _ = ask(service, "r1").decision_ids
    send(service, event("e1", "play", NOW + HOUR), decision=first, now=NOW + HOUR)
    send(service, event("e2", "play", NOW + 2 * HOUR), decision=first, now=NOW + 2 * HOUR)
    send(service, event("i", "impression"), decision=second, now=NOW + HOUR)
    alone = event("e3", "play", NOW + HOUR, member_id="m1", title_id="t1")
    send(service, alone, now=NOW + HOUR)

    def told(hours: int) -> dict[str, int]:
        asked = Asked(NOW + hours * HOUR, {"artwork": 24 * HOUR})
        with service.store.read() as connection:
            found = by_reason(connection, None, None, asked)
            for reason, count in found.items():
                assert len(latest(connection, reason, None, None, 9, asked)) == count
            assert len(latest(connection, "not_shown", None, None, 1, asked)) <= 1
        return found

    assert told(3) == {"waiting": 1}  # the others' impression may come
    assert told(40) == {"not_shown": 2, "waiting": 1}  # nobody has joined what may be followed
    units(service, NOW + 40 * HOUR)
    assert told(40) == {"not_shown": 2}
    send(service, event("late", "impression"), decision=first, now=NOW + 40 * HOUR)
    assert told(40) == {}  # to be settled
    units(service, NOW + 80 * HOUR)
    found = audit(service, first)
    assert (found.reward, found.reward_rule) == (1.0, "artwork-1")
    assert told(80) == {}
    with service.store.read() as connection:  # as of another window
        asked = Asked(NOW + 80 * HOUR, {"artwork": HOUR})
        assert by_reason(connection, asked=asked) == {"outside_window": 1}
        assert by_reason(connection, NOW + 2 * HOUR, asked=asked) == {"outside_window": 1}
        assert by_reason(connection, None, NOW + 2 * HOUR, asked) == {}


def test_what_names_a_fallback_is_told_unless_it_counts_all_the_same(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("artwork_bandit.serving.chooser.draw", None)
        default = ask(service, "r1").decision_ids[0]
    send(service, event("i1", "impression"), decision=default)
    send(service, event("e1", "play", NOW + HOUR), decision=default, now=NOW + HOUR)
    assert [e.unjoined for e in audit(service, default).events] == ["fallback"]
    with service.store.read() as connection:
        assert by_reason(connection) == {"fallback": 1}
    drawn = ask(service, "r2").decision_ids[0]
    send(service, event("i2", "impression"), decision=drawn, now=NOW + HOUR)
    assert [e.unjoined for e in audit(service, default).events] == [None]
    units(service, NOW + 30 * HOUR)
    assert audit(service, drawn).reward == 1.0


def test_what_waits_to_be_joined_is_shown(service: Service) -> None:
    first = ask(service, "r1").decision_ids[0]
    send(service, event("i", "impression"), decision=first)
    alone = event("e", "play", NOW + HOUR, member_id="m1", title_id="t0")
    send(service, alone, now=NOW + HOUR)
    assert [(e.event_id, e.unjoined) for e in audit(service, first).events] == [("e", None)]
    units(service, NOW + 25 * HOUR)
    assert [(e.event_id, e.unjoined) for e in audit(service, first).events] == [("e", None)]


def test_what_follows_an_assumed_impression_too_late_is_late(service: Service) -> None:
    first = ask(service, "r1", confirm="server").decision_ids[0]
    units(service, NOW + 25 * HOUR)
    send(service, event("e1", "click", NOW + HOUR), decision=first, now=NOW + 26 * HOUR)
    with service.store.read() as connection:
        assert by_reason(connection) == {"late": 1}


def test_forged_unknown_and_unlogged_ids(service: Service) -> None:
    answer = ask(service, "r1")
    request_id, _, signature = answer.decision_ids[0].split(".")
    with pytest.raises(InvalidInput, match="never made"):
        audit(service, f"{request_id}.99.{signature}")
    with pytest.raises(InvalidInput, match="not of the form"):  # one decision has one id
        audit(service, f"{request_id}.00.{signature}")
    with pytest.raises(InvalidInput, match="was not made by this service"):
        audit(service, f"{request_id}.0.{signature[::-1]}")
    with pytest.raises(NotFound, match="never answered"):
        audit(service, service.decision_ids.make("never", 1)[0])
    preview = ask(service, "p1", preview=True)
    with pytest.raises(NotFound, match="in no log"):
        audit(service, preview.decision_ids[0])


def test_an_answer_can_be_explained_at_once(service: Service) -> None:
    set_cells(service, explore=1.0)
    for request, preview in (("r1", False), ("p1", True)):
        answer = ask(service, request, title_ids=("t0", "nowhere"), preview=preview)
        known, unknown = explanations(service, answer.decisions, answer.action_sets)
        assert unknown is None
        assert known is not None
        assert known.same
        assert known.explanation.pmf == pytest.approx([0.25] * 4)


def test_a_pause_gives_everybody_the_default_and_is_logged_as_such(service: Service) -> None:
    set_cells(service, explore=1.0)
    with service.store.write() as connection:
        pauses.switch(connection, "artwork", True, "a picture is wrong", NOW)
    service.state.refresh()
    for i in range(20):
        made = ask(service, f"r{i}", f"m{i}").decisions
        assert (made.cell, made.policy) == ("paused", "paused")
        assert [(c.variant_id, c.propensity) for c in made.choices] == [
            (f"{t}-a0", 1.0) for t in TITLES
        ]
    found = audit(service, service.decision_ids.make("r3", 1)[0])
    assert found.derived is not None
    assert found.derived.same
    with service.store.write() as connection:
        pauses.switch(connection, "artwork", False, "mended", NOW)
    service.state.refresh()
    assert ask(service, "after").decisions.cell == "explore"


def test_a_title_whose_exploration_is_paused_is_not_drawn_for(service: Service) -> None:
    set_cells(service, explore=1.0)
    with service.store.write() as connection:
        catalog.pause_exploration(connection, "t1", True, NOW)
    service.state.refresh()
    others = set()
    for i in range(40):
        answer = ask(service, f"r{i}", f"m{i}")
        choice = answer.decisions.choices[1]
        # Uniform has no best: the default, and with certainty, so it supports nothing else.
        assert (choice.variant_id, choice.propensity, choice.index) == ("t1-a0", 1.0, 0)
        others.add(answer.decisions.choices[0].variant_id)
        found = audit(service, answer.decision_ids[1])
        assert found.action_set is not None
        assert len(found.action_set.variant_ids) == 4
        assert found.derived is not None
        assert found.derived.same
    assert len(others) == 4
    assert Fixed().bind(service.state.current.catalogs["artwork"].columns).floor_share == 0


def test_a_preview_shows_what_is_forced_and_leaves_no_trace(service: Service) -> None:
    with service.store.write() as connection:
        patch(connection, "t0", "t0-a3", {"status": VariantStatus.PAUSED}, NOW)
    service.state.refresh()
    seen = ask(service, "p1", preview=True, force=("t0-a3", "t2-a1"))
    assert [c.variant_id for c in seen.decisions.choices][::2] == ["t0-a3", "t2-a1"]
    assert [c.reason for c in seen.decisions.choices] == ["forced", None, "forced"]
    assert [c.propensity is None for c in seen.decisions.choices] == [True, False, True]
    report = send(service, event("e1", "impression"), decision=seen.decision_ids[0])
    assert report.accepted == 1
    assert units(service, NOW + 48 * HOUR) == []
    assert ask(service, "p1").decisions.choices != seen.decisions.choices  # the id is free
    for other in ("nothing", "t9-a0"):
        with pytest.raises(InvalidInput, match=f"no title asked for has '{other}'"):
            ask(service, "p2", preview=True, force=("t0-a3", other))
