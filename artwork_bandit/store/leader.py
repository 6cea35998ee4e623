"""One leader among all workers of a database, for as long as it lives.

PostgreSQL: an advisory lock of a connection kept open; the server frees it when the connection
ends. SQLite: a lock on a file beside the database; the kernel frees it when the process ends. So a
killed leader never has to be waited for, and there is no clock to disagree about. What leaders do
must still be safe without this: a leader that lost its connection learns of it at its next look.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import sqlalchemy as sa

from artwork_bandit.domain import stable_hash
from artwork_bandit.store import host_lock
from artwork_bandit.store.engine import Store

log = logging.getLogger(__name__)


class Leader:
    """A candidate for the lead of one kind of work."""

    def __init__(self, store: Store, work: str) -> None:
        self._store = store
        self._work = work
        self._held = contextlib.ExitStack()
        self._connection: sa.Connection | None = None
        self._leads = False

    def lead(self) -> bool:
        """Take the lead if it is free; tell whether it is ours now."""
        if self._leads and not self._alive():
            self.close()
        if not self._leads:
            self._leads = self._take()
            if not self._leads:
                self.close()
        return self._leads

    def close(self) -> None:
        """Give the lead away."""
        self._leads = False
        self._connection = None
        held, self._held = self._held, contextlib.ExitStack()
        held.close()

    def _take(self) -> bool:
        if self._store.dialect == "sqlite":
            path = f"{self._store.engine.url.database}-{self._work}"
            try:
                return self._held.enter_context(host_lock.held(path, wait=False))
            except OSError as error:
                log.warning("no_lead", extra={"work": self._work, "error": str(error)})
                return False
        try:
            opened = self._store.engine.connect()
            self._held.callback(_forget, opened, opened.connection.driver_connection)
            self._connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            key = stable_hash("leader", self._work) >> 1
            taken = sa.select(sa.func.pg_try_advisory_lock(key))
            return bool(self._connection.execute(taken).scalar())
        except sa.exc.SQLAlchemyError:
            return False

    def _alive(self) -> bool:
        if self._connection is None:
            return True
        try:
            self._connection.execute(sa.select(1))
        except sa.exc.SQLAlchemyError:
            return False
        return True


def _forget(connection: sa.Connection, driver: Any) -> None:
    """End a connection for good: one that went back to its pool would keep the lock, and one that
    the server has ended is still open here."""
    with contextlib.suppress(sa.exc.SQLAlchemyError):
        connection.invalidate()
    connection.close()
    driver.close()
