"""Summing all rewards anew: what `rollups` adds up at each join, should it ever be in doubt."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from artwork_bandit.slots import SLOTS
from artwork_bandit.store import rollups as rollups_of
from artwork_bandit.store.columns import floored
from artwork_bandit.store.engine import Connection, upsert_adding
from artwork_bandit.store.rollups import BUCKETS, cell_of
from artwork_bandit.store.tables import (
    cell_rollups,
    impressions,
    rewards,
    rollups,
    summaries,
)
from artwork_bandit.store.units import UNIT

DAY, HOUR = 86_400_000_000, 3_600_000_000
_EXACT = ("impressions", "units", "plays", "drawn", "drawn_plays", "paid")
"""Counts; sums of weights and rewards may differ in their last digits."""


def rebuild(connection: Connection) -> None:
    """Replace all sums, and have all titles summed up again.

    What is to be joined or imported meanwhile waits, and is added to the new sums.
    """
    rollups_of.take_turns(connection, SLOTS)
    for table, query in ((rollups, _by_day()), (cell_rollups, _by_hour())):
        connection.execute(sa.delete(table))
        connection.execute(sa.insert(table).from_select([c.name for c in table.c], query))
    places = connection.execute(sa.select(rollups.c.slot, rollups.c.title_id).distinct()).all()
    rows = [{"slot": slot, "title_id": title, "marks": 1, "summed": 0} for slot, title in places]
    upsert_adding(connection, summaries, rows, ("marks",))


def wrong(connection: Connection) -> int:
    """Return how many sums differ from what the rewards come to. A join adds to both at once, and
    each statement sees all of it or nothing: it need not wait for any, nor hold any up."""
    found = 0
    for table, query in ((rollups, _by_day()), (cell_rollups, _by_hour())):
        names = [*table.primary_key.columns.keys(), *(n for n in _EXACT if n in table.c)]
        true = query.subquery("true")
        both = [sa.select(*(source.c[n] for n in names)) for source in (true, table)]
        for one, other in (both, both[::-1]):
            different = sa.except_(one, other).subquery("different")
            count = sa.select(sa.func.count()).select_from(different)
            found += int(connection.execute(count).scalar_one())
    return found


def _by_day() -> sa.Select[Any]:
    keys = ("slot", "title_id", "day", "action_set_id", "cell", "variant_id", "bucket")
    drawn = rewards.c.propensity < 1

    def of_drawn(value: Any, nothing: Any) -> sa.ColumnElement[Any]:
        return sa.case((drawn, value), else_=nothing)

    weight = 1 / rewards.c.propensity
    return _summed(
        keys, DAY, rewards,
        {
            "plays": rewards.c.quality_play,
            "drawn": of_drawn(1, 0),
            "drawn_plays": of_drawn(rewards.c.quality_play, 0),
            "weight": of_drawn(weight, 0.0),
            "weight2": of_drawn(weight * weight, 0.0),
            "weighted_plays": of_drawn(rewards.c.quality_play * weight, 0.0),
        },
    )  # fmt: skip


def _by_hour() -> sa.Select[Any]:
    keys = ("slot", "hour", "cell", "model_version", "bucket")
    reward = rewards.c.reward
    paid = sa.case((reward != 0, 1), else_=0)
    sums = {"paid": paid, "reward": reward, "reward2": reward * reward}
    return _summed(keys, HOUR, rewards, {"plays": rewards.c.quality_play, **sums})


def _summed(
    keys: tuple[str, ...], length: int, units: Any, sums: dict[str, sa.ColumnElement[Any]]
) -> sa.Select[Any]:
    """Return sums over units, and over impressions: those that continue a unit are of its member's
    bucket, and a unit of a log made elsewhere, which has none of its own, counts as one."""
    of_own = sa.and_(
        impressions.c.request_id == rewards.c.request_id,
        impressions.c.position == rewards.c.position,
    )
    of_unit = sa.and_(*(impressions.c[name] == rewards.c[name] for name in UNIT))
    unseen = sa.case((impressions.c.request_id.is_(None), 1), else_=0)
    parts = [
        sa.select(
            *_keys(rewards, keys, length), unseen.label("impressions"),
            sa.literal_column("1").label("units"),
            *(value.label(name) for name, value in sums.items()),
        ).select_from(units.outerjoin(impressions, of_own))
        .where(rewards.c.confirm == "client"),
        sa.select(
            *_keys(impressions, keys, length), sa.literal_column("1"), sa.literal_column("0"),
            *(sa.literal_column("0" if name in _EXACT else "0.0") for name in sums),
        ).select_from(impressions.join(rewards, of_unit))
        .where(impressions.c.settled, impressions.c.confirm == "client"),
    ]  # fmt: skip
    each = sa.union_all(*parts).subquery("each")
    columns = [each.c[name] for name in keys]
    added = [sa.func.sum(each.c[name]) for name in ("impressions", "units", *sums)]
    names = ("impressions", "units", *sums)
    labelled = [value.label(name) for name, value in zip(names, added, strict=True)]
    return sa.select(*columns, *labelled).group_by(*columns)


def _keys(table: sa.Table, keys: tuple[str, ...], length: int) -> list[sa.ColumnElement[Any]]:
    """Return the expressions of the keys; the bucket is always of the reward's member."""
    found: list[sa.ColumnElement[Any]] = []
    for name in keys:
        match name:
            case "day" | "hour":
                value: Any = floored(table.c.occurred_at, length)
            case "bucket":
                value = rewards.c.member_bucket % BUCKETS
            case "model_version":
                value = sa.func.coalesce(table.c.model_version, 0)
            case "cell":
                value = cell_of(table)
            case _:
                value = table.c[name]
        found.append(value.label(name))
    return found
