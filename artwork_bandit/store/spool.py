"""This host's durable waiting room for what the database could not take: a SQLite file.

Rows are opaque to it. They are committed with `synchronous=FULL` before anybody is told, and
removed only after the database has committed them; all workers of a host share one file. Plain
`sqlite3`: it must work when nothing else does, and needs five statements.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.store import host_lock

T = TypeVar("T")

BUSY_SECONDS = 5.0
_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    key TEXT UNIQUE,
    payload BLOB NOT NULL,
    spooled_at REAL NOT NULL,
    not_before REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_time ON entries (not_before, entry_id);
CREATE TABLE IF NOT EXISTS refused (
    entry_id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL,
    key TEXT
);
"""
MOST_REFUSED = 10_000
"""Kept of what was refused, the newest: what clients send again and again must not fill a disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that waits for the database."""

    kind: str
    payload: bytes
    key: str | None = None
    """Two entries with the same key are one: the first."""
    not_before: float = 0.0
    """Earliest time to try, Unix seconds."""
    entry_id: int = 0
    """0 before it is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An entry that the database would not take."""

    kind: str
    size: int
    """Bytes."""
    reason: str


class Spool:
    """The file; every method raises StoreUnavailable where the disk does not let it work."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def add(self, entries: Sequence[Entry]) -> list[bool]:
        """Store entries durably, all or none; tell which were new by their key."""

        def insert(connection: sqlite3.Connection) -> list[bool]:
            return [
                connection.execute(
                    "INSERT INTO entries (kind, key, payload, spooled_at, not_before) "
                    "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (e.kind, e.key, e.payload, time.time(), e.not_before),
                ).rowcount > 0
                for e in entries
            ]  # fmt: skip

        return self._write(insert)

    def find(self, key: str) -> bytes | None:
        """Return the payload with that key, if it waits here."""
        if not self.path.exists():
            return None
        with self._using() as connection:
            row = connection.execute("SELECT payload FROM entries WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def next(self, most: int) -> list[Entry]:
        """Return entries that may be tried now, the oldest first and then those that are tried
        again: as many as fit into `most` bytes, at least one if there is any."""
        if not self.path.exists():
            return []
        found: list[Entry] = []
        with self._using() as connection:
            rows = connection.execute(
                "SELECT entry_id, kind, key, payload FROM entries WHERE not_before <= ? "
                "ORDER BY not_before, entry_id",
                (time.time(),),
            )
            with contextlib.closing(rows):
                for entry_id, kind, key, payload in rows:
                    most -= len(payload)
                    if found and most < 0:
                        break
                    found.append(Entry(entry_id=entry_id, kind=kind, key=key, payload=payload))
        return found

    def settle(
        self, done: Iterable[Entry], again: Sequence[Entry] = (),
        refused: Sequence[tuple[Entry, str]] = (),
    ) -> None:  # fmt: skip
        """Remove entries that the database has seen; add the ones that must wait longer, and put
        aside, with why, those that it will never take: they hold up no other. Of the same key the
        first is put aside."""

        def replace(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "DELETE FROM entries WHERE entry_id = ?", [(e.entry_id,) for e in done]
            )
            connection.executemany(
                "INSERT INTO entries (kind, key, payload, spooled_at, not_before) "
                "VALUES (?, ?, ?, ?, ?)",
                [(e.kind, e.key, e.payload, time.time(), e.not_before) for e in again],
            )
            connection.executemany(
                "INSERT INTO refused (kind, payload, reason, key) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                [(e.kind, e.payload, reason, e.key) for e, reason in refused],
            )
            connection.execute(
                "DELETE FROM refused WHERE entry_id <= (SELECT max(entry_id) FROM refused) - ?",
                (MOST_REFUSED,),
            )

        self._write(replace)

    def refused(self) -> list[Refused]:
        """Return what was put aside, the oldest first."""
        if not self.path.exists():
            return []
        with self._using() as connection:
            rows = connection.execute(
                "SELECT kind, length(payload), reason FROM refused ORDER BY entry_id"
            ).fetchall()
        return [Refused(kind=k, size=n, reason=why) for k, n, why in rows]

    def retry(self) -> int:
        """Have what was put aside tried again; return how many entries there were."""
        if not self.path.exists():
            return 0

        def move(connection: sqlite3.Connection) -> int:
            connection.execute(
                "INSERT INTO entries (kind, payload, spooled_at, not_before) "
                "SELECT kind, payload, ?, 0 FROM refused ORDER BY entry_id",
                (time.time(),),
            )
            return connection.execute("DELETE FROM refused").rowcount

        return self._write(move)

    def oldest(self) -> float | None:
        """Return when the oldest waiting entry was spooled, Unix seconds."""
        if not self.path.exists():
            return None
        with self._using() as connection:
            found = connection.execute("SELECT min(spooled_at) FROM entries").fetchone()[0]
        return None if found is None else float(found)

    def depth(self) -> int:
        """Return how many entries wait."""
        if not self.path.exists():
            return 0
        with self._using() as connection:
            return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])

    def probe(self) -> None:
        """Raise StoreUnavailable unless an entry could be stored now."""
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO entries (kind, payload, spooled_at, not_before) "
                "VALUES ('probe', zeroblob(65536), 0, 0)"
            )
            connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def draining(self) -> Iterator[bool]:
        """Give whether this process may drain: one on a host does at a time."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with host_lock.held(self.path.with_suffix(".drain"), wait=False) as mine:
                yield mine
        except OSError as error:
            raise StoreUnavailable(f"the spool {self.path} cannot be used: {error}") from error

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            return done

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                # Closed, so that a disk that has been cleared is found again.
                broken, self._connection = self._connection, None
                if broken is not None:
                    with contextlib.suppress(sqlite3.Error):
                        broken.close()
                raise StoreUnavailable(f"the spool {self.path} cannot be used: {error}") from error

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # A file that two make at the same time is locked for one of them: to write ahead is
            # the one change for which SQLite does not wait.
            with host_lock.held(self.path.with_suffix(".opening"), wait=True):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.executescript(_TABLES)
                _bring_up_to_date(connection)
        except (sqlite3.Error, OSError):
            connection.close()
            raise
        return connection


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Add what a spool of an earlier release lacks."""
    connection.execute("BEGIN IMMEDIATE")
    columns = {row[1] for row in connection.execute("PRAGMA table_info(refused)")}
    if "key" not in columns:
        connection.execute("ALTER TABLE refused ADD COLUMN key TEXT")
    connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS refused_by_key ON refused (key)")
    connection.execute("COMMIT")
