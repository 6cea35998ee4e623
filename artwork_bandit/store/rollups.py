"""Sums of the rewards by day, action set, cell, variant and bucket of members.

Added to in the transaction that settles the impressions, so that they are never behind and never
count twice. What clustered intervals need are sums per bucket; 64 of them keep a title's sums
small. Where a choice was certain (the baseline cell, a title whose exploration is paused, a variant
that was eligible alone) it says nothing of other variants, nor of this one for members at large:
those units are in `units`, not in `drawn`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from artwork_bandit.domain import instant, member_bucket, microseconds
from artwork_bandit.store import summaries
from artwork_bandit.store.engine import Connection, upsert_adding
from artwork_bandit.store.tables import cell_rollups, rollups
from artwork_bandit.store.turns import wait_for_turn

Row = Mapping[str, Any]
BUCKETS = 64
IMPORTED = "imported"
"""The policy, and the cell in all sums, of logs made elsewhere."""
DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)
LAST_DAY = dt.date.max.toordinal() - dt.date(1970, 1, 1).toordinal()
_KEY = ("slot", "title_id", "day", "action_set_id", "cell", "variant_id", "bucket")
_CELL_KEY = ("slot", "hour", "cell", "model_version", "bucket")
_SUMS = (
    "impressions", "units", "plays", "drawn", "drawn_plays", "weight", "weight2", "weighted_plays",
)  # fmt: skip
_CELL_SUMS = (*_SUMS[:3], "paid", "reward", "reward2")


class Rollup(NamedTuple):
    """The sums of one (day, action set, cell, variant, bucket) of a title."""

    day: int
    """Days since 1970, UTC."""
    action_set_id: int
    cell: str
    variant_id: str
    bucket: int
    impressions: int
    """Times on screen, continuations included."""
    units: int
    plays: int
    """Quality plays of the units."""
    drawn: int
    """Units whose variant was drawn, not certain."""
    drawn_plays: int
    weight: float
    """Sum of 1 / propensity over the drawn."""
    weight2: float
    weighted_plays: float


def cell_of(table: sa.Table) -> sa.ColumnElement[str]:
    """Return the cell that rewards, or impressions, count for: no member of another system was
    drawn into one of this."""
    imported = sa.literal_column(f"'{IMPORTED}'", sa.Text)
    return sa.case((table.c.policy == imported, imported), else_=table.c.cell)


def take_turns(connection: Connection, slots: Iterable[str]) -> None:
    """Let nobody else settle, import or sum up what is of these slots until this is done. The first
    statement of whoever does, or two wait for each other."""
    for slot in sorted(slots):
        wait_for_turn(connection, f"join {slot}")


def add(connection: Connection, shown: Iterable[Row], units: Iterable[Row]) -> None:
    """Count impressions and units that were settled now; those nobody confirmed are left out.

    Both are mappings, with the columns of `impressions` and of `rewards`; each unit is among what
    was shown. Units of a log made elsewhere were shown once each.
    """
    unit_of = {(row["request_id"], row["position"]): row for row in units}
    by_day: dict[tuple[Any, ...], list[float]] = {}
    by_hour: dict[tuple[Any, ...], list[float]] = {}
    for row in shown:
        if row["confirm"] != "client":
            continue
        unit = unit_of.get((row["request_id"], row["position"]))
        sums = _CONTINUATION if unit is None else _unit(unit)
        paid = (0, 0.0, 0.0) if unit is None else _paid(unit["reward"])
        bucket = member_bucket(row["member_id"]) % BUCKETS
        slot, cell = row["slot"], IMPORTED if row["policy"] == IMPORTED else row["cell"]
        hour = microseconds(row["occurred_at"]) // _HOUR
        day = (slot, row["title_id"], hour // 24, row["action_set_id"], cell, row["variant_id"],
               bucket)  # fmt: skip
        _count(by_day, day, sums)
        _count(by_hour, (slot, hour, cell, row["model_version"] or 0, bucket), sums[:3] + paid)
    upsert_adding(connection, rollups, _rows(_KEY, _SUMS, by_day), _SUMS)
    upsert_adding(connection, cell_rollups, _rows(_CELL_KEY, _CELL_SUMS, by_hour), _CELL_SUMS)
    summaries.mark(connection, {(key[0], key[1]) for key in by_day})


_HOUR = HOUR // dt.timedelta(microseconds=1)
_CONTINUATION = (1, 0, 0, 0, 0, 0.0, 0.0, 0.0)


def _unit(row: Row) -> tuple[float, ...]:
    played, propensity = row["quality_play"], row["propensity"]
    if propensity >= 1:
        return (1, 1, played, 0, 0, 0.0, 0.0, 0.0)
    weight = 1 / propensity
    return (1, 1, played, 1, played, weight, weight * weight, played * weight)


def _paid(reward: float) -> tuple[float, ...]:
    return (int(reward != 0), reward, reward * reward)


def _count(
    into: dict[tuple[Any, ...], list[float]], key: tuple[Any, ...], sums: tuple[float, ...]
) -> None:
    kept = into.get(key)
    if kept is None:
        into[key] = list(sums)
        return
    for i, value in enumerate(sums):
        kept[i] += value


def _rows(
    key: tuple[str, ...], sums: tuple[str, ...], found: dict[tuple[Any, ...], list[float]]
) -> list[dict[str, Any]]:
    names = (*key, *sums)
    return [dict(zip(names, (*k, *values), strict=True)) for k, values in found.items()]


def of_title(
    connection: Connection, slot: str, title_id: str,
    since: int | None = None, until: int | None = None,
) -> list[Rollup]:  # fmt: skip
    """Return a title's sums of the days in [since, until), days counted from 1970."""
    return next((rows for _, rows in of_titles(connection, slot, [title_id], since, until)), [])


def of_titles(
    connection: Connection, slot: str, title_ids: Iterable[str],
    since: int | None = None, until: int | None = None,
) -> Iterator[tuple[str, list[Rollup]]]:  # fmt: skip
    """Yield (title id, sums) of those of some hundred titles that have any, the days in order."""
    query = sa.select(rollups.c.title_id, *(rollups.c[name] for name in Rollup._fields))
    query = query.where(rollups.c.slot == slot, rollups.c.title_id.in_(list(title_ids)))
    if since is not None:
        query = query.where(rollups.c.day >= since)
    if until is not None:
        query = query.where(rollups.c.day < until)
    kept: dict[str, list[Rollup]] = {}
    found = connection.execute(query.order_by(rollups.c.title_id, rollups.c.day))
    for row in found.cursor.fetchall():  # there is nothing to convert
        kept.setdefault(row[0], []).append(Rollup._make(row[1:]))
    yield from kept.items()


def count(connection: Connection, slot: str, title_ids: Iterable[str]) -> dict[str, int]:
    """Return how many rows the sums of some hundred titles have."""
    counts = dict.fromkeys(title_ids, 0)
    query = (
        sa.select(rollups.c.title_id, sa.func.count())
        .where(rollups.c.slot == slot, rollups.c.title_id.in_(list(counts)))
        .group_by(rollups.c.title_id)
    )
    return counts | {title: int(rows) for title, rows in connection.execute(query)}


def day_of(moment: dt.datetime) -> int:
    """Return the UTC day of an instant, counted from 1970."""
    return microseconds(moment) // (DAY // dt.timedelta(microseconds=1))


def day_after(moment: dt.datetime) -> int:
    """Return the first UTC day that begins at or after an instant."""
    return -(-microseconds(moment) // (DAY // dt.timedelta(microseconds=1)))


def start_of(day: int) -> dt.datetime:
    """Return the instant at which a day counted from 1970 begins, the last there is at most."""
    return instant(min(day, LAST_DAY) * (DAY // dt.timedelta(microseconds=1)))
