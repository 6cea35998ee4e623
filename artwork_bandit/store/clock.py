"""What time it is by the one clock that all hosts of a database share: its own.

Windows close, trainings fall due and what commands and workers change is recorded by it: a host
whose clock is ahead would settle rewards before plays have come, for good. What servers take in and
pages change is of the server's own clock.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from artwork_bandit.store.engine import Connection, Store


def now(connection: Connection) -> dt.datetime:
    """Return the time by PostgreSQL's clock; a SQLite file's is this host's."""
    if connection.dialect.name != "postgresql":
        return dt.datetime.now(dt.UTC)
    found: dt.datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return found.astimezone(dt.UTC)


def of(store: Store) -> dt.datetime:
    """Return the time by a database's clock; raises StoreUnavailable."""
    with store.read() as connection:
        return now(connection)
