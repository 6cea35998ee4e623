"""What a training leaves behind, whatever happens while it goes on."""

import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from artwork_bandit.operations import held_out, reading
from artwork_bandit.operations import retrain as retraining
from artwork_bandit.operations.changes import times_learned
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.model_editing import GUARD
from artwork_bandit.operations.planning import plan
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.policies.priors import Priors
from artwork_bandit.slots import SLOTS
from artwork_bandit.slots.slot import CLICKS
from artwork_bandit.store import cells, changes, parquet, registry, replay
from artwork_bandit.store.engine import Store
from artwork_bandit.store.window import Window
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def gate_meanwhile(monkeypatch: pytest.MonkeyPatch, verdict: str, act: Callable[[], None]) -> None:
    """Have something happen while a candidate is judged."""

    def judges(*_: Any) -> tuple[str, str, dict[str, Any]]:
        act()
        return verdict, "for the test", {"incumbent": "model 1", "difference": 0.0}

    monkeypatch.setattr(held_out, "gate", judges)


def edited(store: Store, simulation: Simulation, what: str, *arguments: Any) -> None:
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=simulation.later())
        getattr(editor, what)(*arguments)


@pytest.mark.parametrize("verdict", ["live", "challenger"])
def test_what_people_decide_while_a_candidate_is_judged_stands(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    assert retrain(store, ARTWORK, settings, simulation.later()).promoted
    gate_meanwhile(
        monkeypatch, verdict, lambda: edited(store, simulation, "roll_back", "artwork", "a fault")
    )
    outcome = retrain(store, ARTWORK, settings, simulation.later())
    assert (outcome.verdict, outcome.promoted) == ("candidate", False)
    with store.read() as connection:
        record = registry.get(connection, outcome.version)
        assert registry.live(connection, "artwork") is None
        assert registry.challenger(connection, "artwork") is None
        assert registry.last_promotion(connection, "artwork").reason == "a fault"
    assert record.status == "candidate"
    assert record.reason == ("model 1, which it was judged against, serves no more; for the test")


def test_whom_somebody_has_named_challenges_until_somebody_ends_it(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)

    def train(verdict: str) -> str:
        gate_meanwhile(monkeypatch, verdict, lambda: None)
        return retrain(store, ARTWORK, settings, simulation.later()).verdict

    def challenger() -> int | None:
        with store.read() as connection:
            found = registry.challenged_since(connection, "artwork")
        return None if found is None else found[0]

    first, second = retrain(store, ARTWORK, settings, simulation.later()).version, train("live")
    assert second == "live"
    assert [train("challenger"), train("challenger")] == ["challenger"] * 2
    with store.read() as connection:
        newest = registry.list_all(connection)[0].version
    assert challenger() == newest  # the gate's gives way to the gate's
    edited(store, simulation, "challenge", first)
    assert train("challenger") == "candidate"
    with store.read() as connection:
        reason = registry.list_all(connection)[0].reason
    assert reason == f"for the test, and model {first} challenges, which Ann named"
    assert train("live") == "live"
    assert challenger() == first
    with store.read() as connection:
        newest = registry.list_all(connection)[0].version
        change = changes.latest(connection)[0].change_id
    edited(store, simulation, "undo", change)
    assert challenger() == first
    with store.write() as connection:
        guard = Editor(connection=connection, author=GUARD, now=simulation.later())
        guard.promote(newest)
        guard.roll_back("artwork")
    assert challenger() == first
    edited(store, simulation, "promote", newest)
    assert challenger() is None  # it is people who choose what is compared
    assert train("challenger") == "challenger"
    its_own = challenger()
    edited(store, simulation, "challenge", its_own)
    assert train("challenger") == "candidate"  # the same, but somebody's now
    assert challenger() == its_own


def test_who_is_tried_in_the_challenger_cell_has_time_to_show_it(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    with store.write() as connection:
        cells.set_shares(connection, {"live": 0.9, "challenger": 0.1})
    begun = simulation.later()

    def train(after: dt.timedelta) -> tuple[str, str]:
        gate_meanwhile(monkeypatch, "challenger", lambda: None)
        made = retrain(store, ARTWORK, settings, begun + after)
        return made.verdict, made.reason

    assert train(dt.timedelta(0))[0] == "challenger"
    verdict, reason = train(ARTWORK.period - dt.timedelta(hours=1))
    assert verdict == "candidate"
    with store.read() as connection:
        _, since = registry.challenged_since(connection, "artwork")
    until = since + ARTWORK.period
    assert reason == f"for the test, and another challenges until {until:%Y-%m-%d %H:%M}Z"
    assert train(ARTWORK.period + dt.timedelta(hours=1))[0] == "challenger"
    with store.read() as connection:
        assert registry.challenger(connection, "artwork").version == 3


def test_who_knows_much_more_takes_the_place_of_a_challenger_at_once(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    with store.write() as connection:
        cells.set_shares(connection, {"explore": 0.9, "challenger": 0.1})
    gate_meanwhile(monkeypatch, "challenger", lambda: None)
    verdicts = []
    for visits in (500, 300, 300):
        simulation.visits(visits)
        verdicts.append(retrain(store, ARTWORK, settings, simulation.later()).verdict)
    assert verdicts == ["challenger", "candidate", "challenger"]
    with store.read() as connection:
        challenger = registry.challenger(connection, "artwork")
    assert challenger is not None
    assert challenger.version == 3


def test_who_knows_of_a_change_takes_the_place_of_a_challenger_that_does_not() -> None:
    def outgrown(one: dict[str, Any], other: dict[str, Any]) -> bool:
        return times_learned(other, one) >= retraining.OUTGROWN

    old = {"changed_at": None, "log_rows": 1_000, "log_rows_since_change": None}
    new = {"changed_at": "2026-01-21", "log_rows": 1_100, "log_rows_since_change": 200}
    more = new | {"log_rows": 1_300, "log_rows_since_change": 400}
    assert outgrown(old, new)
    assert not outgrown(new, old)
    later = new | {"changed_at": "2026-02-21", "log_rows_since_change": 100}
    assert outgrown(new, later)
    assert not outgrown(later, more)  # what was known of an earlier change is of no use
    assert outgrown(new, more)
    assert not outgrown(more, new)
    assert not outgrown(old, old | {"log_rows": 1_999})
    assert not outgrown({}, old)  # an earlier release kept no numbers


def test_who_promotes_while_the_gate_does_comes_after_it(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    versions = [retrain(store, ARTWORK, settings, simulation.later()).version for _ in range(2)]
    ann = threading.Thread(target=edited, args=(store, simulation, "promote", versions[1]))
    register = registry.register

    def slowly(*arguments: Any, **more: Any) -> int:
        ann.start()
        ann.join(0.5)
        assert ann.is_alive()
        return register(*arguments, **more)

    monkeypatch.setattr(registry, "register", slowly)
    gate_meanwhile(monkeypatch, "live", lambda: None)
    outcome = retrain(store, ARTWORK, settings, simulation.later())
    ann.join(30)
    assert outcome.promoted
    with store.read() as connection:
        told = [c for c in changes.latest(connection) if c.action == "model promoted"]
        assert registry.live(connection, "artwork").version == versions[1]
    assert [(c.author, c.before["live"], c.after["live"]) for c in told[:2]] == [
        ("Ann", outcome.version, versions[1]), ("gate", versions[0], outcome.version)
    ]  # fmt: skip


def test_what_is_rejected_is_rejected_whatever_serves_by_then(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(300)
    gate_meanwhile(monkeypatch, "rejected", lambda: None)
    version = retrain(store, ARTWORK, settings, simulation.later()).version
    gate_meanwhile(monkeypatch, "rejected", lambda: edited(store, simulation, "promote", version))
    assert retrain(store, ARTWORK, settings, simulation.later()).verdict == "rejected"


def test_a_training_that_ends_while_it_judges_leaves_no_model(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends() -> None:
        raise KeyboardInterrupt

    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    with monkeypatch.context() as patched:
        gate_meanwhile(patched, "live", ends)
        with pytest.raises(KeyboardInterrupt):
            retrain(store, ARTWORK, settings, simulation.later())
    with store.read() as connection:
        assert registry.list_all(connection) == []
    assert retrain(store, ARTWORK, settings, simulation.later()).promoted


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_priors_chosen_on_another_log_or_under_another_rule_are_not_taken_over(
    simulation: Simulation,
) -> None:
    store, settings, now = simulation.service.store, simulation.settings, simulation.later()
    simulation.visits(100)
    join_rewards(store, ARTWORK, settings, simulation.later())
    chosen = Priors(own=0.4)
    name = ReplaySource.of(store, None, "artwork", None, None).name

    def taken_over(log: str, rule: str) -> Priors | None:
        made = {
            "priors": msgspec.to_builtins(chosen), "tuned_on_rows": 30_000, "log": log,
            "reward_rule": rule,
        }  # fmt: skip
        with store.write() as connection:
            registry.register(
                connection, slot="artwork", data=b"", window=(None, None), rows=30_000,
                settings=made, now=now,
            )  # fmt: skip
        return plan(store, ARTWORK, settings, simulation.later()).how.priors(40_000)

    assert taken_over("elsewhere.parquet", ARTWORK.reward.version) is None
    assert taken_over(name, CLICKS.version) is None
    assert taken_over(name, ARTWORK.reward.version) == chosen


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_several_processes_read_a_log_in_files_and_make_the_same_model(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    store, settings = simulation.service.store, simulation.settings
    simulation.visits(500)
    join_rewards(store, ARTWORK, settings, simulation.later())
    parquet.write(tmp_path / "whole", replay.blocks(store, Window()))
    files = tmp_path / "log.parquet"
    pq.write_table(pq.read_table(tmp_path / "whole"), files, row_group_size=600)
    started: list[int] = []
    pool = reading._pool
    monkeypatch.setattr(reading, "_pool", lambda n: started.append(n) or pool(n))
    monkeypatch.setattr(reading, "LARGE", 500)
    hashes = []
    for processes in (1, 2):
        monkeypatch.setattr(retraining, "reading_processes", lambda _, n=processes: n)
        version = retrain(store, ARTWORK, settings, simulation.later(), log=files).version
        with store.read() as connection:
            hashes.append(registry.get(connection, version).sha256)
    assert hashes[0] == hashes[1]
    assert started == [2]


def test_what_the_whole_held_out_log_cannot_judge_is_judged_by_what_was_drawn_at_random(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    simulation.visits(600)
    first = retrain(store, ARTWORK, simulation.settings, simulation.later())
    assert first.verdict == "live"
    assert "at random alone" not in first.reason
    with store.write() as connection:
        cells.set_shares(connection, {"explore": 0.5, "live": 0.5})
    simulation.service.state.refresh()
    simulation.visits(600)
    judged: list[tuple[int, int]] = []
    answer, gate = held_out.judge.answer, held_out.gate

    def answers(source: ReplaySource, question: Any, **more: Any) -> Any:
        drawn = source.drawn_by("uniform")
        assert drawn is not None
        judged.append((source.rows(), drawn.rows()))
        return answer(source, question, **more)

    def refuses_first(*arguments: Any) -> tuple[str, str, dict[str, Any]]:
        if len(judged) <= 2:  # both cells together, and all by their own propensities
            return "rejected", "cannot judge it", {"difference": None, "incumbent": "model 1"}
        return gate(*arguments)

    monkeypatch.setattr(held_out.judge, "answer", answers)
    monkeypatch.setattr(held_out, "gate", refuses_first)
    made = retrain(store, ARTWORK, simulation.settings, simulation.later())
    (rows, drawn), all_rows, (again, all_drawn) = judged
    assert all_rows == (rows, drawn)
    assert rows > drawn == again == all_drawn > 0
    assert made.reason.endswith("; by what was drawn at random alone")
    assert made.metrics["held_out_rows"] == again
