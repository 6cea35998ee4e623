"""Transactions: what one sees, and what a reader may do."""

import datetime as dt
from contextlib import suppress

import sqlalchemy as sa

from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.store import pauses
from artwork_bandit.store.engine import Store

NOW = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)


def switch(store: Store, paused: bool) -> None:
    with store.write() as connection:
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
