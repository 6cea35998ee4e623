"""Models that never chose anything are deleted after a while, all others are kept."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from artwork_bandit.domain import ModelRecord
from artwork_bandit.errors import Conflict, InvalidInput, StoreUnavailable
from artwork_bandit.operations import changes, retention
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.model_editing import ModelEditor
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retention import delete_old
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import cells, registry
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import challenges, models
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def like(
    store: Store, version: int, made_at: dt.datetime, status: str = "candidate",
    rows: int | None = None,
) -> int:  # fmt: skip
    """Register a model's bytes again, as made at an instant, of so many rows."""
    with store.write() as connection:
        record = registry.get(connection, version)
        return registry.register(
            connection, slot="artwork", data=registry.load(connection, version).encode(),
            window=(record.window_from, record.window_to), rows=rows or record.rows,
            settings=record.settings, metrics=record.metrics, now=made_at,
            status="rejected" if status == "rejected" else "candidate", reason="for the test",
        )  # fmt: skip


def size(store: Store, version: int) -> int:
    query = sa.select(sa.func.length(models.c.bundle)).where(models.c.version == version)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


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


def test_what_never_chose_is_deleted_and_what_is_known_of_it_stays(
    simulation: Simulation, made: int
) -> None:
    store, settings = simulation.service.store, simulation.settings
    now = simulation.later()
    old = now - dt.timedelta(days=settings.keep_models_days, seconds=1)
    rejected, candidate, was_live, challenged, challenges, is_live, newest = (
        like(store, made, old, status) for status in ("rejected", *["candidate"] * 6)
    )
    young = like(store, made, old + dt.timedelta(seconds=2))
    with store.write() as connection:
        registry.promote(connection, was_live, "for the test", now)
        registry.promote(connection, is_live, "for the test", now)
        registry.challenge(connection, challenged, now)
        registry.challenge(connection, challenges, now)
    assert delete_old(store, "artwork", settings, now) == [rejected, candidate]
    assert delete_old(store, "artwork", settings, now) == []
    assert size(store, rejected) == size(store, candidate) == 0
    with store.read() as connection:
        for kept in (was_live, is_live, challenged, challenges, newest, young):
            registry.load(connection, kept)
    gone, stays = record(store, candidate), record(store, was_live)
    assert gone.deleted_at == now
    assert stays.deleted_at is None
    assert replace(gone, version=0, deleted_at=None, status="") == replace(
        stays, version=0, status=""
    )


def test_who_challenged_before_that_was_kept_is_told_by_what_was_shown_and_by_changes(
    simulation: Simulation, made: int
) -> None:
    """Of those that challenged before migration 0013 nothing but these, or that it still does,
    says so."""
    store, settings, service = simulation.service.store, simulation.settings, simulation.service
    old = simulation.now - dt.timedelta(days=40)
    showed, named, still, never, _newest = (like(store, made, old) for _ in range(5))
    with store.write() as connection:
        registry.challenge(connection, showed, simulation.now)
        cells.set_shares(connection, {"explore": 0.5, "challenger": 0.5})
    service.state.refresh()
    simulation.visits(50)
    join_rewards(store, ARTWORK, settings, simulation.later())
    now = simulation.later()
    with store.write() as connection:
        ModelEditor(connection=connection, author="Ann", now=now).challenge(named)
        registry.challenge(connection, still, now)
        connection.execute(sa.delete(challenges))
    assert delete_old(store, "artwork", settings, now) == [never]


def test_one_of_each_doubling_of_the_log_is_kept(simulation: Simulation, made: int) -> None:
    store, now = simulation.service.store, simulation.later()
    old = now - dt.timedelta(days=40)
    rows = (1_000, 1_023, 1_024, 1_500, 2_047, 2_048)
    versions = {n: like(store, made, old, rows=n) for n in rows}
    deleted = delete_old(store, "artwork", simulation.settings, now)
    assert deleted == [versions[n] for n in (1_000, 1_024, 1_500)]


def test_a_model_that_is_kept_no_more_is_asked_nothing(simulation: Simulation, made: int) -> None:
    """Neither for communities, nor whether the world has changed."""
    store, log = simulation.service.store, ReplaySource.of(
        simulation.service.store, None, "artwork", rule=ARTWORK.reward
    )  # fmt: skip
    with store.write() as connection:
        registry.promote(connection, made, "for the test", simulation.now)
    simulation.visits(900)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    now = simulation.later()
    kept, gone, _ = (like(store, made, now - dt.timedelta(days=40), rows=9_000) for _ in range(3))
    with store.write() as connection:
        registry.challenge(connection, kept, now)
        registry.unchallenge(connection, "artwork", now)

    def asked() -> int:
        with store.read() as connection:
            before = [m for m in registry.recent(connection, "artwork") if m.version != made + 3]
            serving = registry.get(connection, made)
        found = changes._better_informed(before, serving, log)
        assert found is not None
        return found.version

    assert asked() == gone
    assert delete_old(store, "artwork", simulation.settings, now) == [gone]
    assert asked() == kept


def test_a_model_that_was_deleted_is_refused_in_words(simulation: Simulation, made: int) -> None:
    store, settings = simulation.service.store, simulation.settings
    now = simulation.later()
    gone, _ = (like(store, made, now - dt.timedelta(days=40)) for _ in range(2))
    delete_old(store, "artwork", settings, now)
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=now)
        for ask in (editor.promote, editor.challenge):
            with pytest.raises(Conflict, match=f"model {gone} is not kept any more"):
                ask(gone)


def test_zero_keeps_all_and_at_most_some_go_at_a_time(
    simulation: Simulation, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = simulation.service.store, simulation.settings
    now = simulation.later()
    old = [like(store, made, now - dt.timedelta(days=400)) for _ in range(4)]
    assert delete_old(store, "artwork", replace(settings, keep_models_days=0), now) == []
    assert delete_old(store, "artwork", replace(settings, keep_models_days=36_500), now) == []
    monkeypatch.setattr(retention, "MOST_DELETED", 2)
    assert delete_old(store, "artwork", settings, now) == old[:2]
    assert delete_old(store, "trailer", settings, now) == []


@pytest.mark.parametrize("days", [-1, 0.5, 36_501])
def test_days_that_would_delete_what_was_just_made_or_are_no_dates_are_refused(days: float) -> None:
    with pytest.raises(InvalidInput, match="keep_models_days"):
        Settings(keep_models_days=days)


def test_each_training_deletes_what_is_old_and_none_fails_because_that_does(
    simulation: Simulation, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    now = simulation.later()
    old, _ = (like(store, made, now - dt.timedelta(days=31)) for _ in range(2))

    def fails(*_: object) -> bool:
        raise StoreUnavailable("for the test")

    with monkeypatch.context() as patched:
        patched.setattr("artwork_bandit.store.retention.delete", fails)
        new = retrain(store, ARTWORK, simulation.settings, now).version
    assert record(store, new).deleted_at is None
    assert record(store, old).deleted_at is None
    retrain(store, ARTWORK, simulation.settings, now)
    assert record(store, old).deleted_at is not None
