"""Taking turns: transactions that ask for the same name go on one after another."""

from __future__ import annotations

import sqlalchemy as sa

from artwork_bandit.domain import stable_hash
from artwork_bandit.store.engine import Connection

PATIENCE = 5
"""Seconds that whoever asks for a turn alone waits for it, where others share it: those that come
later queue behind."""


def wait_for_turn(
    connection: Connection, name: str, *, shared: bool = False, patience: float | None = None
) -> None:
    """Let no other transaction that asks for the same name go on until this one has ended; those
    that share go on together.

    On SQLite every writer is alone anyway. Raises StoreUnavailable after `patience`, in seconds.
    """
    if connection.dialect.name != "postgresql":
        return
    key = stable_hash("turn", name) >> 1
    lock = sa.func.pg_advisory_xact_lock_shared if shared else sa.func.pg_advisory_xact_lock
    if patience is not None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{patience:g}s'")
    connection.execute(sa.select(lock(key)))
    if patience is not None:
        connection.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")
