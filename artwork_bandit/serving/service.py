"""Answering choices and taking in events: what HTTP calls, without HTTP.

    question -> [chooser thread: profiles, choose_all, journal.log] -> answer

Questions that wait together are chosen together and committed together, by one thread: while it
waits for a commit the next batch gathers. Two threads, one choosing while the other commits, were
slower: each request then wakes twice, and batches stay small. Each rung of the ladder
is a line in `Rung`: whatever fails behind it, the client gets an answer.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import msgspec

from artwork_bandit.domain import ActionSet, Choice, Decisions
from artwork_bandit.errors import Conflict, StoreUnavailable
from artwork_bandit.policies.profile import Profile, occasions
from artwork_bandit.serving.batcher import Batcher, Job
from artwork_bandit.serving.bounded import Bounded
from artwork_bandit.serving.chooser import (
    NOT_LOGGED,
    Asked,
    Made,
    Question,
    choose_all,
    fallen_back,
    require_forced,
)
from artwork_bandit.serving.decision_ids import DecisionIds
from artwork_bandit.serving.ingest import Batch, Incoming, Report
from artwork_bandit.serving.journal import Journal
from artwork_bandit.serving.rows import Logged, Row
from artwork_bandit.serving.state import Keys, LiveState
from artwork_bandit.settings import Settings, local_folder
from artwork_bandit.slots import windows
from artwork_bandit.store import catalog as catalog_store
from artwork_bandit.store import profiles
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Held, Store
from artwork_bandit.store.model_files import ModelFiles
from artwork_bandit.store.spool import Spool

ANSWER_SECONDS = 10.0
"""Longest wait for the threads of this process itself; they have deadlines of their own."""


CHECK_SECONDS = 2.0
TITLES_AT_ONCE = 2_000
"""A batch of questions is closed once it asks for this many titles: the next waits for it."""


class Rung(StrEnum):
    """How much of what makes an answer worked."""

    FULL = "full"
    NO_PROFILE = "no_profile"
    """The member's profile did not come in time: chosen from the request's own context."""
    SPOOLED = "spooled"
    """The log row is in this host's spool, not in the database yet."""
    FALLBACK = "fallback"
    """Defaults, logged nowhere."""
    REPEAT = "repeat"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Decisions with the ids a client refers to them by."""

    decisions: Decisions
    decision_ids: list[str]
    rung: Rung = Rung.FULL
    entropy: float | None = None
    """Mean entropy of the pmfs that were drawn from, nats."""
    action_sets: list[ActionSet] = field(default_factory=list)
    """What was chosen from; empty for a repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What the chooser's thread needs of a request."""

    question: Question
    genres_given: bool
    asked: str
    """Fingerprint; empty where nobody can repeat the request."""
    now: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What the chooser's thread answers."""

    made: Made
    with_profile: bool
    logged: Logged | None
    """None for a preview."""


class Service:
    """The two flows a client drives, over one store."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.keys = Keys.of(store, settings.decision_key)
        self.decision_ids = DecisionIds(self.keys.decision)
        folder = Path(local_folder(settings))
        self.models = ModelFiles(folder / "models")
        self.state = LiveState(store, self.keys.cell, settings.reload_seconds, self.models)
        self.half_life = dt.timedelta(days=settings.profile_half_life_days)
        self.spool = Spool(folder / "spool.db")
        self.journal = Journal(
            store, self.spool, self.decision_ids, self.half_life,
            windows(settings.attribution_window_seconds), settings.write_seconds,
        )  # fmt: skip
        self._profiles = (Bounded("profile reader"), Held(store))
        self._checker, self._checking = Bounded("readiness"), threading.Lock()
        self._chooser: Batcher[Asking, Chosen] = Batcher(
            "chooser", self._choose, lambda asked: len(asked.question.title_ids), TITLES_AT_ONCE,
            settings.queue_titles,
        )  # fmt: skip

    def close(self) -> None:
        """Answer what was asked, write what was answered, stop."""
        self._chooser.close()
        self.journal.close()
        bounded, held = self._profiles
        if not bounded.overdue:
            bounded.call(held.close, 5)
        bounded.close()
        self._checker.close()
        self.state.close()
        self.store.close()

    def answer(
        self, question: Question, genres_given: bool, now: dt.datetime, *, own_id: bool = False
    ) -> Answer:
        """Choose, log durably, answer. Repeating a request id repeats the answer.

        `genres_given` says that the question's own genres replace the stored profile; `own_id`
        that the service made the request id, so that nobody can have used it before. Raises
        Conflict if the id was used for another question, StoreUnavailable only if it was used and
        its first answer cannot be read now, and InvalidInput if a preview forces what its titles
        do not have.
        """
        return self.answered(self.asking(question, genres_given, now, own_id=own_id))

    def answered(self, asking: Asking) -> Answer:
        """Wait for the answer: `begin`, then `finish`."""
        job: Job[Asking, Chosen] = Job(asking)
        self.begin(job)
        return self.finish(asking, job.wait(ANSWER_SECONDS))

    def asking(
        self, question: Question, genres_given: bool, now: dt.datetime, *, own_id: bool
    ) -> Asking:
        """Return a question as `begin` takes it; for the arguments see `answer`."""
        require_forced(question, self.state.current.catalogs[question.slot.name])
        asked = "" if own_id or question.preview else _fingerprint(question)
        return Asking(question=question, genres_given=genres_given, asked=asked, now=now)

    @property
    def waiting(self) -> int:
        """Titles that wait for their choice."""
        return self._chooser.waiting

    def require_database(self) -> None:
        """Raise StoreUnavailable if the database is known to be away: a read could hang."""
        if not self.journal.up:
            raise StoreUnavailable("the database is away; try again in a moment")

    def check_database(self, check: Callable[[Store], None]) -> None:
        """Make a check of the database; raises StoreUnavailable if it takes too long, too."""
        self.require_database()
        if not self._checking.acquire(timeout=CHECK_SECONDS):  # several may ask at once
            raise StoreUnavailable("others still wait for the database")
        try:
            self._checker.call(lambda: check(self.store), CHECK_SECONDS)
        finally:
            self._checking.release()

    def require_room(self) -> None:
        """Raise Overloaded if too much waits already."""
        self._chooser.require_room()

    def begin(self, job: Job[Asking, Chosen]) -> None:
        """Have a question answered by the chooser's thread; raises Overloaded."""
        self._chooser.put(job)

    def finish(self, asking: Asking, chosen: Chosen) -> Answer:
        """Return the answer to what was chosen. Only a repeat asks the database."""
        made = chosen.made
        match chosen.logged:
            case None:
                return self._answer(made, Rung.PREVIEW, logged=False)
            case Logged.STORED:
                return self._answer(made, Rung.FULL if chosen.with_profile else Rung.NO_PROFILE)
            case Logged.SPOOLED:
                return self._answer(made, Rung.SPOOLED)
            case Logged.REPEATED:
                return self._repeat(made.decisions.request_id, asking.asked)
            case Logged.NOWHERE:
                question = asking.question
                catalog = self.state.current.catalogs[question.slot.name]
                made = fallen_back(made, question, catalog, NOT_LOGGED)
                return self._answer(made, Rung.FALLBACK, logged=False)

    def take_in(self, events: list[Incoming], now: dt.datetime) -> Report:
        """Store events, confirm impressions, update profiles: all in one durable transaction.

        Raises StoreUnavailable if neither the database nor the spool can hold them.
        """
        return self.journal.take_in(Batch(events=events, now=now))

    def _choose(self, jobs: list[Job[Asking, Chosen]]) -> None:
        """Choose for all who wait, log it with one commit, tell them."""
        wanting = {j.asked.question.member_id for j in jobs if not j.asked.genres_given}
        found = self._profiles_of(wanting) if wanting else {}
        asked = [self._asked(job.asked, found or {}) for job in jobs]
        chosen = choose_all(asked, self.state.current, self.keys.draw)
        rows = [
            Row(decisions=made.decisions, action_sets=made.action_sets, asked=job.asked.asked)
            for job, made in zip(jobs, chosen, strict=True)
            if not job.asked.question.preview
        ]
        logged = iter(self.journal.log(rows) if rows else ())
        for job, made in zip(jobs, chosen, strict=True):
            where = None if job.asked.question.preview else next(logged)
            with_profile = job.asked.genres_given or found is not None
            job.done(Chosen(made=made, with_profile=with_profile, logged=where))

    def _profiles_of(self, members: set[str]) -> dict[str, Profile] | None:
        """Return the stored profiles, or None if they do not come in time."""
        bounded, held = self._profiles
        if not self.journal.up:
            return None
        try:
            return bounded.call(
                lambda: held.read(lambda connection: profiles.read(connection, members)),
                self.settings.read_seconds,
            )
        except StoreUnavailable:
            return None

    def _asked(self, asked: Asking, found: Mapping[str, Profile]) -> Asked:
        question = asked.question
        if not asked.genres_given and (profile := found.get(question.member_id)) is not None:
            given, now, half_life = question.context, asked.now, self.half_life
            on = occasions(given.device, given.hour, given.weekday)
            context = replace(
                given, genres=profile.at(now, half_life), played=profile.played_at(now, half_life),
                habits=profile.on(on, now, half_life),
            )  # fmt: skip
            question = replace(question, context=context)
        period = question.slot.draw_period(self.settings.period_seconds)
        return Asked(question=question, now=asked.now, period_seconds=period.total_seconds())

    def _answer(self, made: Made, rung: Rung, *, logged: bool = True) -> Answer:
        decisions = made.decisions
        ids = self.decision_ids.make(decisions.request_id, len(decisions.choices), logged=logged)
        return Answer(
            decisions=decisions, decision_ids=ids, rung=rung, entropy=made.entropy,
            action_sets=made.action_sets,
        )  # fmt: skip

    def _repeat(self, request_id: str, asked: str) -> Answer:
        row = self.journal.answered(request_id)
        if row is not None:
            decisions, asked_before = row.decisions, row.asked
        else:
            decisions, asked_before = self._logged(request_id)
        if asked != asked_before:
            raise Conflict(
                f"request_id {request_id!r} was used for another question; use a new one"
            )
        return self._answer(Made(decisions=decisions, action_sets=[]), Rung.REPEAT)

    def _logged(self, request_id: str) -> tuple[Decisions, str]:
        """Return a logged request as it was answered; raises NotFound."""
        self.require_database()
        with self.store.read() as connection:
            decisions, asked_before = request_store.get(connection, request_id)
            ids = {c.action_set_id for c in decisions.choices if c.action_set_id is not None}
            sets = request_store.get_action_sets(connection, ids)
            shown = [_revision(c, sets) for c in decisions.choices]
            revisions = catalog_store.revisions(connection, [r for r in shown if r is not None])
            names = [c.variant_id for c in decisions.choices if c.variant_id is not None]
            current = {v.variant_id: v.uri for v in catalog_store.by_ids(connection, names)}
        choices = tuple(
            msgspec.structs.replace(
                c, uri=current.get(c.variant_id or "") if r is None else revisions[r].uri
            )
            for c, r in zip(decisions.choices, shown, strict=True)
        )
        return replace(decisions, choices=choices), asked_before


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
