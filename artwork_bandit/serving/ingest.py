"""Taking in events: attribute, store once, confirm impressions, update profiles.

One bad event never loses its neighbours. All that is accepted is committed in one transaction,
which batches that come at the same time share, before the answer; sending it again changes nothing.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace

from artwork_bandit.domain import Decisions, Event, EventType
from artwork_bandit.errors import InvalidInput
from artwork_bandit.serving.decision_ids import DecisionIds
from artwork_bandit.store import attribution, merges, profiles
from artwork_bandit.store import catalog as catalog_store
from artwork_bandit.store import events as event_store
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.attribution import Attributed
from artwork_bandit.store.counting import Windows
from artwork_bandit.store.engine import Connection

FIRST_MOMENT = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""Nobody watched before; a device whose clock was reset says 1970."""
CLOCK_SKEW = dt.timedelta(minutes=1)
"""A client's clock may be ahead by this much before its times count as in the future."""
OTHERS = (
    "event_id is that of another event (of another type, title or member): give every event an id "
    "of its own, such as a UUID, and send it again under the same one only"
)


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
    windows: Windows,
    drained_at: dt.datetime | None = None,
) -> list[Report]:
    """Store batches in one transaction; return what became of each.

    `windows`: how long after an impression what follows counts, per slot. Where batches waited in a
    spool, their impressions count as received when they are brought in: what followed may wait
    there still.
    """
    attribution.share(connection)
    reports = [Report() for _ in batches]
    _merge(connection, batches, reports, half_life)
    sound = _checked(connection, decision_ids, batches, reports)
    now = max(batch.now for batch in batches)
    events = attribution.taken_in(connection, [each for _, each, _, _ in sound], windows)
    events = event_store.with_lengths(connection, events)
    new = event_store.insert(connection, events, now)
    shown = [
        # A slow clock may say that it was seen before it was chosen. An event that is sent again,
        # whatever it says then, changes nothing.
        (request, event.position, max(event.occurred_at, request.occurred_at))
        for _, (event, _), request, _ in sound
        if request is not None
        and event.position is not None
        and event.type is EventType.IMPRESSION
        and event.event_id in new
    ]
    event_store.insert_impressions(connection, shown, max(now, drained_at or now))
    update_profiles(connection, [e for e in events if e.event_id in new], half_life)
    known = [(e, sent, report) for e, (sent, _, _, report) in zip(events, sound, strict=True)]
    for _, _, report in (each for each in known if each[0].event_id in new):
        report.accepted += 1
    _again(connection, [each for each in known if each[0].event_id not in new])
    return reports


def _again(connection: Connection, again: list[tuple[Event, Incoming, Report]]) -> None:
    """Count events whose ids are stored: as duplicates, or as rejected if they are others'."""
    if not again:
        return
    stored = event_store.stored(connection, (event.event_id for event, _, _ in again))
    senders = {e.sender_id for e in (*stored.values(), *(event for event, _, _ in again))}
    members = merges.members_of(connection, {s for s in senders if s is not None})
    for event, incoming, report in again:
        if event_store.is_other(event, stored[event.event_id], members):
            report.rejected.append(_rejected(incoming, InvalidInput(OTHERS)))
        else:
            report.duplicates += 1


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
    """Add what new events say about tastes to their members' profiles."""
    genres = catalog_store.title_genres(connection, {e.title_id for e in events if e.title_id})
    profiles.learn(connection, events, genres, half_life)


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
) -> list[tuple[Incoming, Attributed, Decisions | None, Report]]:
    """Return the sound events with their decisions; report the others, and those that wait."""
    named = _named(decision_ids, batches)
    requests = request_store.get_many(
        connection, {n[0] for n in named.values() if isinstance(n, tuple) and n[2]}
    )
    ids = {r.member_id for r in requests.values()}
    ids |= {e.event.member_id for b in batches for e in b.events if e.event.member_id}
    members = merges.members_of(connection, ids)
    sound: list[tuple[Incoming, Attributed, Decisions | None, Report]] = []
    seen: dict[str, Event] = {}
    for batch, report in zip(batches, reports, strict=True):
        for incoming in batch.events:
            event, decision, unit = incoming.event, None, None
            if event.type is EventType.MERGE:
                continue
            event = replace(event, sender_id=event.member_id)
            try:
                if incoming.decision_id is not None:
                    found = named[incoming.decision_id]
                    if isinstance(found, InvalidInput):
                        raise found
                    request_id, position, logged = found
                    decision = requests.get(request_id)
                    if decision is not None:
                        event, unit = attribution.of_decision(event, decision, position, members)
                    elif not logged:
                        event = replace(event, unjoined="not_logged")
                    elif batch.final:
                        event = replace(event, unjoined="no_decision")
                _require_sound(event, incoming.decision_id is not None, batch.now)
                first = seen.setdefault(event.event_id, event)
                if first is not event and event_store.is_other(event, first, members):
                    raise InvalidInput(OTHERS)
            except InvalidInput as error:
                report.rejected.append(_rejected(incoming, error))
                continue
            if first is not event:
                report.duplicates += 1
                continue
            if incoming.decision_id is not None and decision is None and event.unjoined is None:
                report.waiting.append(incoming)
                report.accepted += 1
            else:
                sound.append((incoming, Attributed(event, unit), decision, report))
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
