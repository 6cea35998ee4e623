"""What an event followed: the decision it names, or the latest impression of its title by whoever
sent it, or was it before or after signing in.

Events, impressions and merges come in any order. What came before what it followed is kept as
`no_impression`, or as `other_member` if it names a decision made for somebody whom nobody has
called the same person yet; it is joined once that has come.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from artwork_bandit.domain import Decisions, Event, EventType
from artwork_bandit.errors import InvalidInput
from artwork_bandit.store import events as event_store
from artwork_bandit.store import merges
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.rewards import Unit, settled_units


class Attributed(NamedTuple):
    event: Event
    confirm: str | None
    """Who confirms the impression that it followed; None if it is joined to none."""


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
    return Attributed(joined, decision.confirm)


def of_latest(
    connection: Connection, event: Event, person: Sequence[str], window: dt.timedelta
) -> Attributed:
    """Return an event without decision joined to the latest impression of its title, within the
    `window` before, by a person, who has these ids, if there is any."""
    if event.type is EventType.SEARCH and event.title_id is None:
        return Attributed(replace(event, unjoined="no_title"), None)
    assert event.title_id is not None, "checked before"
    shown = event_store.latest_impression(
        connection, person, event.title_id, event.occurred_at - window, event.occurred_at
    )
    if shown is None:
        return Attributed(replace(event, unjoined="no_impression"), None)
    joined = replace(
        event, member_id=shown.member_id, slot=shown.slot, request_id=shown.request_id,
        position=shown.position, period=shown.period, unjoined=None,
    )  # fmt: skip
    return Attributed(joined, shown.confirm)


def marked_late(connection: Connection, found: Sequence[Attributed]) -> list[Event]:
    """Return the events; those that came after their unit was settled are marked `late`."""
    units = [_unit(each) for each in found]
    settled = settled_units(connection, {unit for unit in units if unit is not None})
    return [
        replace(each.event, unjoined="late") if unit in settled else each.event
        for each, unit in zip(found, units, strict=True)
    ]


def _unit(found: Attributed) -> Unit | None:
    e = found.event
    if e.type is EventType.IMPRESSION or found.confirm is None:
        return None
    if e.member_id is None or e.title_id is None or e.slot is None or e.period is None:
        return None
    return (e.member_id, e.title_id, e.slot, e.period, found.confirm)


def persons(connection: Connection, ids: Iterable[str]) -> dict[str, list[str]]:
    """Return per id all ids of the same person, its member's first."""
    ids = set(ids)
    members = merges.members_of(connection, ids)
    visitors = merges.visitors_of(connection, ids | set(members.values()))
    return {i: [m, *visitors.get(m, ())] for i in ids for m in [members.get(i, i)]}


def rejoin(
    connection: Connection, shown: Iterable[tuple[str, str]], signed_in: Iterable[str],
    window: dt.timedelta,
) -> None:  # fmt: skip
    """Join what came before: what has waited for an impression, (member, title) pairs that have
    come now, and what has waited for a member to sign in."""
    shown, signed_in = set(shown), set(signed_in)
    person = persons(connection, {member for member, _ in shown} | signed_in)
    pairs = {(i, title) for member, title in shown for i in person[member]}
    waiting = event_store.waiting_for(
        connection, pairs, {i for member in signed_in for i in person[member]}
    )
    if not waiting:
        return
    named = {e.request_id for e in waiting if e.request_id}
    decisions = request_store.get_many(connection, named)
    people = persons(connection, {e.member_id for e in waiting if e.member_id})
    members = {i: ids[0] for i, ids in people.items()}
    members |= merges.members_of(connection, {d.member_id for d in decisions.values()})
    found = []
    for event in waiting:
        assert event.member_id is not None, "only a member's events wait"
        decision = decisions.get(event.request_id or "")
        if decision is not None and event.position is not None:
            found.append(of_decision(event, decision, event.position, members))
        elif event.request_id is None:
            found.append(of_latest(connection, event, people[event.member_id], window))
    joined = [each for each in found if each.event.unjoined is None]
    event_store.join(connection, marked_late(connection, joined))
