"""What the overview says of each title: one row per title and slot, made by the worker."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from artwork_bandit.store.engine import Connection, upsert_adding
from artwork_bandit.store.tables import summaries, titles, variants

DAY = dt.timedelta(days=1)
Sort = Literal["traffic", "gain", "changed", "name"]
SORTS: tuple[Sort, ...] = ("traffic", "gain", "changed", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is known of a title in a slot; None until it has been summed up."""

    slot: str
    title_id: str
    made_at: dt.datetime | None = None
    impressions: int | None = None
    impressions_week: int | None = None
    """In its last seven days."""
    units: int | None = None
    plays: int | None = None
    verdict: str | None = None
    verdict_since: dt.datetime | None = None
    verdict_before: str | None = None
    leader: str | None = None
    """Variant id."""
    gain: float | None = None
    """Lift of the leader over the baseline variant."""
    days_left: float | None = None
    reason: str | None = None
    warning: str | None = None
    effects: dict[str, list[float]] | None = None
    """Variant id -> [effect relative to the title's mean, effective rows], of variants known
    well."""


def sort_named(name: str | None) -> Sort:
    """Return an order of the overview; the usual one for a name that is none."""
    return next((s for s in SORTS if s == name), "traffic")


_FIELDS = tuple(Summary.__dataclass_fields__)


def stale(
    connection: Connection, slot: str, limit: int, now: dt.datetime | None = None
) -> dict[str, int]:
    """Return titles that were marked since they were summed up, the oldest sums first, with the
    number of their last mark; with `now` also those whose last week has moved on by a day."""
    made_at = sa.type_coerce(summaries.c.made_at, sa.BigInteger)
    due = summaries.c.marks != summaries.c.summed
    if now is not None:
        passed = sa.and_(summaries.c.made_at < now - DAY, summaries.c.impressions_week > 0)
        due = sa.or_(due, passed)
    query = (
        sa.select(summaries.c.title_id, summaries.c.marks)
        .where(summaries.c.slot == slot, due)
        .order_by(sa.func.coalesce(made_at, 0), summaries.c.title_id)
        .limit(limit)
    )
    return {row.title_id: row.marks for row in connection.execute(query)}


def mark(connection: Connection, places: set[tuple[str, str]]) -> None:
    """Have (slot, title id) summed up again: rewards came, or its variants changed."""
    rows = [{"slot": slot, "title_id": title, "marks": 1, "summed": 0} for slot, title in places]
    upsert_adding(connection, summaries, rows, ("marks",))


def get(connection: Connection, slot: str, title_ids: Sequence[str]) -> dict[str, Summary]:
    """Return what is known of some titles in a slot."""
    return {t: s for (t, at), s in in_all_slots(connection, title_ids).items() if at == slot}


def in_all_slots(
    connection: Connection, title_ids: Sequence[str]
) -> dict[tuple[str, str], Summary]:
    """Return what is known of some titles, by (title id, slot)."""
    query = sa.select(summaries).where(summaries.c.title_id.in_(list(title_ids)))
    return {(row.title_id, row.slot): _summary(row) for row in connection.execute(query)}


def put(connection: Connection, values: Sequence[Summary], summed: Mapping[str, int]) -> None:
    """Store summaries, made of what was there at each title's last mark."""
    for value in sorted(values, key=lambda v: (v.slot, v.title_id)):  # in the order of `mark`
        row = {name: getattr(value, name) for name in _FIELDS} | {"summed": summed[value.title_id]}
        place = (summaries.c.slot == value.slot, summaries.c.title_id == value.title_id)
        connection.execute(sa.update(summaries).where(*place).values(row))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A title of the overview."""

    title_id: str
    name: str
    summary: Summary | None


def overview(
    connection: Connection, slot: str, *, search: str = "", verdict: str = "", warned: bool = False,
    sort: Sort = "traffic", offset: int = 0, limit: int = 60,
) -> tuple[int, list[Listed]]:  # fmt: skip
    """Return how many titles with variants in the slot match, and a page of them."""
    has_variants = sa.exists().where(
        variants.c.title_id == titles.c.title_id, variants.c.slot == slot
    )
    joined = titles.outerjoin(
        summaries, sa.and_(summaries.c.title_id == titles.c.title_id, summaries.c.slot == slot)
    )
    conditions: list[sa.ColumnElement[bool]] = [has_variants]
    if search:
        conditions.append(titles.c.name.icontains(search, autoescape=True))
    if verdict:
        conditions.append(summaries.c.verdict == verdict)
    if warned:
        conditions.append(summaries.c.warning.is_not(None))
    count = sa.select(sa.func.count()).select_from(joined).where(*conditions)
    order: dict[Sort, sa.ColumnElement[Any]] = {
        "traffic": sa.func.coalesce(summaries.c.impressions_week, 0).desc(),
        "gain": sa.func.coalesce(summaries.c.gain, -1.0).desc(),
        "changed": sa.func.coalesce(
            sa.type_coerce(summaries.c.verdict_since, sa.BigInteger), 0
        ).desc(),
        "name": titles.c.name.asc(),
    }
    query = (
        sa.select(titles.c.title_id.label("id"), titles.c.name, summaries)
        .select_from(joined)
        .where(*conditions)
        .order_by(order[sort], titles.c.name, titles.c.title_id)
        .offset(offset)
        .limit(limit)
    )
    listed = [
        Listed(title_id=row.id, name=row.name, summary=None if row.slot is None else _summary(row))
        for row in connection.execute(query)
    ]
    return int(connection.execute(count).scalar_one()), listed


def effects(connection: Connection, slot: str) -> dict[str, dict[str, list[float]]]:
    """Return the effects of every title that has some."""
    query = sa.select(summaries.c.title_id, summaries.c.effects).where(
        summaries.c.slot == slot, summaries.c.effects.is_not(None)
    )
    return {row.title_id: row.effects for row in connection.execute(query)}


def by_verdict(connection: Connection, slot: str) -> dict[str, int]:
    """Return how many titles have each verdict."""
    query = (
        sa.select(summaries.c.verdict, sa.func.count())
        .where(summaries.c.slot == slot, summaries.c.verdict.is_not(None))
        .group_by(summaries.c.verdict)
    )
    return {word: int(count) for word, count in connection.execute(query)}


def changed_since(
    connection: Connection, slot: str, since: dt.datetime, limit: int
) -> list[tuple[str, Summary]]:
    """Return (name, summary) of titles whose verdict changed since then, the latest first."""
    query = (
        sa.select(titles.c.name, summaries)
        .join_from(summaries, titles, titles.c.title_id == summaries.c.title_id)
        .where(
            summaries.c.slot == slot, summaries.c.verdict_since >= since,
            summaries.c.verdict_before.is_not(None),
        )
        .order_by(summaries.c.verdict_since.desc(), summaries.c.title_id)
        .limit(limit)
    )  # fmt: skip
    return [(row.name, _summary(row)) for row in connection.execute(query)]


def _summary(row: Any) -> Summary:
    return Summary(**{name: getattr(row, name) for name in _FIELDS})
