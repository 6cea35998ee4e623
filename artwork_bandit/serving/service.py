"""Answering choices and taking in events: what HTTP calls, without HTTP."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace

from artwork_bandit.domain import ActionSet, Choice, Context, Decisions
from artwork_bandit.errors import Conflict, NotFound
from artwork_bandit.serving import ingest
from artwork_bandit.serving.chooser import Question, choose
from artwork_bandit.serving.decision_ids import DecisionIds
from artwork_bandit.serving.ingest import Incoming, Report
from artwork_bandit.serving.state import Keys, LiveState
from artwork_bandit.settings import Settings
from artwork_bandit.store import catalog as catalog_store
from artwork_bandit.store import events as event_store
from artwork_bandit.store import profiles
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Decisions with the ids a client refers to them by."""

    decisions: Decisions
    decision_ids: list[str]


class Service:
    """The two flows a client drives, over one store."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.keys = Keys.of(store, settings.decision_key)
        self.decision_ids = DecisionIds(self.keys.decision)
        self.state = LiveState(store, self.keys.cell, settings.reload_seconds)
        self._stored_sets: set[int] = set()
        """Ids of action sets known to be committed."""
        self.half_life = dt.timedelta(days=settings.profile_half_life_days)

    def close(self) -> None:
        self.state.close()
        self.store.close()

    def answer(self, question: Question, genres_given: bool, now: dt.datetime) -> Answer:
        """Choose, commit the log row, answer. Repeating a request id repeats the answer.

        `genres_given` says that the question's own genres replace the stored profile. Raises
        Conflict if the request id was used for another question.
        """
        asked = _fingerprint(question)
        try:
            return self._repeat(question.request_id, asked)
        except NotFound:
            pass
        if not genres_given:
            question = replace(question, context=self._with_profile(question, now))
        period = self.settings.period_seconds or question.slot.period.total_seconds()
        decisions, sets = choose(question, self.state.current, self.keys.draw, period, now)
        try:
            new = [s for s in sets if s.action_set_id not in self._stored_sets]
            with self.store.write() as connection:
                request_store.insert_action_sets(connection, new)
                request_store.insert(connection, decisions, asked)
                if question.confirm == "server":
                    shown = [(decisions, i, now) for i in range(len(decisions.choices))]
                    event_store.insert_impressions(connection, shown, now)
            self._stored_sets.update(s.action_set_id for s in new)
        except Conflict:  # the same request id, at the same time
            return self._repeat(question.request_id, asked)
        return self._with_ids(decisions)

    def take_in(self, events: list[Incoming], now: dt.datetime) -> Report:
        """Store events, confirm impressions, update profiles: all in one durable transaction."""
        return ingest.take_in(self.store, self.decision_ids, events, self.half_life, now)

    def _with_profile(self, question: Question, now: dt.datetime) -> Context:
        with self.store.read() as connection:
            profile = profiles.get(connection, question.member_id)
        return replace(question.context, genres=profile.at(now, self.half_life))

    def _repeat(self, request_id: str, asked: str) -> Answer:
        with self.store.read() as connection:
            decisions, asked_before = request_store.get(connection, request_id)
            if asked != asked_before:
                raise Conflict(
                    f"request_id {request_id!r} was used for another question; use a new one"
                )
            ids = {c.action_set_id for c in decisions.choices if c.action_set_id is not None}
            sets = request_store.get_action_sets(connection, ids)
            shown = [_revision(c, sets) for c in decisions.choices]
            revisions = catalog_store.revisions(connection, [r for r in shown if r is not None])
            names = [c.variant_id for c in decisions.choices if c.variant_id is not None]
            current = {v.variant_id: v.uri for v in catalog_store.by_ids(connection, names)}
        choices = tuple(
            replace(c, uri=current.get(c.variant_id or "") if r is None else revisions[r].uri)
            for c, r in zip(decisions.choices, shown, strict=True)
        )
        return self._with_ids(replace(decisions, choices=choices))

    def _with_ids(self, decisions: Decisions) -> Answer:
        ids = self.decision_ids.make(decisions.request_id, len(decisions.choices))
        return Answer(decisions=decisions, decision_ids=ids)


def _revision(choice: Choice, sets: Mapping[int, ActionSet]) -> int | None:
    """Return the revision that was shown; None for a fallback."""
    if choice.action_set_id is None or choice.index is None:
        return None
    return sets[choice.action_set_id].revision_ids[choice.index]


def _fingerprint(question: Question) -> str:
    return request_store.fingerprint(
        question.member_id,
        question.slot.name,
        question.title_ids,
        question.confirm,
        None if question.only is None else sorted(question.only),
        None if question.excluded is None else sorted(question.excluded),
    )
