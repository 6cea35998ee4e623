"""What an event followed: the decision it names, or else the latest impression of its title by
whoever sent it, be it before or after signing in, of those whose unit it can still count for. That
says whose it is and of which slot, and so for which units it counts: all of that member, title and
slot in whose window it is (`store.rewards`).

Events, impressions and sign-ins come in any order, so who has seen what is known for sure only when
a unit is settled: then the events that name no decision of their sender's are joined to what they
followed. Until then they wait, as `no_impression`, or as `other_member` where the decision they
name was made for somebody who is not known to be the same person.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from artwork_bandit.domain import Decisions, Event, EventType
from artwork_bandit.errors import InvalidInput
from artwork_bandit.store import counting, merges
from artwork_bandit.store import events as event_store
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.counting import Windows
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.events import Shown
from artwork_bandit.store.turns import PATIENCE, wait_for_turn
from artwork_bandit.store.units import Unit, settled_units, unit_of


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
        sender_id=event.member_id or member,
        title_id=title_id,
        request_id=decision.request_id,
        position=position,
        device=event.device or context.device,
        hour=context.hour if event.hour is None else event.hour,
        weekday=context.weekday if event.weekday is None else event.weekday,
    )
    sender = event.sender_id or member
    same = members.get(sender, sender) == members.get(member, member)
    if not same and event.type is not EventType.IMPRESSION:  # whoever says so, it was shown
        return Attributed(replace(event, unjoined="other_member"), None)
    drawn = event.type is EventType.IMPRESSION or decision.choices[position].propensity is not None
    joined = replace(
        event, member_id=member, slot=decision.slot, period=decision.period,
        unjoined=None if drawn else "fallback",
    )  # fmt: skip
    return Attributed(joined, (member, title_id, decision.slot, decision.period, decision.confirm))


TURN = "attribution"


def share(connection: Connection) -> None:
    """Let no unit be settled until this transaction, which takes in events, has ended: what is
    settled meanwhile would not count them, and they would not know."""
    wait_for_turn(connection, TURN, shared=True)


def alone(connection: Connection) -> None:
    """Let nobody take in events or settle units until this transaction has ended."""
    wait_for_turn(connection, TURN, patience=PATIENCE)


def taken_in(connection: Connection, found: Sequence[Attributed], windows: Windows) -> list[Event]:
    """Return events as they are to be stored: those whose unit was settled before they came are
    `late`, if they would have counted, else `outside_window`; what names no decision waits."""
    units = [None if e.type is EventType.IMPRESSION else unit for e, unit in found]
    settled = settled_units(connection, {unit for unit in units if unit is not None})
    stored = []
    for (event, _), unit in zip(found, units, strict=True):
        if unit is not None and (first := settled.get(unit)) is not None:
            in_time = event.occurred_at <= first + windows[unit[2]]
            event = replace(event, unjoined="late" if in_time else "outside_window")
        elif event.request_id is None and event.unjoined is None:
            event = replace(event, unjoined="no_impression" if event.title_id else "no_title")
        stored.append(event)
    return stored


def join_waiting(connection: Connection, closing: Sequence[Any], windows: Windows) -> None:
    """Join the events that wait and count for one of these impressions' units, which are settled
    next; the oldest impression is the first. Others go on waiting: for theirs to close, or for
    ever if that was settled before they came."""
    if not closing:
        return
    person = persons(connection, {row.member_id for row in closing})
    pairs = {(i, row.title_id) for row in closing for i in person[row.member_id]}
    moments = [row.occurred_at for row in closing]
    last = max(moments) + max(windows.values())
    waiting = event_store.waiting_for(connection, pairs, min(moments), last)
    found = followed(connection, waiting, windows)
    places = {unit[:3] for _, unit in found if unit is not None}
    firsts: dict[Unit, dt.datetime] = {}
    for row in closing:
        if (unit := unit_of(row))[:3] in places:
            firsts.setdefault(unit, row.occurred_at)
    of_place: defaultdict[tuple[str, str, str], list[Unit]] = defaultdict(list)
    for unit in firsts.keys() - settled_units(connection, firsts):
        of_place[unit[:3]].append(unit)

    def counts(event: Event, of: Unit) -> bool:
        return any(
            unit == of or firsts[unit] <= event.occurred_at <= firsts[unit] + windows[unit[2]]
            for unit in of_place[of[:3]]
        )

    event_store.join(connection, [e for e, unit in found if unit is not None and counts(e, unit)])


def followed(
    connection: Connection, waiting: Sequence[Event], windows: Windows
) -> list[Attributed]:
    """Return the events that followed anything, joined to what that is as far as anybody knows."""
    if not waiting:
        return []
    named = request_store.get_many(connection, {e.request_id for e in waiting if e.request_id})
    ids = {e.member_id for e in waiting if e.member_id}
    members = merges.members_of(connection, ids | {d.member_id for d in named.values()})
    alone = [event for event in waiting if event.request_id is None]
    found = _of_latest(connection, alone, windows)
    for event in waiting:
        decision = named.get(event.request_id or "")
        if decision is not None and event.position is not None:
            found.append(of_decision(event, decision, event.position, members))
    found.sort(key=lambda each: each.event.event_id)
    return [each for each in found if each.unit is not None]


def _of_latest(
    connection: Connection, events: Sequence[Event], windows: Windows
) -> list[Attributed]:
    """Return events joined to the latest impression of their title by their sender, under any id,
    of those whose unit they can count for; those for which there is none are left out."""
    if not events:
        return []
    person = persons(connection, {e.member_id for e in events if e.member_id})
    moments = [e.occurred_at for e in events]
    rows = event_store.shown_between(
        connection,
        {(i, e.title_id) for e in events if e.title_id for i in person.get(e.member_id or "", ())},
        min(moments) - max(windows.values()), max(moments),
    )  # fmt: skip
    firsts = event_store.firsts(connection, rows)
    by_place: defaultdict[tuple[str, str], list[Shown]] = defaultdict(list)
    for row in rows:
        by_place[row.member_id, row.title_id].append(row)
    found = []
    for event in events:
        seen = (
            shown
            for i in person.get(event.member_id or "", ())
            for shown in by_place.get((i, event.title_id or ""), ())
            if shown.occurred_at <= event.occurred_at
            and counting.followed(
                event.occurred_at, firsts[unit_of(shown)], windows[shown.slot], of_unit=False
            )
        )
        if (latest := max(seen, key=_order, default=None)) is not None:
            joined = replace(
                event, member_id=latest.member_id, slot=latest.slot, unjoined=None,
                request_id=latest.request_id, position=latest.position, period=latest.period,
            )  # fmt: skip
            found.append(Attributed(joined, unit_of(latest)))
    return found


def _order(shown: Shown) -> tuple[dt.datetime, str, str, str, int]:
    return (shown.occurred_at, shown.slot, shown.member_id, shown.request_id, shown.position)


def persons(connection: Connection, ids: Iterable[str]) -> dict[str, list[str]]:
    """Return per id all ids of the same person, its member's first."""
    ids = set(ids)
    members = merges.members_of(connection, ids)
    visitors = merges.visitors_of(connection, ids | set(members.values()))
    return {i: [m, *visitors.get(m, ())] for i in ids for m in [members.get(i, i)]}
