"""Events and the impressions they confirm. Event ids make them idempotent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import sqlalchemy as sa

from artwork_bandit.domain import Decisions, Event, EventType
from artwork_bandit.policies.profile import Viewing, viewing_of
from artwork_bandit.store import catalog
from artwork_bandit.store.engine import Connection, chunks, insert_least, insert_returning
from artwork_bandit.store.tables import OF_VIEWING, events, impressions
from artwork_bandit.store.units import UNIT, Unit, unit_of

ROWS_AT_ONCE = 5_000
DAY = dt.timedelta(days=1) // dt.timedelta(microseconds=1)
MEMBERS_AT_ONCE = 50
"""Whose titles are looked up by one statement, each member with each of their titles."""
WAITING = ("no_impression", "other_member")
"""Why events are joined to nothing that may be joined by what comes later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A member's impression of a title."""

    member_id: str
    title_id: str
    request_id: str
    position: int
    slot: str
    period: int
    occurred_at: dt.datetime
    confirm: str


def with_lengths(connection: Connection, values: list[Event]) -> list[Event]:
    """Return the events; those that say what was watched, but of what length, with their title's
    by the catalogue."""
    without = {e.title_id for e in values if _lacks_length(e) and e.title_id is not None}
    if not without:
        return values
    lengths = catalog.title_lengths(connection, without)
    return [
        replace(e, duration_seconds=lengths.get(e.title_id or "")) if _lacks_length(e) else e
        for e in values
    ]


def _lacks_length(event: Event) -> bool:
    return event.seconds_watched is not None and not event.duration_seconds


def insert(connection: Connection, values: Sequence[Event], received_at: dt.datetime) -> set[str]:
    """Append events whose id is not stored yet; return the ids that were new."""
    new: set[str] = set()
    for start in range(0, len(values), ROWS_AT_ONCE):
        rows = [
            {
                "event_id": e.event_id, "type": e.type.value, "occurred_at": e.occurred_at,
                "received_at": received_at, "member_id": e.member_id, "sender_id": e.sender_id,
                "title_id": e.title_id,
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
    """Record that decisions (request, position) were on screen at a moment; each counts once, from
    its first moment on, whichever comes first, until its unit is settled.

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
    insert_least(connection, impressions, rows, "occurred_at", ~impressions.c.settled)


def shown_between(
    connection: Connection, pairs: Iterable[tuple[str, str]], since: dt.datetime,
    until: dt.datetime,
) -> list[Shown]:  # fmt: skip
    """Return the impressions of these (member, title) pairs from `since` to `until`, in any slot,
    the earliest first."""
    names = Shown.__dataclass_fields__
    found = []
    for members, titles, some in _by_members(pairs):
        query = sa.select(*(impressions.c[name] for name in names)).where(
            impressions.c.member_id.in_(members), impressions.c.title_id.in_(titles),
            impressions.c.occurred_at.between(since, until),
        )  # fmt: skip
        rows = connection.execute(query)
        found += [Shown(**row._mapping) for row in rows if (row.member_id, row.title_id) in some]
    return sorted(found, key=lambda s: (s.occurred_at, s.slot, s.request_id, s.position))


def firsts(connection: Connection, shown: Iterable[Shown]) -> dict[Unit, dt.datetime]:
    """Return when the units that these impressions are of were first shown."""
    wanted = {unit_of(each) for each in shown}
    periods = sorted({period for _, _, _, period, _ in wanted})
    columns = [impressions.c[name] for name in UNIT]
    found: dict[Unit, dt.datetime] = {}
    for members, titles, _ in _by_members({(member, title) for member, title, *_ in wanted}):
        for some in chunks(periods):
            query = sa.select(*columns, sa.func.min(impressions.c.occurred_at).label("first"))
            query = query.where(
                impressions.c.member_id.in_(members), impressions.c.title_id.in_(titles),
                impressions.c.period.in_(some),
            ).group_by(*columns)  # fmt: skip
            rows = connection.execute(query)
            found |= {unit: row.first for row in rows if (unit := unit_of(row)) in wanted}
    return found


def waiting_for(
    connection: Connection, pairs: Iterable[tuple[str, str]], since: dt.datetime,
    until: dt.datetime,
) -> list[Event]:  # fmt: skip
    """Return the events of these (member, title) pairs that are joined to nothing yet: those that
    name no decision from `since` to `until`, others whatever their clock says."""
    found = []
    for members, titles, some in _by_members(pairs):
        query = sa.select(events).where(
            events.c.type != EventType.IMPRESSION.value,  # the first five are of the index
            events.c.member_id.in_(members), events.c.title_id.in_(titles), events.c.slot.is_(None),
            sa.or_(events.c.unjoined.is_(None), events.c.unjoined.in_(WAITING)),
            sa.or_(events.c.occurred_at.between(since, until), events.c.request_id.is_not(None)),
        )  # fmt: skip
        rows = connection.execute(query)
        found += [event_of(row) for row in rows if (row.member_id, row.title_id) in some]
    return found


def of_viewings(connection: Connection, viewings: Iterable[Viewing]) -> dict[Viewing, list[Event]]:
    """Return the events that are stored of each of these viewings."""
    found: dict[Viewing, list[Event]] = {viewing: [] for viewing in viewings}
    if not found:
        return found
    pairs = sorted({(sender, title) for sender, title, _ in found})
    days = [viewing.day for viewing in found]
    asked: dict[str, Any] = {"since": min(days) * DAY, "until": (max(days) + 1) * DAY}
    if connection.dialect.name == "postgresql":
        asked |= {"senders": [s for s, _ in pairs], "titles": [t for _, t in pairs]}
    else:
        asked["pairs"] = msgspec.json.encode(pairs).decode()
    for event in map(event_of, connection.execute(_OF_PAIRS[connection.dialect.name], asked)):
        viewing = viewing_of(event)
        if viewing is not None and viewing in found:
            found[viewing].append(event)
    return found


def _of_pairs(pairs: str) -> sa.TextualSelect:
    """Return the query of viewings' events: the index is asked once for each pair."""
    names = ", ".join(f"events.{column.name}" for column in events.c)
    return sa.text(
        f"SELECT {names} FROM {pairs} WHERE events.{OF_VIEWING.text} "
        "AND events.occurred_at >= :since AND events.occurred_at < :until"
    ).columns(*events.c)


_OF_PAIRS = {
    "sqlite": _of_pairs(
        "json_each(:pairs) AS asked CROSS JOIN events"
        " ON events.sender_id = json_extract(asked.value, '$[0]')"
        " AND events.title_id = json_extract(asked.value, '$[1]')"
    ),
    "postgresql": _of_pairs(
        "unnest(CAST(:senders AS text[]), CAST(:titles AS text[])) AS asked (sender, title)"
        " JOIN events ON events.sender_id = asked.sender AND events.title_id = asked.title"
    ),
}
"""For a few hundred pairs at a time or a few thousand: one statement that need not be made anew."""


def _by_members(
    pairs: Iterable[tuple[str, str]],
) -> Iterator[tuple[list[str], list[str], set[tuple[str, str]]]]:
    """Yield (members, titles, pairs) of a few members at a time: an index is asked for each of the
    members with each of the titles."""
    of_member: dict[str, list[str]] = {}
    for member, title in sorted(pairs):
        of_member.setdefault(member, []).append(title)
    members = list(of_member)
    for start in range(0, len(members), MEMBERS_AT_ONCE):
        some = members[start : start + MEMBERS_AT_ONCE]
        wanted = {(member, title) for member in some for title in of_member[member]}
        titles = sorted({title for _, title in wanted})
        for few in chunks(titles):
            yield some, few, wanted


def join(connection: Connection, joined: Sequence[Event]) -> None:
    """Write down what stored events were joined to."""
    if joined:
        names = ("member_id", "slot", "request_id", "position", "period", "unjoined")
        statement = sa.update(events).where(events.c.event_id == sa.bindparam("id"))
        statement = statement.where(events.c.slot.is_(None))  # who came first has joined it
        statement = statement.values({name: sa.bindparam(f"new_{name}") for name in names})
        rows = [{"id": e.event_id} | {f"new_{n}": getattr(e, n) for n in names} for e in joined]
        connection.execute(statement, rows)


def of_decision(
    connection: Connection, decisions: Decisions, position: int,
    counted: tuple[dt.datetime, dt.datetime] | None = None,
) -> list[Event]:  # fmt: skip
    """Return what the member did that names one decision, the earliest first; and what else they
    did with its title from and until when it is `counted`, if that is given."""
    named = sa.and_(events.c.request_id == decisions.request_id, events.c.position == position)
    within = sa.false() if counted is None else events.c.occurred_at.between(*counted)
    query = (
        sa.select(events)
        .where(
            # The first four are what the index has.
            events.c.type != EventType.IMPRESSION.value,
            events.c.member_id == decisions.member_id,
            events.c.title_id == decisions.choices[position].title_id,
            events.c.slot == decisions.slot,
            sa.or_(named, within),
        )
        .order_by(events.c.occurred_at, events.c.event_id)
    )
    return [event_of(row) for row in connection.execute(query)]


def event_of(row: Any) -> Event:
    """Return an event of its row."""
    return Event(
        event_id=row.event_id, type=EventType(row.type), occurred_at=row.occurred_at,
        member_id=row.member_id, sender_id=row.sender_id, title_id=row.title_id, slot=row.slot,
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


def stored(connection: Connection, event_ids: Iterable[str]) -> dict[str, Event]:
    """Return the events of these ids that are stored."""
    found: dict[str, Event] = {}
    for some in chunks(sorted(set(event_ids))):
        rows = connection.execute(sa.select(events).where(events.c.event_id.in_(some)))
        found |= {row.event_id: event_of(row) for row in rows}
    return found


def is_other(event: Event, known: Event, members: Mapping[str, str]) -> bool:
    """Return whether an event's id is another event's, of another kind, title or person, as far as
    both say which; `members` has whom visitors turned out to be. What is sent again may say
    otherwise when, or how long."""
    by, known_by = (None if e.sender_id is None else members.get(e.sender_id, e.sender_id)
                    for e in (event, known))  # fmt: skip
    pairs = ((event.title_id, known.title_id), (by, known_by))
    return event.type is not known.type or any(
        one is not None and other is not None and one != other for one, other in pairs
    )


def existing(connection: Connection, event_ids: Iterable[str]) -> set[str]:
    """Return those of the ids that are stored."""
    found: set[str] = set()
    for some in chunks(sorted(set(event_ids))):
        query = sa.select(events.c.event_id).where(events.c.event_id.in_(some))
        found.update(connection.execute(query).scalars())
    return found
