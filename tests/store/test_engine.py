"""Transactions: what one sees, and what a reader may do."""

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa

from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.store import attribution, engine, pauses
from artwork_bandit.store.engine import Connection, Held, Store
from artwork_bandit.store.turns import wait_for_turn

NOW = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)


def switch(store: Store, paused: bool) -> None:
    with store.write() as connection:
        switch_in(connection, paused)


def switch_in(connection: Connection, paused: bool) -> None:
    pauses.switch(connection, "artwork", paused, "for the test", NOW)


def test_one_read_sees_one_state_and_holds_no_writer_up(store: Store) -> None:
    with store.read() as connection:
        assert not pauses.read(connection)
        switch(store, True)
        assert not pauses.read(connection)
        with store.read() as another:
            assert set(pauses.read(another)) == {"artwork"}
    with store.read() as connection:
        assert set(pauses.read(connection)) == {"artwork"}
    switch(store, False)
    with store.read() as connection:
        assert not pauses.read(connection)


def test_who_only_reads_leaves_nothing_written(store: Store) -> None:
    switch(store, True)
    refused = suppress(StoreUnavailable)  # by PostgreSQL, at once
    with refused, store.read() as connection:
        connection.execute(sa.text("DELETE FROM pauses"))
    with store.read() as connection:
        assert pauses.read(connection) == {"artwork"}


@pytest.fixture
def postgresql(store: Store) -> Store:
    if store.dialect != "postgresql":
        pytest.skip("SQLite's writers wait for a lock that the kernel frees")
    return store


def test_whoever_stops_in_a_write_does_not_hold_up_all_others(
    postgresql: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_NOT_IDLE", engine._NOT_IDLE.replace("60s", "300ms"))
    held = Held(postgresql)
    stopped, woken = threading.Event(), threading.Event()

    def stop(connection: Connection) -> None:
        attribution.share(connection)
        stopped.set()
        woken.wait(30)
        switch_in(connection, True)

    with ThreadPoolExecutor() as pool:
        for write in (held.write, lambda work: written(postgresql, work)):
            stopped.clear()
            woken.clear()
            ends = pool.submit(write, stop)
            assert stopped.wait(30)
            with postgresql.write() as connection:
                attribution.alone(connection)  # as the server has let that one go
            woken.set()
            with pytest.raises(StoreUnavailable):
                ends.result(30)
    with postgresql.read() as connection:
        assert not pauses.read(connection)
    held.close()


def written(store: Store, work: Callable[[Connection], None]) -> None:
    with store.write() as connection:
        work(connection)


def test_whoever_waits_to_be_alone_does_not_keep_those_who_share_for_long(
    postgresql: Store,
) -> None:
    def wait(patience: float | None) -> None:
        with postgresql.write() as connection:
            wait_for_turn(connection, "t", patience=patience)
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"

    with ThreadPoolExecutor() as pool:
        with postgresql.write() as connection:
            wait_for_turn(connection, "t", shared=True)
            impatient = pool.submit(wait, 0.2)
            with pytest.raises(StoreUnavailable):
                impatient.result(30)
        assert pool.submit(wait, 0.2).result(30) is None
