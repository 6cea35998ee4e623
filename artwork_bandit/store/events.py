"""Events and the impressions they confirm. Append-only; event ids make them idempotent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from artwork_bandit.domain import Decisions, Event, EventType
from artwork_bandit.store.engine import Connection, chunks, insert_ignoring, insert_returning
from artwork_bandit.store.tables import events, impressions

ROWS_AT_ONCE = 5_000
WAITING = ("no_impression", "other_member")
"""Why events are joined to nothing that may be joined by what comes later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A member's impression of a title."""

    member_id: str
    request_id: str
    position: int
    slot: str
    period: int
    occurred_at: dt.datetime
    confirm: str


def insert(connection: Connection, values: Sequence[Event], received_at: dt.datetime) -> set[str]:
    """Append events whose id is not stored yet; return the ids that were new."""
    new: set[str] = set()
    for start in range(0, len(values), ROWS_AT_ONCE):
        rows = [
            {
                "event_id": e.event_id, "type": e.type.value, "occurred_at": e.occurred_at,
                "received_at": received_at, "member_id": e.member_id, "title_id": e.title_id,
                "slot": e.slot, "request_id": e.request_id, "position": e.position,
                "period": e.period, "seconds_watched": e.seconds_watched,
                "duration_seconds": e.duration_seconds, "query": e.query,
                "device": e.device, "hour": e.hour, "weekday": e.weekday,
                "source": e.source, "unjoined": e.unjoined,
            }
            for e in values[start : start + ROWS_AT_ONCE]
        ]  # fmt: skip
        new |= insert_returning(connection, events, rows, events.c.event_id)
    return new


def insert_impressions(
    connection: Connection,
    shown: Iterable[tuple[Decisions, int, dt.datetime]],
    received_at: dt.datetime,
) -> None:
    """Record that decisions (request, position) were on screen at a moment; each counts once.

    Fallbacks have no propensity and become no impression.
    """
    rows = []
    for request, position, moment in shown:
        choice = request.choices[position]
        if choice.propensity is None:
            continue
        rows.append(
            {
                "request_id": request.request_id, "position": position,
                "member_id": request.member_id, "title_id": choice.title_id,
                "slot": request.slot, "period": request.period, "occurred_at": moment,
                "received_at": received_at, "confirm": request.confirm, "cell": request.cell,
                "policy": request.policy, "model_version": request.model_version,
                "action_set_id": choice.action_set_id, "chosen": choice.index,
                "variant_id": choice.variant_id, "propensity": choice.propensity,
                "settled": False,
            }
        )  # fmt: skip
    insert_ignoring(connection, impressions, rows)


def latest_impression(
    connection: Connection, member_ids: Sequence[str], title_id: str, since: dt.datetime,
    until: dt.datetime,
) -> Shown | None:  # fmt: skip
    """Return the last impression of a title from `since` to `until`, in any slot, by a member or a
    visitor that it was."""
    row = connection.execute(
        sa.select(impressions)
        .where(
            impressions.c.member_id.in_(member_ids), impressions.c.title_id == title_id,
            impressions.c.occurred_at <= until,
            impressions.c.occurred_at >= since,
        )
        .order_by(impressions.c.occurred_at.desc(), impressions.c.slot)
        .limit(1)
    ).first()  # fmt: skip
    if row is None:
        return None
    return Shown(
        member_id=row.member_id, request_id=row.request_id, position=row.position,
        slot=row.slot, period=row.period, occurred_at=row.occurred_at, confirm=row.confirm,
    )  # fmt: skip


def waiting_for(
    connection: Connection, shown: Iterable[tuple[str, str]], members: Iterable[str]
) -> list[Event]:
    """Return events that are joined to nothing because what they followed, or their member's
    signing in, had not come: of these (member, title) pairs, and all of these members'."""
    pairs, whole = set(shown), set(members)
    query = sa.select(events).where(
        events.c.type != EventType.IMPRESSION.value,  # of the index, as are member and slot
        events.c.slot.is_(None),
        events.c.unjoined.in_(WAITING),
    )
    found = []
    for some in chunks(sorted({member for member, _ in pairs} | whole)):
        rows = connection.execute(query.where(events.c.member_id.in_(some)))
        found += [r for r in rows if r.member_id in whole or (r.member_id, r.title_id) in pairs]
    return [_event(row) for row in sorted(found, key=lambda row: row.event_id)]


def join(connection: Connection, joined: Sequence[Event]) -> None:
    """Write down what stored events were joined to."""
    if joined:
        names = ("member_id", "slot", "request_id", "position", "period", "unjoined")
        statement = sa.update(events).where(events.c.event_id == sa.bindparam("id"))
        statement = statement.values({name: sa.bindparam(f"new_{name}") for name in names})
        rows = [{"id": e.event_id} | {f"new_{n}": getattr(e, n) for n in names} for e in joined]
        connection.execute(statement, rows)


def of_decision(connection: Connection, decisions: Decisions, position: int) -> list[Event]:
    """Return what the member did with one decision after seeing it, the earliest first."""
    query = (
        sa.select(events)
        .where(
            # The first four are what the index has.
            events.c.type != EventType.IMPRESSION.value,
            events.c.member_id == decisions.member_id,
            events.c.title_id == decisions.choices[position].title_id,
            events.c.slot == decisions.slot,
            events.c.request_id == decisions.request_id,
            events.c.position == position,
        )
        .order_by(events.c.occurred_at, events.c.event_id)
    )
    return [_event(row) for row in connection.execute(query)]


def _event(row: Any) -> Event:
    return Event(
        event_id=row.event_id, type=EventType(row.type), occurred_at=row.occurred_at,
        member_id=row.member_id, title_id=row.title_id, slot=row.slot,
        request_id=row.request_id, position=row.position, period=row.period,
        seconds_watched=row.seconds_watched, duration_seconds=row.duration_seconds,
        query=row.query, device=row.device, hour=row.hour, weekday=row.weekday,
        source=row.source, unjoined=row.unjoined,
    )  # fmt: skip


def shown_at(connection: Connection, request_id: str, position: int) -> dt.datetime | None:
    """Return when a decision was on screen, as far as anybody has said."""
    query = sa.select(impressions.c.occurred_at).where(
        impressions.c.request_id == request_id, impressions.c.position == position
    )
    return connection.execute(query).scalar()


def unjoined_by_reason(
    connection: Connection, since: dt.datetime | None = None, until: dt.datetime | None = None
) -> dict[str, int]:
    """Return how many client events that happened in [since, until) count for nothing, by why."""
    query = sa.select(events.c.unjoined, sa.func.count()).where(*_unjoined(since, until))
    rows = connection.execute(query.group_by(events.c.unjoined))
    return {reason: int(count) for reason, count in rows}


def latest_unjoined(
    connection: Connection, reason: str, since: dt.datetime | None, until: dt.datetime | None,
    most: int,
) -> list[Event]:  # fmt: skip
    """Return the last client events in [since, until) that count for nothing, for one reason."""
    query = (
        sa.select(events)
        .where(*_unjoined(since, until), events.c.unjoined == reason)
        .order_by(events.c.occurred_at.desc(), events.c.event_id)
        .limit(most)
    )
    return [_event(row) for row in connection.execute(query)]


def _unjoined(
    since: dt.datetime | None, until: dt.datetime | None
) -> list[sa.ColumnElement[bool]]:  # fmt: skip
    found = [events.c.source == "client", events.c.unjoined.is_not(None)]
    found += [] if since is None else [events.c.occurred_at >= since]
    return found + ([] if until is None else [events.c.occurred_at < until])


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When what followed impressions came."""

    events: int
    late: int
    """That came when their unit's reward had been settled already."""
    early: int
    """That happened before the impression they name, by the clock of whoever sent them."""


def timing(
    connection: Connection, slot: str, since: dt.datetime | None, until: dt.datetime | None
) -> Timing:
    """Return how the events of a slot in [since, until) lie in time."""
    shown = sa.and_(
        impressions.c.request_id == events.c.request_id,
        impressions.c.position == events.c.position,
    )

    def counted(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)

    query = (
        sa.select(
            sa.func.count(),
            counted(events.c.unjoined == "late"),
            counted(events.c.occurred_at < impressions.c.occurred_at),
        )
        .select_from(events.outerjoin(impressions, shown))
        .where(events.c.slot == slot, events.c.type != EventType.IMPRESSION.value)
    )
    if since is not None:
        query = query.where(events.c.occurred_at >= since)
    if until is not None:
        query = query.where(events.c.occurred_at < until)
    count, late, early = connection.execute(query).one()
    return Timing(events=int(count), late=int(late), early=int(early))


def existing(connection: Connection, event_ids: Iterable[str]) -> set[str]:
    """Return those of the ids that are stored."""
    found: set[str] = set()
    for some in chunks(sorted(set(event_ids))):
        query = sa.select(events.c.event_id).where(events.c.event_id.in_(some))
        found.update(connection.execute(query).scalars())
    return found
