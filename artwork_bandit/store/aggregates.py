"""Counts per cell: SQL reduces to sums per bucket of members, Python infers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa

from artwork_bandit.domain import Floats, microseconds
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.rollups import BUCKETS, HOUR, IMPORTED, LAST_DAY, cell_of
from artwork_bandit.store.tables import cell_rollups, rewards

HOUR_MICROSECONDS = HOUR // dt.timedelta(microseconds=1)
_CELL = cell_of(rewards).label("of_cell")
"""Of a reward, as the sums by hour have it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Sums over settled units, per bucket of members."""

    units: Floats
    quality_plays: Floats
    paid: Floats
    """Units whose reward is not 0."""
    reward: Floats
    reward2: Floats
    """Of squares."""

    @staticmethod
    def none() -> Counts:
        return Counts(**{f.name: np.zeros(BUCKETS) for f in fields(Counts)})

    def add(self, bucket: int, sums: Sequence[float]) -> None:
        """Add the sums of a bucket, in the order of the fields."""
        for name, value in zip(_NAMES, sums, strict=True):
            getattr(self, name)[bucket] += value


_NAMES = [f.name for f in fields(Counts)]
_SUMMED = ("units", "plays", "paid", "reward", "reward2")
"""The columns of `cell_rollups` that these are."""


def by_cell(
    connection: Connection, slot: str, since: dt.datetime | None, until: dt.datetime | None,
    model: int | Literal["any"] | None = None,
) -> dict[str, Counts]:  # fmt: skip
    """Return the settled units of each cell in [since, until); with `model` those it chose, or any
    model."""
    found: dict[str, Counts] = {}
    for query, table in _spans(slot, since, until):
        if model == "any":
            query = query.where(table.model_version > 0)
        elif model is not None:
            query = query.where(table.model_version == model)
        for cell, bucket, *sums in connection.execute(query).all():
            found.setdefault(cell, Counts.none()).add(bucket, sums)
    return found


def rows(connection: Connection, slot: str, since: dt.datetime | None = None) -> int:
    """Return how many rows a slot's log has from then on, by the sums: counted one by one they are
    all read."""
    cells = by_cell(connection, slot, since, None)
    return round(sum(float(counts.units.sum()) for counts in cells.values()))


def by_day(connection: Connection, slot: str, since: int) -> dict[tuple[int, str], Counts]:
    """Return the settled units of each (day, cell) from a day on, days counted from 1970."""
    day = (cell_rollups.c.hour // sa.literal_column("24", sa.Integer)).label("day")
    query = (
        sa.select(day, cell_rollups.c.cell, cell_rollups.c.bucket, *_summed())
        .where(cell_rollups.c.slot == slot, cell_rollups.c.hour >= since * 24)
        .group_by(day, cell_rollups.c.cell, cell_rollups.c.bucket)
        .order_by(day)
    )
    found: dict[tuple[int, str], Counts] = {}
    for at, cell, bucket, *sums in connection.execute(query):
        found.setdefault((int(at), cell), Counts.none()).add(bucket, sums)
    return found


def _summed() -> list[sa.ColumnElement[Any]]:
    return [sa.func.sum(cell_rollups.c[name]) for name in _SUMMED]


def members_by_cell(
    connection: Connection, slot: str, since: dt.datetime | None = None, latest: int = 40_000
) -> dict[str, int]:
    """Return how many members each cell has among the slot's latest units, `since` at earliest;
    members of logs made elsewhere are of none."""
    found = (
        sa.select(rewards.c.cell, rewards.c.member_id)
        .where(rewards.c.slot == slot, rewards.c.confirm == "client", rewards.c.policy != IMPORTED)
        .order_by(rewards.c.occurred_at.desc())
        .limit(latest)
    )
    if since is not None:
        found = found.where(rewards.c.occurred_at >= since)
    units = found.subquery()
    query = sa.select(units.c.cell, sa.func.count(sa.distinct(units.c.member_id)))
    return {cell: int(n) for cell, n in connection.execute(query.group_by(units.c.cell)).all()}


def impressions(connection: Connection, slot: str) -> int:
    """Return how many settled impressions the slot has."""
    query = sa.select(sa.func.sum(cell_rollups.c.impressions)).where(cell_rollups.c.slot == slot)
    return int(connection.execute(query).scalar() or 0)


def _spans(
    slot: str, since: dt.datetime | None, until: dt.datetime | None
) -> Iterator[tuple[sa.Select[Any], Any]]:
    """Yield queries of (cell, bucket, *sums), each with the columns it is of: whole hours
    are summed already, the begun ones at the ends are summed from the rewards."""
    first = None if since is None else -(-microseconds(since) // HOUR_MICROSECONDS)
    last = None if until is None else microseconds(until) // HOUR_MICROSECONDS
    if first is not None and last is not None and first >= last:
        yield _exact(slot, since, until), rewards.c
        return
    table = cell_rollups.c
    whole = (
        sa.select(table.cell, table.bucket, *_summed())
        .where(table.slot == slot)
        .group_by(table.cell, table.bucket)
    )
    if first is not None:
        whole = whole.where(table.hour >= first)
        yield _exact(slot, since, _start(first)), rewards.c
    if last is not None:
        whole = whole.where(table.hour < last)
        yield _exact(slot, _start(last), until), rewards.c
    yield whole, table


def _exact(slot: str, since: dt.datetime | None, until: dt.datetime | None) -> sa.Select[Any]:
    bucket = (rewards.c.member_bucket % sa.literal_column(str(BUCKETS), sa.Integer)).label("few")
    query = (
        sa.select(
            _CELL, bucket, sa.func.count(), sa.func.sum(rewards.c.quality_play),
            sa.func.sum(sa.case((rewards.c.reward != 0, 1), else_=0)),
            sa.func.sum(rewards.c.reward), sa.func.sum(rewards.c.reward * rewards.c.reward),
        )
        .where(rewards.c.slot == slot, rewards.c.confirm == "client")
        .group_by(_CELL, bucket)
    )  # fmt: skip
    if since is not None:
        query = query.where(rewards.c.occurred_at >= since)
    if until is not None:
        query = query.where(rewards.c.occurred_at < until)
    return query


def _start(hour: int) -> dt.datetime:
    """Return the instant at which an hour counted from 1970 begins, the last there is at most."""
    hour = min(hour, LAST_DAY * 24 + 23)
    return dt.datetime.fromtimestamp(hour * HOUR.total_seconds(), dt.UTC)
