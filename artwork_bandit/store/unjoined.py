"""Events that count for nothing, and why.

Some is known when an event comes, and stored with it. The rest shows once windows have closed: what
names a decision that nobody is known to have seen, or happened outside of all windows. That is
asked of the events themselves, of the last `DERIVED` unless somebody says since when.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from artwork_bandit.domain import Event, EventType
from artwork_bandit.store import counting
from artwork_bandit.store.engine import Connection, chunks
from artwork_bandit.store.events import event_of
from artwork_bandit.store.tables import events, impressions, requests, rewards

WAITS = "waiting"
"""What an event may have followed is not settled yet."""
NOT_SHOWN = "not_shown"
OUTSIDE = "outside_window"
REASONS = frozenset({
    WAITS, NOT_SHOWN, OUTSIDE, "no_impression", "other_member", "late", "fallback", "no_decision",
    "not_logged", "no_title",
})  # fmt: skip
"""Why an event counts for nothing."""
DERIVED = dt.timedelta(days=7)
FIRST = dt.datetime.min.replace(tzinfo=dt.UTC)


class Asked(NamedTuple):
    """When somebody asks, and how long after an impression of each slot what follows counts."""

    now: dt.datetime
    windows: counting.Windows

    @property
    def open_since(self) -> dt.datetime:
        """From then on an impression may not be settled yet."""
        return self.now - max(self.windows.values())


def by_reason(
    connection: Connection, since: dt.datetime | None = None, until: dt.datetime | None = None,
    asked: Asked | None = None,
) -> dict[str, int]:  # fmt: skip
    """Return how many client events that happened in [since, until) count for nothing, by why; only
    by what is stored with them if nobody says how it was `asked`."""
    found: dict[str, int] = {}
    for reason, conditions in _parts(since, until, asked):
        query = sa.select(reason, sa.func.count()).where(*conditions).group_by(reason)
        for why, count in connection.execute(query):
            found[why] = found.get(why, 0) + int(count)
    return found


def latest(
    connection: Connection, reason: str, since: dt.datetime | None, until: dt.datetime | None,
    most: int, asked: Asked | None = None,
) -> list[Event]:  # fmt: skip
    """Return the last client events in [since, until) that count for nothing, for one reason."""
    found: list[Event] = []
    stored, *derived = _parts(since, until, asked)
    parts = [] if reason == NOT_SHOWN else [stored]
    parts += derived if reason in (NOT_SHOWN, OUTSIDE) else []
    for why, conditions in parts:
        query = sa.select(events).where(*conditions, why == reason)
        if conditions is stored[1]:  # the index knows these
            kept = "no_impression" if reason == WAITS else reason
            query = query.where(events.c.unjoined == kept)
        order = (events.c.occurred_at.desc(), events.c.event_id)
        rows = connection.execute(query.order_by(*order).limit(most))
        found += [replace(event_of(row), unjoined=reason) for row in rows]
    found.sort(key=lambda e: (-e.occurred_at.timestamp(), e.event_id))
    return found[:most]


def _parts(
    since: dt.datetime | None, until: dt.datetime | None, asked: Asked | None
) -> list[tuple[sa.ColumnElement[str], list[sa.ColumnElement[bool]]]]:
    """Return what is stored, and what is derived: the reason, and which events have one."""
    client = [events.c.source == "client"]
    client += [] if until is None else [events.c.occurred_at < until]
    within = [] if since is None else [events.c.occurred_at >= since]
    stored = [*client, *within, events.c.unjoined.is_not(None)]
    if asked is None:
        return [(events.c.unjoined, stored)]
    stored += [~found for found in _counted_all_the_same(asked.windows)]
    if since is None:
        newest = max(min(until or asked.now, asked.now), FIRST + DERIVED)
        within = [events.c.occurred_at >= newest - DERIVED]
    shown = sa.exists().where(
        impressions.c.request_id == events.c.request_id,
        impressions.c.position == events.c.position,
    )
    derived = [
        *client, *within, events.c.unjoined.is_(None), events.c.slot.is_not(None),
        events.c.type != EventType.IMPRESSION.value, events.c.occurred_at < asked.open_since,
        ~_pending(events.c.slot), ~counting.counted(asked.windows),
    ]  # fmt: skip
    return [(_stored_reason(asked), stored), (_case(shown, OUTSIDE, NOT_SHOWN), derived)]


def counted_all_the_same(
    connection: Connection, event_ids: Iterable[str], windows: counting.Windows
) -> set[str]:
    """Return those of the events that counted, whatever is stored of them: for another unit than
    that of the decision they name, which was settled before, or drawn of nothing."""
    found: set[str] = set()
    for some in chunks(sorted(event_ids)):
        query = sa.select(events.c.event_id).where(events.c.event_id.in_(some))
        query = query.where(sa.or_(*_counted_all_the_same(windows)))
        found |= set(connection.execute(query).scalars())
    return found


def _counted_all_the_same(windows: counting.Windows) -> list[sa.ColumnElement[bool]]:
    confirm = sa.select(requests.c.confirm).where(requests.c.request_id == events.c.request_id)
    named = sa.and_(
        rewards.c.period == events.c.period,
        rewards.c.confirm == confirm.correlate(events).scalar_subquery(),
    )
    in_time = rewards.c.settled_at >= events.c.received_at
    return [
        sa.and_(events.c.unjoined == "fallback", counting.counted(windows)),
        sa.and_(
            events.c.unjoined.in_(("late", OUTSIDE)),
            counting.counted(windows, ~named, in_time),
        ),
    ]


def _stored_reason(asked: Asked) -> sa.ColumnElement[str]:
    """Return the reason that is stored; what followed no impression that has been settled waits for
    one to be, if one may."""
    waits = (events.c.unjoined == "no_impression") & sa.or_(
        events.c.occurred_at >= asked.open_since, _pending(None)
    )
    return sa.case((waits, sa.literal_column(f"'{WAITS}'")), else_=events.c.unjoined)


def _case(condition: Any, yes: str, no: str) -> sa.ColumnElement[str]:
    texts = (sa.literal_column(f"'{text}'", sa.Text) for text in (yes, no))
    return sa.case((condition, next(texts)), else_=next(texts))


def _pending(slot: sa.ColumnElement[Any] | None) -> sa.ColumnElement[bool]:
    """Return whether what an event may have followed has been shown, and is not settled yet."""
    same = sa.true() if slot is None else impressions.c.slot == slot
    return sa.exists().where(
        impressions.c.member_id == events.c.member_id,
        impressions.c.title_id == events.c.title_id, same, ~impressions.c.settled,
    )  # fmt: skip
