"""Units of replay: what they are, and which are settled."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from artwork_bandit.store.engine import Connection, chunks
from artwork_bandit.store.tables import rewards

Unit = tuple[str, str, str, int, str]
"""Member, title, slot, period, and who confirmed: assumed impressions are units of their own."""
_UNIT = ("member_id", "title_id", "slot", "period", "confirm")


def settled_units(connection: Connection, units: Iterable[Unit]) -> set[Unit]:
    """Return those of the units that have a row."""
    columns = [getattr(rewards.c, name) for name in _UNIT]
    found: set[Unit] = set()
    for some in chunks(sorted(units)):
        # Not whole rows: SQLite reads the whole table for an IN of several columns.
        query = sa.select(*columns).where(
            rewards.c.member_id.in_({unit[0] for unit in some}),
            rewards.c.title_id.in_({unit[1] for unit in some}),
        )
        found |= {unit_of(row) for row in connection.execute(query)}.intersection(some)
    return found


def first_shown(connection: Connection, settled: Iterable[Unit]) -> dict[Unit, dt.datetime]:
    """Return the first impressions of settled units."""
    found: dict[Unit, dt.datetime] = {}
    for unit in settled:
        query = sa.select(rewards.c.occurred_at).where(*_is(unit))
        found[unit] = connection.execute(query).scalar_one()
    return found


def decision_of(connection: Connection, unit: Unit) -> tuple[str, int] | None:
    """Return the decision (request, position) whose row a unit is, if it is settled."""
    query = sa.select(rewards.c.request_id, rewards.c.position).where(*_is(unit))
    row = connection.execute(query).first()
    return None if row is None else (row.request_id, int(row.position))


def _is(unit: Unit) -> list[sa.ColumnElement[bool]]:
    return [getattr(rewards.c, name) == part for name, part in zip(_UNIT, unit, strict=True)]


def unit_of(row: Any) -> Unit:
    """Return the unit that an impression, or a reward, is of."""
    return (row.member_id, row.title_id, row.slot, row.period, row.confirm)
