"""A past decision from the log: what was chosen, from what, why, and what came of it.

The choice is made again from the logged context, action set, period and model version; that it
comes out the same, with the same propensity, is said and not assumed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from artwork_bandit.domain import ActionSet, Choice, Decisions, Event, Variant
from artwork_bandit.errors import BrokenModel, Conflict, InvalidInput, NotFound
from artwork_bandit.policies.explanation import Explanation, explain
from artwork_bandit.policies.policy import Fixed, Policy, Uniform
from artwork_bandit.policies.rendezvous import member_key
from artwork_bandit.serving.service import Service
from artwork_bandit.serving.state import PAUSED
from artwork_bandit.slots import slot_named, windows
from artwork_bandit.store import attribution, catalog, events, registry, rewards, unjoined
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.counting import followed
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.events import Shown
from artwork_bandit.store.units import Unit, decision_of, unit_of

TOLERANCE = 1e-12
"""Largest difference of a propensity made again from the logged one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A choice made again, beside the logged one."""

    explanation: Explanation
    action_set: ActionSet
    same: bool
    """Whether the variant and its propensity are the logged ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """All that is known of one decision."""

    decisions: Decisions
    position: int
    action_set: ActionSet | None
    """None for a fallback."""
    derived: Derived | None
    why_not: str | None
    """Why the choice cannot be made again."""
    shown_at: dt.datetime | None
    events: list[Event]
    reward: float | None
    reward_rule: str | None
    """Version of the rule that the reward was settled under."""
    why_no_reward: str | None
    """None if there is one."""
    counts_for: str | None
    """Id of the earlier decision of the draw period that has the reward, if one has."""

    @property
    def choice(self) -> Choice:
        return self.decisions.choices[self.position]


def audit(service: Service, decision_id: str) -> Audited:
    """Return a decision; raises InvalidInput for an id this service did not make, and NotFound."""
    request_id, position, logged = service.decision_ids.read(decision_id)
    if not logged:
        raise NotFound("this decision is in no log: a preview, or a default while none could be")
    service.require_database()
    with service.store.read() as connection:
        decisions, sets = _find(service, connection, request_id)
        if position >= len(decisions.choices):
            raise InvalidInput("decision_id names a decision that was never made")
        choice = decisions.choices[position]
        again = _Again.of(service, connection, decisions, sets)
        shown_at = events.shown_at(connection, request_id, position)
        settled = rewards.of_decision(connection, request_id, position)
        reward, rule = settled if settled is not None else (None, None)
        all_windows = windows(service.settings.attribution_window_seconds)
        window = all_windows[decisions.slot]
        settled_for = decision_of(connection, _unit_of(decisions, position))
        slot = slot_named(decisions.slot)
        period = max(slot.draw_period(service.settings.period_seconds), slot.period)
        shown = _shown_near(connection, decisions, position, 2 * period + window)
        first, counted = _firsts(shown).get(_unit_of(decisions, position)), None
        of_first = None if first is None else (first.request_id, first.position)
        if first is not None and of_first == (request_id, position):
            counted = (first.occurred_at, first.occurred_at + window)
        found = _events(
            connection, decisions, position, counted, all_windows, settled=settled_for is not None
        )
        holder = settled_for or (None if of_first == (request_id, position) else of_first)
        stored = [event.event_id for event in found if event.unjoined is not None]
        counted_then = unjoined.counted_all_the_same(connection, stored, all_windows)
        found = [
            replace(event, unjoined=None) if event.event_id in counted_then else event
            for event in found
        ]
        return Audited(
            decisions=decisions,
            position=position,
            action_set=sets.get(choice.action_set_id or -1),
            derived=again.derive(choice),
            why_not=again.why_not(choice),
            shown_at=shown_at,
            events=[_told(event, choice, shown_at, shown, window) for event in found],
            reward=reward,
            reward_rule=rule,
            why_no_reward=None if reward is not None
            else _why_no_reward(choice, first, shown_at, window, settled_for is not None),
            counts_for=None if holder is None or reward is not None or shown_at is None
            else service.decision_ids.make(holder[0], holder[1] + 1)[holder[1]],
        )  # fmt: skip


def _events(
    connection: Connection, decisions: Decisions, position: int,
    counted: tuple[dt.datetime, dt.datetime] | None, all_windows: Mapping[str, dt.timedelta], *,
    settled: bool,
) -> list[Event]:  # fmt: skip
    """Return the events of a decision; if it is its unit's first, those too that are `counted` for
    the unit, or wait to be, and if that is `settled` came too late."""
    found = {e.event_id: e for e in events.of_decision(connection, decisions, position, counted)}
    if counted is not None:
        (ids,) = attribution.persons(connection, [decisions.member_id]).values()
        pairs = [(member, decisions.choices[position].title_id) for member in ids]
        waiting = events.waiting_for(connection, pairs, *counted)
        own = _unit_of(decisions, position)
        for event, unit in attribution.followed(connection, waiting, all_windows):
            if unit is not None and unit[:3] == own[:3]:
                found[event.event_id] = replace(event, unjoined="late" if settled else None)
    return sorted(found.values(), key=lambda e: (e.occurred_at, e.event_id))


def _unit_of(decisions: Decisions, position: int) -> Unit:
    title_id = decisions.choices[position].title_id
    return (decisions.member_id, title_id, decisions.slot, decisions.period, decisions.confirm)


def _shown_near(
    connection: Connection, decisions: Decisions, position: int, span: dt.timedelta
) -> list[Shown]:  # fmt: skip
    """Return the impressions of the title to the member up to `span` before and after the decision,
    the earliest first."""
    moment = decisions.occurred_at
    found = events.shown_between(
        connection, [(decisions.member_id, decisions.choices[position].title_id)],
        moment - span, moment + span,
    )  # fmt: skip
    return [each for each in found if each.slot == decisions.slot]


def _firsts(shown: Sequence[Shown]) -> dict[Unit, Shown]:
    return {unit_of(each): each for each in reversed(shown)}


def _why_no_reward(
    choice: Choice, first: Shown | None, shown_at: dt.datetime | None, window: dt.timedelta,
    settled: bool,
) -> str:  # fmt: skip
    if choice.propensity is None:
        return "a fallback: nothing was drawn"
    if shown_at is None:
        return "no impression has come: nobody is known to have seen it"
    if settled:
        return "it was shown again within the draw period: an earlier decision has the reward"
    begun = shown_at if first is None else first.occurred_at
    until = f"{begun + window:%Y-%m-%d %H:%M:%S}Z"
    counts = f"what follows counts until {until}, and is joined by the first join after that"
    if begun == shown_at:
        return counts
    return f"it was shown before within the draw period, and {counts}, for that decision"


def _told(
    event: Event, choice: Choice, shown_at: dt.datetime | None, shown: Sequence[Shown],
    window: dt.timedelta,
) -> Event:  # fmt: skip
    """Return an event with why it counts for nothing, if it does and nothing else says so."""
    named = {
        unit_of(s)
        for s in shown
        if (s.request_id, s.position) == (event.request_id, event.position)
    }
    counts = any(
        followed(event.occurred_at, first.occurred_at, window, of_unit=unit in named)
        for unit, first in _firsts(shown).items()
    )
    if event.unjoined == "fallback" and counts:  # for what was shown before, or after
        return replace(event, unjoined=None)
    if event.unjoined is not None or counts:
        return event
    if choice.propensity is None:
        return replace(event, unjoined="fallback")
    return replace(event, unjoined="not_shown" if shown_at is None else "outside_window")


def explanations(
    service: Service, decisions: Decisions, action_sets: Sequence[ActionSet], *,
    repeated: bool = False,
) -> list[Derived | None]:  # fmt: skip
    """Return why each choice of an answer was made; None for those nobody can make again.

    The action sets of a repeated answer are in the log.
    """
    service.require_database()
    with service.store.read() as connection:
        sets = {s.action_set_id: s for s in action_sets}
        if repeated:
            _, sets = _find(service, connection, decisions.request_id)
        again = _Again.of(service, connection, decisions, sets)
        return [again.derive(choice) for choice in decisions.choices]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """What it takes to make the choices of a request again."""

    decisions: Decisions
    sets: Mapping[int, ActionSet]
    revisions: Mapping[int, Variant]
    policy: Policy | None
    missing: str | None
    """Why there is no policy."""
    member_key: int

    @staticmethod
    def of(
        service: Service, connection: Connection, decisions: Decisions,
        sets: Mapping[int, ActionSet],
    ) -> _Again:  # fmt: skip
        policy, missing = _policy(service, connection, decisions)
        wanted = {r for s in sets.values() for r in s.revision_ids}
        return _Again(
            decisions=decisions,
            sets=sets,
            revisions=catalog.revisions(connection, wanted),
            policy=policy,
            missing=missing,
            member_key=member_key(service.keys.draw, decisions.member_id, decisions.period),
        )

    def derive(self, choice: Choice) -> Derived | None:
        if self.why_not(choice) is not None or self.policy is None:
            return None
        action_set = self.sets[choice.action_set_id or -1]
        variants = [self.revisions[r] for r in action_set.revision_ids]
        again = explain(
            self.policy, self.decisions.context, action_set, variants, self.member_key,
            certain=choice.propensity == 1,
        )  # fmt: skip
        same = again.index == choice.index and choice.propensity is not None
        same = same and abs(again.pmf[again.index] - (choice.propensity or 0.0)) <= TOLERANCE
        return Derived(explanation=again, action_set=action_set, same=same)

    def why_not(self, choice: Choice) -> str | None:
        action_set = self.sets.get(choice.action_set_id or -1)
        if action_set is None:
            return "a fallback: nothing was drawn"
        if not action_set.revision_ids or set(action_set.revision_ids) - set(self.revisions):
            return "its variants are not in the catalogue as they were shown"
        return self.missing


def _find(
    service: Service, connection: Connection, request_id: str
) -> tuple[Decisions, dict[int, ActionSet]]:
    try:
        decisions, _ = request_store.get(connection, request_id)
    except NotFound:
        row = service.journal.answered(request_id)
        if row is None:
            raise
        return row.decisions, {s.action_set_id: s for s in row.action_sets}
    ids = {c.action_set_id for c in decisions.choices if c.action_set_id is not None}
    return decisions, request_store.get_action_sets(connection, ids)


def _policy(
    service: Service, connection: Connection, decisions: Decisions
) -> tuple[Policy | None, str | None]:
    """Return the policy that made the decisions, or why there is none."""
    if decisions.model_version is not None:
        try:
            record = registry.get(connection, decisions.model_version)
            return service.models.policy(connection, record), None
        except (NotFound, Conflict, BrokenModel) as error:
            return None, str(error)
    if decisions.policy == Uniform().name:
        return Uniform(), None
    if decisions.policy in (Fixed().name, PAUSED):
        return Fixed(), None
    return None, f"the policy {decisions.policy!r} is not one this service chooses with"
