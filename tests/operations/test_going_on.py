"""Retraining that goes on from the live model, on both databases."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from artwork_bandit.domain import VariantStatus
from artwork_bandit.errors import DamagedModel, InvalidInput, NotEnoughData
from artwork_bandit.operations import held_out
from artwork_bandit.operations import retrain as retraining
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.operations.worker import Worker
from artwork_bandit.policies.policy import Uniform
from artwork_bandit.slots import SLOTS
from artwork_bandit.slots.slot import CLICKS
from artwork_bandit.store import catalog, parquet, registry, replay
from artwork_bandit.store.tables import models
from artwork_bandit.store.window import Window
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def test_only_what_came_since_is_read_and_the_model_is_no_worse(simulation: Simulation) -> None:
    store, settings = simulation.service.store, simulation.settings
    with pytest.raises(NotEnoughData, match="log is empty"):
        retrain(store, ARTWORK, settings, simulation.later(), warm="always")
    simulation.visits(700)
    join_rewards(store, ARTWORK, settings, simulation.later())
    with pytest.raises(NotEnoughData, match="no model is live; train without --warm"):
        retrain(store, ARTWORK, settings, simulation.later(), warm="always")
    first = retrain(store, ARTWORK, settings, simulation.later())
    assert first.promoted
    assert (first.started_from, first.new_rows) == (None, first.rows)
    with pytest.raises(NotEnoughData, match="0 rows came after what model 1 learned from"):
        retrain(store, ARTWORK, settings, simulation.later(), warm="always")
    simulation.service.state.refresh()
    simulation.visits(700)
    then = retrain(store, ARTWORK, settings, simulation.later(), warm="always")
    whole = retrain(store, ARTWORK, settings, simulation.later(), warm="never")
    assert then.started_from == 1
    assert then.rows == first.rows + then.new_rows
    with store.read() as connection:
        records = [registry.get(connection, v) for v in (1, then.version, whole.version)]
        models = [registry.load(connection, r.version).policy(r.version) for r in records]
        next_to = dt.timedelta(microseconds=1)
        since, until = (records[i].window_to + next_to for i in (0, 1))
        window = Window(since=since, until=until)
        between = replay.span(connection, window)
    assert records[1].window_from == records[0].window_from
    assert records[1].window_to == records[2].window_to
    assert between[0] == then.new_rows + records[1].settings["rows_left_out"]
    assert records[1].settings["started_from"] == 1
    uniform = simulation.true_value(Uniform())
    gained = [simulation.true_value(m) / uniform - 1 for m in models]
    assert gained[1] > 0.9 * gained[2] > 0.1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_so_many_go_on_in_a_row_and_then_the_whole_log_is_learned_from(
    simulation: Simulation,
) -> None:
    store, settings = simulation.service.store, replace(simulation.settings, warm_starts=2)
    started = []
    named = []
    for _ in range(4):
        simulation.visits(200)
        outcome = retrain(store, ARTWORK, settings, simulation.later())
        with store.write() as connection:  # whatever the gate says
            registry.promote(connection, outcome.version, "for the test", simulation.now)
            made = registry.get(connection, outcome.version).settings
            named.append(made["misleading"])
            if outcome.version == 1:  # as if it had been found
                made = {**made, "misleading": {"t0-a1": 0.9}}
                connection.execute(sa.update(models).values(settings=made))
        started.append(outcome.started_from)
    assert started == [None, 1, 2, None]
    assert named == [{}, {"t0-a1": 0.9}, {"t0-a1": 0.9}, {}]
    simulation.visits(200)
    clicks = replace(ARTWORK, reward=CLICKS)
    other = replace(settings, training_half_life_days=7.0)
    for slot, how, why in (
        (clicks, settings, "learned rewards of rule 'artwork-1', which is 'clicks-1' now"),
        (ARTWORK, other, "training_half_life_days 30, which is 7 now"),
        (ARTWORK, replace(settings, context_products="device*genre"), "other context_products"),
    ):
        with pytest.raises(NotEnoughData, match=why):
            retrain(store, slot, how, simulation.later(), warm="always")
    assert retrain(store, ARTWORK, other, simulation.later()).started_from is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_whole_log_is_learned_from_though_no_candidate_goes_live(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, replace(simulation.settings, warm_starts=2)
    outcomes = []
    for visits in (400, 150, 150, 150, 150):
        simulation.visits(visits)
        outcomes.append(retrain(store, ARTWORK, settings, simulation.later()))
        monkeypatch.setattr(held_out, "gate", lambda *_: ("rejected", "for the test", {}))
    assert [o.started_from for o in outcomes] == [None, 1, 1, None, 1]
    assert [o.why_whole for o in outcomes] == [
        "no model is live", None, None, "2 trainings in a row went on", None
    ]  # fmt: skip


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_where_too_few_new_rows_teach_the_whole_log_is_learned_from(
    simulation: Simulation,
) -> None:
    store, settings = simulation.service.store, replace(simulation.settings, warm_starts=9)
    simulation.visits(200)
    assert retrain(store, ARTWORK, settings, simulation.later()).promoted
    with store.write() as connection:  # one picture of each title is left
        for variant in catalog.list_variants(connection):
            if not variant.is_default:
                retired = replace(variant, status=VariantStatus.RETIRED)
                catalog.put_variants(connection, [retired], simulation.now)
    simulation.service.state.refresh()
    simulation.visits(150)
    second = retrain(store, ARTWORK, settings, simulation.later())  # of the rows held out before
    assert second.started_from == 1
    with store.write() as connection:
        registry.promote(connection, second.version, "for the test", simulation.now)
    simulation.visits(150)
    then = retrain(store, ARTWORK, settings, simulation.later())
    assert then.started_from is None
    assert "the log after the model's last row" in then.why_whole
    with pytest.raises(NotEnoughData, match="rows that can teach"):
        retrain(store, ARTWORK, settings, simulation.later(), warm="always")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_log_in_files_can_be_gone_on_with_but_the_database_not_from_files(
    simulation: Simulation, tmp_path: Path
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(200)
    first = retrain(store, ARTWORK, settings, simulation.later())
    simulation.visits(200)
    join_rewards(store, ARTWORK, settings, simulation.later())
    path = tmp_path / "log.parquet"
    parquet.write(path, replay.blocks(store, Window()))
    then = retrain(store, ARTWORK, settings, simulation.later(), log=path, warm="always")
    assert then.started_from == first.version
    with store.write() as connection:
        registry.promote(connection, then.version, "for the test", simulation.now)
    simulation.visits(150)
    with pytest.raises(NotEnoughData, match="learned from files, not from the database"):
        retrain(store, ARTWORK, settings, simulation.later(), warm="always")
    with pytest.raises(InvalidInput, match="leave out --tune or --warm"):
        retrain(store, ARTWORK, settings, simulation.later(), warm="always", tune="always")


def test_a_worker_goes_on_once_the_log_has_grown_by_a_hundredth(simulation: Simulation) -> None:
    settings = replace(simulation.settings, warm_starts=5, train_seconds=1.0)
    worker = Worker(simulation.service.store, settings)
    simulation.visits(600)
    (first, _) = worker.once(simulation.later())
    assert "model 1 live" in first.trained
    simulation.visits(150)
    (then, _) = worker.once(simulation.later())
    assert "model 2" in then.trained
    with simulation.service.store.read() as connection:
        assert registry.get(connection, 2).settings["started_from"] == 1
    # A hundredth is not enough for the whole log to be learned from.
    worker.close()
    worker = Worker(simulation.service.store, replace(settings, warm_starts=1))
    simulation.visits(30)
    (last, _) = worker.once(simulation.later())
    worker.close()
    assert (last.joined > 100, last.trained) == (True, None)


def test_where_going_on_comes_to_no_sound_model_the_whole_log_is_learned_from(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, replace(simulation.settings, warm_starts=5)
    simulation.visits(700)
    first = retrain(store, ARTWORK, settings, simulation.later())
    assert first.promoted
    simulation.service.state.refresh()
    simulation.visits(700)
    train = retraining.training.train

    def damaged(*arguments: Any) -> Any:
        if arguments[-1] is not None:  # what is gone on from
            raise DamagedModel("for the test")
        return train(*arguments)

    monkeypatch.setattr(retraining.training, "train", damaged)
    made = retrain(store, ARTWORK, settings, simulation.later())
    assert (made.started_from, made.why_whole) == (None, "for the test")
    assert made.rows > first.rows
    simulation.service.state.refresh()
    simulation.visits(700)
    with pytest.raises(DamagedModel, match="for the test"):  # who asks for it is told
        retrain(store, ARTWORK, settings, simulation.later(), warm="always")
