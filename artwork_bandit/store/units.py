"""Units of replay: what they are, and which are settled."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from artwork_bandit.store.engine import Connection
from artwork_bandit.store.tables import rewards

Unit = tuple[str, str, str, int, str]
"""Member, title, slot, period, and who confirmed: assumed impressions are units of their own."""
UNITS_AT_ONCE = 50
UNIT = ("member_id", "title_id", "slot", "period", "confirm")


def settled_units(connection: Connection, units: Iterable[Unit]) -> dict[Unit, dt.datetime]:
    """Return those of the units that have a row, each with its first impression."""
    columns = [getattr(rewards.c, name) for name in (*UNIT, "occurred_at")]
    ordered = sorted(units)
    found: dict[Unit, dt.datetime] = {}
    for start in range(0, len(ordered), UNITS_AT_ONCE):
        some = ordered[start : start + UNITS_AT_ONCE]
        # Not whole rows: SQLite reads the whole table for an IN of several columns. An index is
        # asked for each of the members with each of the titles.
        query = sa.select(*columns).where(
            rewards.c.member_id.in_({unit[0] for unit in some}),
            rewards.c.title_id.in_({unit[1] for unit in some}),
        )
        rows = {unit_of(row): row.occurred_at for row in connection.execute(query)}
        found |= {unit: rows[unit] for unit in some if unit in rows}
    return found


def decision_of(connection: Connection, unit: Unit) -> tuple[str, int] | None:
    """Return the decision (request, position) whose row a unit is, if it is settled."""
    query = sa.select(rewards.c.request_id, rewards.c.position).where(*_is(unit))
    row = connection.execute(query).first()
    return None if row is None else (row.request_id, int(row.position))


def _is(unit: Unit) -> list[sa.ColumnElement[bool]]:
    return [getattr(rewards.c, name) == part for name, part in zip(UNIT, unit, strict=True)]


def unit_of(row: Any) -> Unit:
    """Return the unit that an impression, or a reward, is of."""
    return (row.member_id, row.title_id, row.slot, row.period, row.confirm)
