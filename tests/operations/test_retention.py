"""Models that never served are deleted after a while, all others are kept."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from artwork_bandit.domain import ModelRecord
from artwork_bandit.errors import BrokenModel
from artwork_bandit.operations import retention
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.retention import delete_old
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import models
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def like(store: Store, version: int, made_at: dt.datetime, status: str = "candidate") -> int:
    """Register a model's bytes again, as made at an instant."""
    with store.write() as connection:
        record = registry.get(connection, version)
        return registry.register(
            connection, slot="artwork", data=registry.load(connection, version).encode(),
            window=(record.window_from, record.window_to), rows=record.rows,
            settings=record.settings, metrics=record.metrics, now=made_at,
            status="rejected" if status == "rejected" else "candidate", reason="for the test",
        )  # fmt: skip


def record(store: Store, version: int) -> ModelRecord:
    with store.read() as connection:
        return registry.get(connection, version)


@pytest.fixture
def made(simulation: Simulation) -> int:
    simulation.visits(300)
    simulation.service.state.refresh()
    return retrain(
        simulation.service.store, ARTWORK, simulation.settings, simulation.later()
    ).version


def test_what_never_served_is_deleted_and_what_is_known_of_it_stays(
    simulation: Simulation, made: int
) -> None:
    store, settings = simulation.service.store, simulation.settings
    now = simulation.later()
    old = now - dt.timedelta(days=settings.keep_models_days, seconds=1)
    rejected, candidate, was_live, challenged, challenges, is_live = (
        like(store, made, old, status) for status in ("rejected", *["candidate"] * 5)
    )
    young = like(store, made, old + dt.timedelta(seconds=2))
    with store.write() as connection:
        registry.promote(connection, was_live, "for the test", now)
        registry.promote(connection, is_live, "for the test", now)
        registry.challenge(connection, challenged, now)
        registry.challenge(connection, challenges, now)
    assert delete_old(store, "artwork", settings, now) == [rejected, candidate]
    assert delete_old(store, "artwork", settings, now) == []
    with store.read() as connection:
        sizes = sa.select(models.c.version, sa.func.length(models.c.bundle).label("size"))
        stored = {row.version: row.size for row in connection.execute(sizes)}
        assert stored[rejected] == stored[candidate] == 0
        for kept in (was_live, is_live, challenged, challenges, young):
            registry.load(connection, kept)
    gone, stays = record(store, candidate), record(store, was_live)
    assert gone.deleted_at == now
    assert stays.deleted_at is None
    assert replace(gone, version=0, deleted_at=None, status="") == replace(
        stays, version=0, status=""
    )


def test_a_model_that_was_deleted_is_refused_in_words(simulation: Simulation, made: int) -> None:
    store, settings = simulation.service.store, simulation.settings
    now = simulation.later()
    gone = like(store, made, now - dt.timedelta(days=40))
    delete_old(store, "artwork", settings, now)
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=now)
        for ask in (editor.promote, editor.challenge):
            with pytest.raises(BrokenModel, match=f"model {gone} is not kept any more"):
                ask(gone)


def test_zero_keeps_all_and_at_most_some_go_at_a_time(
    simulation: Simulation, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    now = simulation.later()
    old = [like(store, made, now - dt.timedelta(days=400)) for _ in range(3)]
    assert delete_old(store, "artwork", replace(settings, keep_models_days=0), now) == []
    monkeypatch.setattr(retention, "MOST_DELETED", 2)
    assert delete_old(store, "artwork", settings, now) == old[:2]
    assert delete_old(store, "trailer", settings, now) == []


def test_each_training_deletes_what_is_old(simulation: Simulation, made: int) -> None:
    store = simulation.service.store
    now = simulation.later()
    old = like(store, made, now - dt.timedelta(days=31))
    new = retrain(store, ARTWORK, simulation.settings, now).version
    assert record(store, old).deleted_at is not None
    assert record(store, new).deleted_at is None
