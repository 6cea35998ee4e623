"""Counterfactual evaluations that were kept, to be shown on the pages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from artwork_bandit.errors import NotFound
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.tables import reports

KEPT = 100
"""Reports of a slot; older ones go when a new one comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A report as it is listed."""

    report_id: int
    slot: str
    made_at: dt.datetime
    author: str
    """Who had it made."""
    summary: Mapping[str, Any]


def add(
    connection: Connection, slot: str, author: str, summary: Mapping[str, Any], json: str,
    html: str, now: dt.datetime,
) -> int:  # fmt: skip
    """Keep a report; return its number."""
    result = connection.execute(
        sa.insert(reports).values(
            slot=slot, made_at=now, author=author, summary=dict(summary), json=json, html=html
        )
    )
    oldest = (
        sa.select(reports.c.report_id)
        .where(reports.c.slot == slot)
        .order_by(reports.c.report_id.desc())
        .offset(KEPT)
        .limit(1)
    )
    too_many = connection.execute(oldest).scalar()
    if too_many is not None:
        connection.execute(
            sa.delete(reports).where(reports.c.slot == slot, reports.c.report_id <= too_many)
        )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def latest(connection: Connection, slot: str, limit: int) -> list[Kept]:
    """Return the latest reports of a slot, the newest first."""
    names = list(Kept.__dataclass_fields__)
    query = (
        sa.select(*(reports.c[name] for name in names))
        .where(reports.c.slot == slot)
        .order_by(reports.c.report_id.desc())
        .limit(limit)
    )
    return [Kept(**dict(zip(names, row, strict=True))) for row in connection.execute(query)]


def page(connection: Connection, report_id: int) -> str:
    """Return a report as HTML; raises NotFound."""
    return _text(connection, report_id, reports.c.html)


def json(connection: Connection, report_id: int) -> str:
    """Return a report as JSON; raises NotFound."""
    return _text(connection, report_id, reports.c.json)


def _text(connection: Connection, report_id: int, column: sa.Column[Any]) -> str:
    query = sa.select(column).where(reports.c.report_id == report_id)
    found = connection.execute(query).scalar()
    if found is None:
        raise NotFound(f"there is no report {report_id}; only the latest {KEPT} are kept")
    return str(found)
