"""Counts for the comparison pages: SQL reduces to sums per member bucket, Python infers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from artwork_bandit.domain import MEMBER_BUCKETS, Floats
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.tables import events, impressions, rewards


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Settled units and quality plays per member bucket."""

    units: Floats
    quality_plays: Floats

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            units=self.units + other.units, quality_plays=self.quality_plays + other.quality_plays
        )

    @staticmethod
    def none() -> Counts:
        return Counts(units=np.zeros(MEMBER_BUCKETS), quality_plays=np.zeros(MEMBER_BUCKETS))


def by_cell(
    connection: Connection, slot: str, since: dt.datetime | None, until: dt.datetime | None
) -> dict[str, Counts]:
    """Return the settled units of each cell."""
    keyed = _by(connection, [rewards.c.cell], slot, None, since, until)
    return {cell: counts for (cell,), counts in keyed.items()}


def of_model(connection: Connection, slot: str, cell: str, version: int) -> Counts:
    """Return the settled units of a cell that one model chose."""
    keyed = _by(
        connection, [rewards.c.cell], slot, None, None, None,
        rewards.c.cell == cell, rewards.c.model_version == version,
    )  # fmt: skip
    return keyed.get((cell,), Counts.none())


def by_variant(
    connection: Connection, title_id: str, slot: str,
    since: dt.datetime | None, until: dt.datetime | None,
) -> dict[tuple[str, str], Counts]:  # fmt: skip
    """Return the settled units of a title by (variant id, cell)."""
    keyed = _by(connection, [rewards.c.variant_id, rewards.c.cell], slot, title_id, since, until)
    return {(variant, cell): counts for (variant, cell), counts in keyed.items()}


def by_title(connection: Connection, slot: str) -> dict[str, tuple[int, int]]:
    """Return each title's (settled units, quality plays) of a slot."""
    query = (
        sa.select(rewards.c.title_id, sa.func.count(), sa.func.sum(rewards.c.quality_play))
        .where(rewards.c.slot == slot, rewards.c.confirm == "client")
        .group_by(rewards.c.title_id)
    )
    return {title: (int(n), int(s)) for title, n, s in connection.execute(query)}


def impressions_by_variant(
    connection: Connection, title_id: str, slot: str,
    since: dt.datetime | None, until: dt.datetime | None,
) -> dict[str, int]:  # fmt: skip
    """Return how often each variant was on screen, continuations included."""
    query = sa.select(impressions.c.variant_id, sa.func.count()).where(
        impressions.c.title_id == title_id,
        impressions.c.slot == slot,
        impressions.c.confirm == "client",
    )
    if since is not None:
        query = query.where(impressions.c.occurred_at >= since)
    if until is not None:
        query = query.where(impressions.c.occurred_at < until)
    rows = connection.execute(query.group_by(impressions.c.variant_id))
    return {variant: int(count) for variant, count in rows}


def sizes(connection: Connection) -> dict[str, int]:
    """Return how many rows there are of what the loop makes."""
    return {
        table.name: int(
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        )
        for table in (events, impressions, rewards)
    }


def _by(
    connection: Connection, keys: Sequence[sa.Column[str]], slot: str, title_id: str | None,
    since: dt.datetime | None, until: dt.datetime | None,
    *conditions: sa.ColumnElement[bool],
) -> dict[tuple[str, ...], Counts]:  # fmt: skip
    query = sa.select(
        *keys, rewards.c.member_bucket, sa.func.count(), sa.func.sum(rewards.c.quality_play)
    ).where(rewards.c.slot == slot, rewards.c.confirm == "client", *conditions)
    if title_id is not None:
        query = query.where(rewards.c.title_id == title_id)
    if since is not None:
        query = query.where(rewards.c.occurred_at >= since)
    if until is not None:
        query = query.where(rewards.c.occurred_at < until)
    found: dict[tuple[str, ...], Counts] = {}
    for *key, bucket, units, plays in connection.execute(
        query.group_by(*keys, rewards.c.member_bucket)
    ):
        counts = found.setdefault(tuple(key), Counts.none())
        counts.units[bucket] = units
        counts.quality_plays[bucket] = plays
    return found
