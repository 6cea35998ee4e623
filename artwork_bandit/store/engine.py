"""Connecting: one `Store` per process, read and write transactions, errors translated once."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from artwork_bandit.errors import Conflict, InvalidInput, StoreUnavailable
from artwork_bandit.store import host_lock
from artwork_bandit.store.pace import HELD_SECONDS, Pace

T = TypeVar("T")

Connection = sa.Connection
"""What `Store.read` and `Store.write` give; other rooms pass it on and never look inside."""

SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""What has PostgreSQL show one state of the database to all statements of a transaction."""
BUSY_SECONDS = 30.0
"""How long a SQLite writer waits for another process's transaction."""
CONNECT_SECONDS = 5
ALIVE = {
    "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}  # fmt: skip
"""Of a PostgreSQL connection, at both its ends: a host that vanished without a word is found out
within some ten seconds, where the system's own keepalives take hours, for which what its
transactions had locked would stay so. The other host's system answers them, however long a
statement takes."""
IDLE_SECONDS = 60
"""How long a write transaction may be idle on PostgreSQL before the server ends it: a process that
was stopped in one must not hold up all others."""
_SERVER_ALIVE = "; ".join(
    f"SET {name if name.startswith('tcp_') else f'tcp_{name}'} = {value}"
    for name, value in ALIVE.items()
)
SQL_VARIABLES = 500
"""Most values in one IN list; SQLite's own limit is far higher, its planner is happier here."""


_NOT_IDLE = f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'"


class Store:
    """A database, reached through short transactions.

    SQLite has one writer at a time on a host: threads queue at a lock of the process, processes
    at a lock file, instead of polling the database's own lock, which is neither fair nor quick to
    pass on. The kernel frees the file when its holder dies.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self.engine = _engine(database_url)
        self.dialect = self.engine.dialect.name
        file = self.engine.url.database
        self._turn: _Turn | contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.dialect == "sqlite":
            self._turn = _Turn(f"{file}-writer")

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection whose reads see one state of the database, that of the first."""
        with translated(), self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(**SNAPSHOT)
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give a connection whose writes are committed durably, all or none, at the end."""
        with translated(), self._turn, self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(_NOT_IDLE)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def pace(self, most: int) -> Pace:
        """Return how many rows background work should write at once."""
        return Pace(most, HELD_SECONDS)

    def close(self) -> None:
        self.engine.dispose()

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        """Open the same database where it is unpickled."""
        return Store, (self._url,)


class Held:
    """One connection kept open by one thread: the request path pays for no checkout and no ping.

    A connection that broke is thrown away and the call fails; the next call makes a new one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: sa.Connection | None = None

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Return `work(connection)`, in a transaction of its own only as long as one statement."""
        with translated(), self._kept() as connection:
            return work(connection)

    def write(self, work: Callable[[sa.Connection], T], *, one_statement: bool = False) -> T:
        """Return `work(connection)` once what it wrote is durable, all or none.

        `one_statement` says that the work is a single one, which PostgreSQL commits by itself:
        two round trips less.
        """
        sqlite = self._store.dialect == "sqlite"
        if one_statement and not sqlite:
            return self.read(work)
        with translated(), self._store._turn, self._kept() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else f"BEGIN; {_NOT_IDLE}")
            try:
                done = work(connection)
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                # A connection that was lost cannot roll back; the server has.
                with contextlib.suppress(sa.exc.SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            return done

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _kept(self) -> Iterator[sa.Connection]:
        if self._connection is None:
            opened = self._store.engine.connect()
            self._connection = opened.execution_options(isolation_level="AUTOCOMMIT")
        try:
            yield self._connection
        except (sa.exc.IntegrityError, sa.exc.DataError):
            raise  # the row's fault
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        broken, self._connection = self._connection, None
        if broken is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                broken.invalidate()
                broken.close()


class _Turn:
    """Whose turn it is to write to a SQLite file, among all threads and processes of the host."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._thread = threading.Lock()
        self._held = contextlib.ExitStack()

    def __enter__(self) -> None:
        self._thread.acquire()
        # A folder that takes no new file: SQLite's own lock has to do.
        with contextlib.suppress(OSError):
            self._held.enter_context(host_lock.held(self._file, wait=True))

    def __exit__(self, *_error: object) -> None:
        self._held.close()
        self._thread.release()


@contextlib.contextmanager
def driver_cursor(connection: sa.Connection) -> Iterator[Any]:
    """Give the driver's own cursor, for the few statements of the request path: SQLAlchemy takes
    longer over them than the database. Errors are raised as SQLAlchemy would raise them."""
    dialect = connection.dialect
    base: type[Exception] = dialect.loaded_dbapi.Error
    own: Any = connection.connection.driver_connection
    cursor = own.cursor()
    try:
        yield cursor
    except base as error:
        gone = dialect.is_disconnect(error, own, cursor)  # type: ignore[arg-type]
        raise sa.exc.DBAPIError.instance(
            None, None, error, base, connection_invalidated=gone, dialect=dialect
        ) from error
    finally:
        cursor.close()


def insert_ignoring(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, leaving out those whose key (or unique constraint) is already there.

    In the order of their keys, as all writers do: two of them never wait for each other.
    """
    if rows:
        ordered = sorted(rows, key=_key_of(table))
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), ordered)


def insert_least(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], column: str,
    where: sa.ColumnElement[bool],
) -> None:  # fmt: skip
    """Insert rows; of those whose key is already there take over a smaller value of one column,
    where that is still allowed."""
    if rows:
        statement = _insert(connection, table)
        value = statement.excluded[column]
        updating = statement.on_conflict_do_update(
            index_elements=[key.name for key in table.primary_key], set_={column: value},
            where=sa.and_(value < table.c[column], where),
        )  # fmt: skip
        ordered = sorted(rows, key=_key_of(table))
        connection.execute(updating, ordered)


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
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]],
    key: str | tuple[str, ...],
) -> None:  # fmt: skip
    """Insert rows, or set every other column of those whose key is already there."""
    if not rows:
        return
    key = (key,) if isinstance(key, str) else key
    statement = _insert(connection, table)
    updated = {name: statement.excluded[name] for name in rows[0] if name not in key}
    ordered = sorted(rows, key=_key_of(table))
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=updated), ordered)


def upsert_adding(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], sums: tuple[str, ...]
) -> None:
    """Insert rows, or add the given columns to those whose key is already there."""
    if not rows:
        return
    statement = _insert(connection, table)
    added = {name: table.c[name] + statement.excluded[name] for name in sums}
    key = [column.name for column in table.primary_key]
    ordered = sorted(rows, key=_key_of(table))
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=added), ordered)


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


def missing_file(database_url: str) -> str | None:
    """Return the file of a SQLite database that is not there: to read it would make an empty
    one."""
    url = _url(database_url)
    file = url.database if url.get_backend_name() == "sqlite" else None
    if not file or file == ":memory:" or file.startswith("file:") or os.path.exists(file):
        return None
    return file


def _engine(database_url: str) -> sa.Engine:
    url = _url(database_url)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InvalidInput("a SQLite database is a file here: sqlite:///FILE, or sqlite:////PATH")
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidInput(
            f"database {url.get_backend_name()!r} is not supported; use sqlite:///FILE or postgresql://"
        )
    try:
        if url.get_backend_name() == "postgresql":
            engine = sa.create_engine(
                url,
                pool_pre_ping=True,
                pool_size=16,
                pool_timeout=BUSY_SECONDS,
                connect_args={"connect_timeout": CONNECT_SECONDS} | ALIVE,
            )
            sa.event.listen(engine, "connect", _prepare_postgresql)
            return engine
        engine = sa.create_engine(
            url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None}
        )
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "PostgreSQL needs its driver: pip install 'artwork-bandit[postgres]'"
        ) from error
    sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _url(database_url: str) -> sa.URL:
    try:
        return sa.make_url(database_url)
    except (sa.exc.ArgumentError, ValueError) as error:  # a port that is no number
        # Not the address: there may be a password in it.
        raise InvalidInput(
            f"the database address is not valid ({type(error).__name__}); it is "
            "sqlite:///FILE or postgresql://USER@HOST:PORT/NAME"
        ) from None


def without_password(database_url: str) -> str:
    """Return a database's address as it may be shown."""
    try:
        url = _url(database_url)
    except InvalidInput:
        return "(not valid)"
    if "@" in (url.host or ""):  # a password that has one: it should be written %40
        return "(not valid)"
    hidden = {name: "***" for name in url.query if "pass" in name.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # an acknowledged commit survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA cache_size=-16384")  # KiB, for each connection


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    """An acknowledged commit survives a power cut, whatever the role's default is; the server finds
    out that this host has vanished."""
    with connection.cursor() as cursor:
        cursor.execute(_SERVER_ALIVE)
        cursor.execute("SHOW synchronous_commit")
        if cursor.fetchone()[0] == "off":
            cursor.execute("SET synchronous_commit = on")
    connection.commit()


@contextlib.contextmanager
def translated() -> Iterator[None]:
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
        text = str(error.orig).strip()
        if "does not exist" in text:
            text = f"it is not migrated: {text}; run `artwork-bandit migrate`"
        raise StoreUnavailable(f"the database cannot answer: {text}") from error
    except (sa.exc.DBAPIError, sa.exc.PendingRollbackError) as error:
        # Such as a standby that takes no writes: another time, another server may.
        raise StoreUnavailable(f"the database cannot answer: {error}") from error
