"""An abrupt change of what members like, from the log to the next model, on both databases."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from artwork_bandit.errors import NotEnoughData
from artwork_bandit.operations import changes as changing
from artwork_bandit.operations import held_out
from artwork_bandit.operations import worker as working
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.operations.worker import Worker
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import parquet, registry, replay
from artwork_bandit.store.window import Window
from artwork_bandit.training import change
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def test_a_change_is_found_remembered_and_learned_from(simulation: Simulation) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    first = retrain(store, ARTWORK, settings, simulation.later())
    assert first.promoted
    simulation.visits(200)
    assert first.changed_at is None
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at is None
    changed = simulation.now
    simulation.world = simulation.world.swapped(np.random.default_rng(4))
    simulation.visits(500)
    with pytest.raises(NotEnoughData, match="had learned ceased to be true"):
        retrain(store, ARTWORK, settings, simulation.later(), warm="always")
    then = retrain(store, ARTWORK, settings, simulation.later())
    assert then.changed_at is not None
    assert abs(then.changed_at - changed) < dt.timedelta(minutes=10)  # 60 of 500 visits
    with store.read() as connection:
        record = registry.get(connection, then.version)
        before, after = (
            registry.load(connection, v).policy(v) for v in (first.version, then.version)
        )
    assert record.settings["changed_at"] == then.changed_at.isoformat()
    assert record.settings["effective_rows"] < record.rows
    assert record.settings["log_rows_since_change"] == pytest.approx(1_900, abs=200)
    assert record.settings["priors"]["genre_cross"] > 0
    assert simulation.true_value(after) > 1.05 * simulation.true_value(before)
    said = f"what had been learned ceased to be true at {then.changed_at:%Y-%m-%d %H:%M}Z"
    assert record.reason.startswith(said)
    assert "having learned from far more since the change" in record.reason
    with store.write() as connection:  # a model that knows of it serves: it is remembered
        registry.promote(connection, then.version, "for the test", simulation.now)
    simulation.visits(350)
    outcomes = [
        retrain(store, ARTWORK, settings, simulation.later(), warm=warm)
        for warm in ("always", "never")
    ]
    assert [o.changed_at for o in outcomes] == [then.changed_at] * 2
    with store.read() as connection:
        warm, whole = (registry.get(connection, o.version).settings for o in outcomes)
    assert warm["effective_rows"] == pytest.approx(whole["effective_rows"], rel=0.5)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_change_that_passes_by_is_forgotten_where_no_model_serves_that_knows_it(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    assert retrain(store, ARTWORK, settings, simulation.later()).promoted
    monkeypatch.setattr(held_out, "gate", lambda *_: ("rejected", "for the test", {}))
    world = simulation.world
    simulation.world = world.swapped(np.random.default_rng(4))
    simulation.visits(450)
    found = retrain(store, ARTWORK, settings, simulation.later()).changed_at
    assert found is not None
    simulation.visits(100)
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at == found
    simulation.world = world
    simulation.visits(1_200)
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_model_that_knows_little_since_a_change_is_not_asked_for_another(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    assert retrain(store, ARTWORK, settings, simulation.later()).promoted
    simulation.world = simulation.world.swapped(np.random.default_rng(4))
    simulation.visits(500)
    then = retrain(store, ARTWORK, settings, simulation.later())
    with store.write() as connection:
        registry.promote(connection, then.version, "for the test", simulation.now)
    monkeypatch.setattr(held_out, "gate", lambda *_: ("rejected", "for the test", {}))
    simulation.world = simulation.world.swapped(np.random.default_rng(5))
    simulation.visits(900)
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at == then.changed_at
    monkeypatch.setattr(change, "FEWEST_LEARNED", 1_000)
    found = retrain(store, ARTWORK, settings, simulation.later()).changed_at
    assert found > then.changed_at


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_better_informed_model_is_asked_beside_one_that_says_next_to_nothing(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    monkeypatch.setattr(held_out, "gate", lambda *_: ("rejected", "for the test", {}))
    simulation.visits(900)
    informed = retrain(store, ARTWORK, settings, simulation.later()).version
    with store.write() as connection:
        record, made = registry.get(connection, informed), registry.load(connection, informed)
        model = made.model
        faint = replace(
            made,
            model=replace(
                model, weights=0.02 * model.weights, own_effects=0.02 * model.own_effects
            ),
            canaries=[msgspec.structs.replace(c, score=0.02 * c.score) for c in made.canaries],
        )
        version = registry.register(
            connection, slot="artwork", data=faint.encode(), rows=record.rows // 10,
            window=(record.window_from, record.window_to), settings=record.settings,
            now=simulation.now,
        )  # fmt: skip
        registry.promote(connection, version, "for the test", simulation.now)
    changed = simulation.now
    simulation.world = simulation.world.swapped(np.random.default_rng(4))
    simulation.visits(700)
    monkeypatch.setattr(changing, "NOT_LEARNED", 0.9)  # that one has learned from too much
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at is None
    monkeypatch.undo()
    monkeypatch.setattr(held_out, "gate", lambda *_: ("rejected", "for the test", {}))
    found = retrain(store, ARTWORK, settings, simulation.later()).changed_at
    assert found is not None
    assert abs(found - changed) < dt.timedelta(minutes=20)
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at == found


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_another_log_was_told_is_another_story(simulation: Simulation, tmp_path: Path) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    assert retrain(store, ARTWORK, settings, simulation.later()).promoted
    join_rewards(store, ARTWORK, settings, simulation.later())
    files = tmp_path / "log.parquet"
    parquet.write(files, replay.blocks(store, Window(slot="artwork")))
    simulation.world = simulation.world.swapped(np.random.default_rng(4))
    simulation.visits(500)
    known = retrain(store, ARTWORK, settings, simulation.later()).changed_at
    assert known is not None
    elsewhere = retrain(store, ARTWORK, settings, simulation.later(), log=files)
    assert elsewhere.changed_at is None
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at == known


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_worker_trains_sooner_where_what_serves_has_ceased_to_be_true(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again when what came since the change has grown, not the log."""
    worker = Worker(simulation.service.store, replace(simulation.settings, train_seconds=60))
    monkeypatch.setattr(working, "GROWN", 0.6)

    def trained() -> str | None:
        done = worker.once(simulation.later())
        assert done is not None
        return done[0].trained

    simulation.visits(900)
    assert str(trained()).startswith("model 1 live")
    monkeypatch.setattr(held_out, "gate", lambda *_: ("rejected", "for the test", {}))
    simulation.visits(60)
    assert trained() is None  # a little more, and nothing has changed
    simulation.world = simulation.world.swapped(np.random.default_rng(4))
    simulation.visits(450)
    assert "ceased to be true" in str(trained())
    simulation.visits(60)
    assert trained() is None
    simulation.visits(450)
    assert str(trained()).startswith("model 3 rejected: what had been learned ceased")
    with simulation.service.store.write() as connection:  # one that knows of it serves
        registry.promote(connection, 3, "for the test", simulation.now)
    simulation.visits(60)
    assert trained() is None
    simulation.visits(900)  # the whole log has grown by less than half
    assert str(trained()).startswith("model 4 rejected")
