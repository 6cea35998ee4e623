"""The kill switch: while a slot is paused everybody gets the default, and the log says so."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from artwork_bandit.store import generations
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.tables import pauses


def switch(connection: Connection, slot: str, paused: bool, reason: str, now: dt.datetime) -> None:
    """Pause a slot or let it go on; appended, never overwritten."""
    row = {"slot": slot, "paused": paused, "changed_at": now, "reason": reason}
    connection.execute(sa.insert(pauses), [row])
    generations.bump(connection, "pauses")


def read(connection: Connection) -> frozenset[str]:
    """Return the slots that are paused."""
    latest = sa.select(sa.func.max(pauses.c.pause_id)).group_by(pauses.c.slot)
    query = sa.select(pauses.c.slot).where(pauses.c.pause_id.in_(latest), pauses.c.paused)
    return frozenset(connection.execute(query).scalars())
