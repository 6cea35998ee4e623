"""What an event followed: the decision it names, or else the latest impression of its title by
whoever sent it, be it before or after signing in.

Events, impressions and sign-ins come in any order, so who has seen what is known for sure only when
a unit is settled: then the events that name no decision of their sender's are joined to what they
followed. Until then they wait, as `no_impression` where nothing that they could have followed was
known when they came, and as `other_member` where the decision they name was made for somebody who
is not known to be the same person.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import sqlalchemy as sa

from artwork_bandit.domain import Decisions, Event, EventType, microseconds
from artwork_bandit.errors import InvalidInput
from artwork_bandit.store import events as event_store
from artwork_bandit.store import merges
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.events import Shown
from artwork_bandit.store.units import Unit, settled_units


class Attributed(NamedTuple):
    event: Event
    unit: Unit | None
    """What it counts for; None if that is not known."""


def of_decision(
    event: Event, decision: Decisions, position: int, members: Mapping[str, str]
) -> Attributed:
    """Return an event joined to the decision it names; raises InvalidInput for one of another
    title. `members` are those whom visitors turned out to be."""
    if position >= len(decision.choices):
        raise InvalidInput("decision_id names a decision that was never made")
    title_id, member = decision.choices[position].title_id, decision.member_id
    if event.title_id not in (None, title_id):
        raise InvalidInput("title_id is not the one the decision was made for")
    context = decision.context
    event = replace(
        event,
        title_id=title_id,
        request_id=decision.request_id,
        position=position,
        device=event.device or context.device,
        hour=context.hour if event.hour is None else event.hour,
        weekday=context.weekday if event.weekday is None else event.weekday,
    )
    sender = event.member_id or member
    same = members.get(sender, sender) == members.get(member, member)
    if not same and event.type is not EventType.IMPRESSION:  # whoever says so, it was shown
        return Attributed(replace(event, unjoined="other_member"), None)
    joined = replace(
        event, member_id=member, slot=decision.slot, period=decision.period, unjoined=None
    )
    return Attributed(joined, (member, title_id, decision.slot, decision.period, decision.confirm))


def _of_shown(event: Event, shown: Shown) -> Attributed:
    joined = replace(
        event, member_id=shown.member_id, slot=shown.slot, request_id=shown.request_id,
        position=shown.position, period=shown.period, unjoined=None,
    )  # fmt: skip
    return Attributed(
        joined, (shown.member_id, shown.title_id, shown.slot, shown.period, shown.confirm)
    )


def taken_in(
    connection: Connection, found: Sequence[Attributed], window: dt.timedelta
) -> list[Event]:
    """Return events as they are to be stored: those whose unit was settled before they came are
    `late`, and what names no decision waits."""
    alone = [i for i, (event, _) in enumerate(found) if _is_alone(event)]
    guessed = dict(zip(alone, _of_latest(connection, [found[i].event for i in alone], window),
                       strict=True))  # fmt: skip
    followed = [guessed.get(i, each) for i, each in enumerate(found)]
    units = [
        None if each is None or each.event.type is EventType.IMPRESSION else each.unit
        for each in followed
    ]
    settled = settled_units(connection, {unit for unit in units if unit is not None})
    stored = []
    for i, (event, unit) in enumerate(zip((each.event for each in found), units, strict=True)):
        if unit in settled:
            joined = followed[i]
            assert joined is not None, "it has a unit"
            event = replace(joined.event, unjoined="late")
        elif i in guessed and guessed[i] is None:
            event = replace(event, unjoined="no_title" if not event.title_id else "no_impression")
        stored.append(event)
    return stored


def _is_alone(event: Event) -> bool:
    return event.request_id is None and event.unjoined is None


def join_waiting(connection: Connection, closed: sa.Subquery, window: dt.timedelta) -> None:
    """Join the events that wait for impressions to what they followed, before these are settled."""
    waiting = event_store.waiting_after(connection, closed, window)
    shown = event_store.people_shown(connection, closed)
    person = persons(connection, {member for member, _ in shown})
    signed_in = {member: ids for member, ids in person.items() if len(ids) > 1}
    pairs = {(i, title) for member, title in shown for i in signed_in.get(member, ())}
    waiting |= {e.event_id: e for e in event_store.waiting_for(connection, pairs)}
    if not waiting:
        return
    events = [waiting[event_id] for event_id in sorted(waiting)]
    named = request_store.get_many(connection, {e.request_id for e in events if e.request_id})
    ids = {e.member_id for e in events if e.member_id} | {d.member_id for d in named.values()}
    members = merges.members_of(connection, ids)
    alone = [event for event in events if event.request_id is None]
    found = [each for each in _of_latest(connection, alone, window) if each is not None]
    for event in events:
        decision = named.get(event.request_id or "")
        if decision is not None and event.position is not None:
            found.append(of_decision(event, decision, event.position, members))
    joined = [each for each in found if each.unit is not None]
    settled = settled_units(connection, {each.unit for each in joined if each.unit is not None})
    event_store.join(
        connection,
        [replace(e, unjoined="late") if unit in settled else e for e, unit in joined],
    )


def _of_latest(
    connection: Connection, events: Sequence[Event], window: dt.timedelta
) -> list[Attributed | None]:
    """Return events joined to the latest impression of their title, within the `window` before, by
    their sender under any id; None where there is none."""
    told = [e for e in events if e.title_id and e.member_id]
    if not told:
        return [None] * len(events)
    person = persons(connection, {e.member_id for e in told if e.member_id})
    moments = [e.occurred_at for e in told]
    rows = event_store.shown_between(
        connection, {i for ids in person.values() for i in ids},
        {e.title_id for e in told if e.title_id}, min(moments) - window, max(moments),
    )  # fmt: skip
    by_place: defaultdict[tuple[str, str], list[Shown]] = defaultdict(list)
    for row in rows:
        by_place[row.member_id, row.title_id].append(row)
    times = {key: [microseconds(row.occurred_at) for row in some] for key, some in by_place.items()}
    found: list[Attributed | None] = []
    for event in events:
        candidates = []
        for i in person.get(event.member_id or "", ()):
            key = (i, event.title_id or "")
            at = bisect_right(times.get(key, []), microseconds(event.occurred_at))
            if at and by_place[key][at - 1].occurred_at >= event.occurred_at - window:
                candidates.append(by_place[key][at - 1])
        latest = max(candidates, key=lambda s: (s.occurred_at, s.slot, s.member_id), default=None)
        found.append(None if latest is None else _of_shown(event, latest))
    return found


def persons(connection: Connection, ids: Iterable[str]) -> dict[str, list[str]]:
    """Return per id all ids of the same person, its member's first."""
    ids = set(ids)
    members = merges.members_of(connection, ids)
    visitors = merges.visitors_of(connection, ids | set(members.values()))
    return {i: [m, *visitors.get(m, ())] for i in ids for m in [members.get(i, i)]}
