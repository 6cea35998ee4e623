"""Connecting: one `Store` per process, read and write transactions, errors translated once."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from artwork_bandit.errors import Conflict, InvalidInput, StoreUnavailable

T = TypeVar("T")

Connection = sa.Connection
"""What `Store.read` and `Store.write` give; other rooms pass it on and never look inside."""

BUSY_SECONDS = 30.0
"""How long a SQLite writer waits for another process's transaction."""
SQL_VARIABLES = 500
"""Most values in one IN list; SQLite's own limit is far higher, its planner is happier here."""


class Store:
    """A database, reached through short transactions.

    SQLite has one writer at a time: writers of this process queue at a lock instead of at the
    file, whose lock is neither fair nor quick to pass on.
    """

    def __init__(self, database_url: str) -> None:
        self.engine = _engine(database_url)
        self.dialect = self.engine.dialect.name
        self._writing = threading.Lock() if self.dialect == "sqlite" else contextlib.nullcontext()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection whose reads see one state of the database."""
        with _translated(), self.engine.connect() as connection:
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give a connection whose writes are committed durably, all or none, at the end."""
        with _translated(), self._writing, self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def close(self) -> None:
        self.engine.dispose()


def insert_ignoring(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, leaving out those whose key (or unique constraint) is already there.

    In the order of their keys, as all writers do: two of them never wait for each other.
    """
    if rows:
        ordered = sorted(rows, key=_key_of(table))
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), ordered)


def insert_returning(
    connection: Connection, table: sa.Table, rows: list[dict[str, Any]], key: sa.Column[str]
) -> set[str]:
    """Insert rows whose key is not there yet; return the keys of those that were inserted."""
    if not rows:
        return set()
    statement = _insert(connection, table).on_conflict_do_nothing().returning(key)
    ordered = sorted(rows, key=_key_of(table))
    return set(connection.execute(statement, ordered).scalars())


def upsert(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], key: str
) -> None:
    """Insert rows, or set every other column of those whose key is already there."""
    if not rows:
        return
    statement = _insert(connection, table)
    updated = {name: statement.excluded[name] for name in rows[0] if name != key}
    ordered = sorted(rows, key=_key_of(table))
    connection.execute(statement.on_conflict_do_update(index_elements=[key], set_=updated), ordered)


def chunks(values: list[T]) -> Iterator[list[T]]:
    """Split a list for IN clauses."""
    for start in range(0, len(values), SQL_VARIABLES):
        yield values[start : start + SQL_VARIABLES]


def _key_of(table: sa.Table) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    names = [column.name for column in table.primary_key]
    return lambda row: tuple(row[name] for name in names)


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(table)
    from sqlalchemy.dialects.postgresql import insert as postgresql_insert

    return postgresql_insert(table)


def _engine(database_url: str) -> sa.Engine:
    try:
        url = sa.make_url(database_url)
    except sa.exc.ArgumentError as error:
        raise InvalidInput(f"database address {database_url!r} is not valid: {error}") from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidInput(
            f"database {url.get_backend_name()!r} is not supported; use sqlite:///FILE or postgresql://"
        )
    try:
        if url.get_backend_name() == "postgresql":
            return sa.create_engine(url, pool_pre_ping=True, pool_size=16)
        engine = sa.create_engine(
            url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None}
        )
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "PostgreSQL needs its driver: pip install 'artwork-bandit[postgres]'"
        ) from error
    sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # an acknowledged commit survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA cache_size=-65536")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise Conflict(f"the database refused the row: {error.orig}") from error
    except sa.exc.DataError as error:
        raise InvalidInput(f"the database cannot hold a value: {error.orig}") from error
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        text = str(getattr(error, "orig", error)).strip()
        hint = " (run `artwork-bandit migrate`)" if "no such table" in text else ""
        raise StoreUnavailable(f"the database cannot answer: {text}{hint}") from error
    except sa.exc.ProgrammingError as error:
        if "does not exist" not in str(error.orig):
            raise
        raise StoreUnavailable(
            f"the database is not migrated: {str(error.orig).strip()}; run `artwork-bandit migrate`"
        ) from error
