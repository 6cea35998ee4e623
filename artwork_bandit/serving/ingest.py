"""Taking in events: attribute, store once, confirm impressions, update profiles.

One bad event never loses its neighbours. All that is accepted is committed in one transaction,
which batches that come at the same time share, before the answer; sending it again changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from artwork_bandit.domain import Decisions, Event, EventType
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies.profile import Sign, sign_of
from artwork_bandit.serving.decision_ids import DecisionIds
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import catalog as catalog_store
from artwork_bandit.store import events as event_store
from artwork_bandit.store import merges, profiles
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.rewards import Unit, settled_units

FIRST_MOMENT = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""Nobody watched before; a device whose clock was reset says 1970."""
CLOCK_SKEW = dt.timedelta(minutes=1)
"""A client's clock may be ahead by this much before its times count as in the future."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """An event as sent: its form is checked, what it refers to is not."""

    index: int
    """Place in the client's batch."""
    event: Event
    decision_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    index: int
    event_id: str | None
    reason: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of a batch."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    waiting: list[Incoming] = field(default_factory=list)
    """Sound events whose decision this service signed but has not in its log yet: another
    server's spool holds it. They are accepted, and must be taken in again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The events of one request."""

    events: list[Incoming]
    now: dt.datetime
    """When they came."""
    final: bool = False
    """They have waited long enough for their decisions."""


def take_in(
    connection: Connection,
    decision_ids: DecisionIds,
    batches: list[Batch],
    half_life: dt.timedelta,
) -> list[Report]:
    """Store batches in one transaction; return what became of each."""
    reports = [Report() for _ in batches]
    _merge(connection, batches, reports, half_life)
    sound = _checked(connection, decision_ids, batches, reports)
    now = max(batch.now for batch in batches)
    shown = [
        # A slow clock may say that it was seen before it was chosen.
        (request, event.position, max(event.occurred_at, request.occurred_at))
        for event, request, _ in sound
        if request is not None and event.position is not None and event.type is EventType.IMPRESSION
    ]
    event_store.insert_impressions(connection, shown, now)
    lone = {e.member_id for e, request, _ in sound if e.member_id and not request}
    visitors = merges.visitors_of(connection, lone)
    events = [
        event if request or event.unjoined else _attributed(connection, event, visitors)
        for event, request, _ in sound
    ]
    events = _marked_late(connection, events)
    new = event_store.insert(connection, events, now)
    update_profiles(connection, [e for e in events if e.event_id in new], half_life)
    for event, (_, _, report) in zip(events, sound, strict=True):
        if event.event_id in new:
            report.accepted += 1
        else:
            report.duplicates += 1
    return reports


def check_alone(decision_ids: DecisionIds, batch: Batch) -> Report:
    """Return what can be said of a batch without the database: what is sound waits."""
    report = Report()
    for incoming in batch.events:
        try:
            if incoming.decision_id is not None:
                decision_ids.read(incoming.decision_id)
            _require_sound(incoming.event, incoming.decision_id is not None, batch.now)
        except InvalidInput as error:
            report.rejected.append(_rejected(incoming, error))
        else:
            report.waiting.append(incoming)
    report.accepted = len(report.waiting)
    return report


def update_profiles(connection: Connection, events: list[Event], half_life: dt.timedelta) -> None:
    """Add what events say about tastes to their members' profiles."""
    telling = [e for e in events if e.member_id and e.title_id]
    genres = catalog_store.title_genres(connection, {e.title_id for e in telling if e.title_id})
    signs: dict[str, list[Sign]] = {}
    for event in telling:
        sign = sign_of(event, genres.get(event.title_id or "", ()))
        if sign is not None and event.member_id:
            signs.setdefault(event.member_id, []).append(sign)
    profiles.add(connection, signs, half_life)


def _merge(
    connection: Connection, batches: list[Batch], reports: list[Report], half_life: dt.timedelta
) -> None:
    """Merge visitors into members before anything else is looked at, whatever the order sent."""
    asked = [
        (incoming, batch.now, report)
        for batch, report in zip(batches, reports, strict=True)
        for incoming in batch.events
        if incoming.event.type is EventType.MERGE
    ]
    if not asked:
        merges.share(connection)
        return
    merges.alone(connection)
    for incoming, now, report in asked:
        event = incoming.event
        try:
            _require_sound(event, incoming.decision_id is not None, now)
            assert event.visitor_id is not None, "checked before"
            assert event.member_id is not None, "checked before"
            member = merges.add(
                connection, event.visitor_id, event.member_id, event.event_id, event.occurred_at
            )
        except InvalidInput as error:
            report.rejected.append(_rejected(incoming, error))
            continue
        if member is None:
            report.duplicates += 1
        else:
            profiles.merge(connection, event.visitor_id, member, half_life)
            report.accepted += 1


def _checked(
    connection: Connection,
    decision_ids: DecisionIds,
    batches: list[Batch],
    reports: list[Report],
) -> list[tuple[Event, Decisions | None, Report]]:
    """Return the sound events with their decisions; report the others, and those that wait."""
    named = _named(decision_ids, batches)
    requests = request_store.get_many(
        connection, {n[0] for n in named.values() if isinstance(n, tuple) and n[2]}
    )
    members = merges.members_of(connection, {r.member_id for r in requests.values()})
    sound: list[tuple[Event, Decisions | None, Report]] = []
    seen: set[str] = set()
    for batch, report in zip(batches, reports, strict=True):
        for incoming in batch.events:
            event, decision = incoming.event, None
            if event.type is EventType.MERGE:
                continue
            if event.event_id in seen:
                report.duplicates += 1
                continue
            try:
                if incoming.decision_id is not None:
                    found = named[incoming.decision_id]
                    if isinstance(found, InvalidInput):
                        raise found
                    request_id, position, logged = found
                    decision = requests.get(request_id)
                    if decision is not None:
                        event = _of_decision(event, decision, position, members)
                    elif not logged:
                        event = replace(event, unjoined="not_logged")
                    elif batch.final:
                        event = replace(event, unjoined="no_decision")
                _require_sound(event, incoming.decision_id is not None, batch.now)
            except InvalidInput as error:
                report.rejected.append(_rejected(incoming, error))
                continue
            seen.add(event.event_id)
            if incoming.decision_id is not None and decision is None and event.unjoined is None:
                report.waiting.append(incoming)
                report.accepted += 1
            else:
                sound.append((event, decision, report))
    return sound


def _named(
    decision_ids: DecisionIds, batches: list[Batch]
) -> dict[str, tuple[str, int, bool] | InvalidInput]:
    named: dict[str, tuple[str, int, bool] | InvalidInput] = {}
    given = {e.decision_id for b in batches for e in b.events if e.decision_id is not None}
    for decision_id in given:
        try:
            named[decision_id] = decision_ids.read(decision_id)
        except InvalidInput as error:
            named[decision_id] = error
    return named


def _rejected(incoming: Incoming, error: InvalidInput) -> Rejected:
    return Rejected(index=incoming.index, event_id=incoming.event.event_id, reason=str(error))


def _of_decision(
    event: Event, decision: Decisions, position: int, members: Mapping[str, str]
) -> Event:
    if position >= len(decision.choices):
        raise InvalidInput("decision_id names a decision that was never made")
    title_id = decision.choices[position].title_id
    member = decision.member_id
    if event.member_id not in (None, member, members.get(member)):
        raise InvalidInput("member_id is not the one the decision was made for")
    if event.title_id not in (None, title_id):
        raise InvalidInput("title_id is not the one the decision was made for")
    context = decision.context
    return replace(
        event,
        member_id=member,
        title_id=title_id,
        slot=decision.slot,
        request_id=decision.request_id,
        position=position,
        period=decision.period,
        device=event.device or context.device,
        hour=context.hour if event.hour is None else event.hour,
        weekday=context.weekday if event.weekday is None else event.weekday,
    )


def _require_sound(event: Event, has_decision: bool, now: dt.datetime) -> None:
    if event.occurred_at > now + CLOCK_SKEW:
        raise InvalidInput("occurred_at is in the future; send the time it happened, with its zone")
    if event.occurred_at < FIRST_MOMENT:
        raise InvalidInput("occurred_at is before 2000; send the time it happened")
    if event.type is EventType.MERGE:
        if has_decision or event.member_id is None or event.visitor_id is None:
            raise InvalidInput("a merge needs member_id and visitor_id, and no decision_id")
        return
    if event.visitor_id is not None:
        raise InvalidInput("visitor_id is for merge events only")
    if has_decision:
        return
    if event.type is EventType.IMPRESSION:
        raise InvalidInput("an impression needs its decision_id")
    if event.member_id is None:
        raise InvalidInput("an event without decision_id needs a member_id")
    if event.title_id is None and event.type is not EventType.SEARCH:
        raise InvalidInput(f"a {event.type} without decision_id needs a title_id")


def _marked_late(connection: Connection, events: list[Event]) -> list[Event]:
    """Return events, those that come after their unit was settled marked `late`."""
    unit_of: dict[str, Unit] = {
        e.event_id: (e.member_id, e.title_id, e.slot, e.period, "client")
        for e in events
        if e.type is not EventType.IMPRESSION and e.member_id and e.title_id and e.slot and e.period
    }
    settled = settled_units(connection, set(unit_of.values()))
    return [
        replace(e, unjoined="late") if unit_of.get(e.event_id) in settled else e for e in events
    ]


def _attributed(connection: Connection, event: Event, visitors: Mapping[str, list[str]]) -> Event:
    """Return an event without decision joined to the latest impression of the member, or of a
    visitor that it was, if any."""
    if event.type is EventType.SEARCH and event.title_id is None:
        return replace(event, unjoined="no_title")
    assert event.member_id is not None, "checked before"
    assert event.title_id is not None, "checked before"
    since = event.occurred_at - max(slot.attribution_window for slot in SLOTS.values())
    shown = event_store.latest_impression(
        connection,
        [event.member_id, *visitors.get(event.member_id, ())],
        event.title_id,
        since,
        event.occurred_at,
    )
    if shown is None:
        return replace(event, unjoined="no_impression")
    return replace(
        event,
        member_id=shown.member_id,
        slot=shown.slot,
        request_id=shown.request_id,
        position=shown.position,
        period=shown.period,
    )
