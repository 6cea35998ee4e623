"""Where what was answered and what members did becomes durable: the database, else the spool.

    rows of all who wait -> one commit, within `write_seconds` -> stored
                 | the database fails, or takes longer
                 v
            one commit to this host's spool -> spooled
                 | the disk fails, too
                 v
            nowhere: the caller answers with fallbacks, or refuses events

A thread drains the spool when the database is back. A commit that timed out may have succeeded,
and a drain may die between the database's commit and its own: request ids and event ids make
every write idempotent, so that each row is in the log exactly once.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from artwork_bandit.errors import ArtworkBanditError, Conflict, InvalidInput, StoreUnavailable
from artwork_bandit.serving import ingest
from artwork_bandit.serving.batcher import Batcher, Job, Waiting
from artwork_bandit.serving.bounded import Bounded
from artwork_bandit.serving.decision_ids import DecisionIds
from artwork_bandit.serving.ingest import Batch, Report
from artwork_bandit.serving.rows import Logged, Row
from artwork_bandit.store import attribution
from artwork_bandit.store import events as event_store
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.counting import Windows
from artwork_bandit.store.engine import Connection, Held, Store
from artwork_bandit.store.pace import Pace
from artwork_bandit.store.spool import Entry, Spool

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_SECONDS, DRAIN_SECONDS = 0.25, 0.25
"""How often who waits for the database looks whether it is away, and the drainer at the spool."""
EVENTS_SECONDS = 10.0
"""Longest wait for a commit of events, which may be 5,000 at a time."""
EVENTS_AT_ONCE = 5_000
"""Of requests that share a commit, as many as one may bring: whoever logs a choice waits."""
DRAINED_AT_ONCE = 1_000
"""Kilobytes of the spool that one transaction brings in at most."""
AGAIN_SECONDS, AGAIN_SHARE = 2.0, 0.05
"""An event whose decision is still in another spool is tried again after this long, or this share
of the time it has waited: that host may be lost. Not longer than half of the shortest window: an
impression that comes in before begins one."""
PUT_OFF_SECONDS = 60.0
"""An entry that fails for a reason nobody has thought of is tried again after this long."""
LONGEST_WAIT = dt.timedelta(days=2)
"""After this an event whose decision never came is stored as `no_decision`."""
MOST_KNOWN_SETS = 1_000_000
TITLES_REMEMBERED = 20_000
"""Choices of recent requests that a worker keeps, to know a repeat by."""
REQUEST, EVENTS = "request", "events"

_row = msgspec.msgpack.Decoder(Row)
_batch = msgspec.msgpack.Decoder(Batch)


class Journal:
    """The writers of one process."""

    def __init__(
        self, store: Store, spool: Spool, decision_ids: DecisionIds, half_life: dt.timedelta,
        windows: Windows, write_seconds: float,
    ) -> None:  # fmt: skip
        self.spool = spool
        self.up = True
        """Whether the database took the last write in time."""
        self._decision_ids = decision_ids
        self._half_life = half_life
        self._windows = windows
        self._shortest_window = min(windows.values()).total_seconds()
        self._write_seconds = write_seconds
        self._known_sets: set[int] = set()
        """Ids of action sets known to be committed."""
        self._recent: OrderedDict[str, Row] = OrderedDict()
        """Rows of clients' own request ids, the oldest first."""
        self._recent_titles = 0
        self._for_rows, self._for_events, self._for_drain = Held(store), Held(store), Held(store)
        self._row_writer = Bounded("log writer")
        self._events: Batcher[Batch, Report] = Batcher(
            "event writer", self._commit_events, lambda batch: len(batch.events), EVENTS_AT_ONCE
        )  # fmt: skip
        self._stopped, self._draining = threading.Event(), threading.Lock()
        self._pace = Pace(DRAINED_AT_ONCE, write_seconds / 4)
        self._turn_began = time.monotonic()
        """When the drainer last had waited for its turn to write."""
        self._drainer = threading.Thread(target=self._drain_for_ever, name="drainer", daemon=True)
        self._drainer.start()

    def close(self) -> None:
        """Write what waits, stop. What is in the spool stays there for the next start."""
        self._stopped.set()
        seconds = 10.0 if self.up else 0.5  # a thread that hangs dies with the process
        self._events.close(seconds)
        self._drainer.join(timeout=seconds)
        if not self._row_writer.overdue:
            self._row_writer.call(self._for_rows.close, seconds)
        self._row_writer.close()
        if self.up:
            self._for_events.close()
            self._for_drain.close()
        self.spool.close()

    def log(self, rows: Sequence[Row]) -> list[Logged]:
        """Make rows durable, all of them with one commit; tell where each is."""
        first: dict[str, Row] = {}
        for row in rows:
            # Another worker may have spooled it; only ids that clients make come twice.
            if not (row.asked and self.answered(row.decisions.request_id)):
                first.setdefault(row.decisions.request_id, row)
        new: dict[str, Logged] = {}
        if first:
            new = self._stored(list(first.values()))
        found = []
        for row in rows:
            request_id = row.decisions.request_id
            where = new.get(request_id, Logged.REPEATED)
            is_first = first.get(request_id) is row
            found.append(where if is_first or where is Logged.NOWHERE else Logged.REPEATED)
        return found

    def take_in(self, batch: Batch) -> Report:
        """Store events; raises StoreUnavailable if neither database nor spool can."""
        if self.up:
            job: Job[Batch, Report] = Job(batch)
            self._events.put(job)
            try:
                report = self._wait(job)
            except StoreUnavailable as error:
                self._lost(error)
            else:
                if report.waiting:
                    self.spool.add([_entry(EVENTS, replace(batch, events=report.waiting))])
                return report
        report = ingest.check_alone(self._decision_ids, batch)
        if report.waiting:
            self.spool.add([_entry(EVENTS, replace(batch, events=report.waiting))])
        return report

    def _wait(self, job: Job[Batch, Report]) -> Report:
        """Return the report, unless it takes too long or the database is found to be away."""
        deadline = time.monotonic() + EVENTS_SECONDS
        while self.up and time.monotonic() < deadline:
            try:
                return job.wait(LOOK_SECONDS)
            except Waiting:
                continue
        raise StoreUnavailable("the database did not take the events in time")

    def answered(self, request_id: str) -> Row | None:
        """Return a row that this worker wrote a moment ago, or that waits in this host's spool.

        So that a repeat is one even while the database, which has the first, is away.
        """
        if (recent := self._recent.get(request_id)) is not None:
            return recent
        try:
            found = self.spool.find(request_id)
        except StoreUnavailable:
            return None
        return None if found is None else _row.decode(found)

    def _stored(self, rows: list[Row]) -> dict[str, Logged]:
        """Return where the rows are, those left out being repeats."""
        if not self.up:
            return self._spooled(rows)
        abandoned = threading.Event()
        try:
            new = self._row_writer.call(lambda: self._insert(rows, abandoned), self._write_seconds)
        except StoreUnavailable as error:
            self._lost(error)
            found = self._spooled(rows)
            if Logged.NOWHERE in found.values():
                abandoned.set()
            return found
        except ArtworkBanditError as error:
            if len(rows) > 1:  # one of them; the others must not pay for it
                return {k: v for row in rows for k, v in self._stored([row]).items()}
            log.error("row_refused", extra={"error": str(error)})
            return {rows[0].decisions.request_id: Logged.NOWHERE}
        if len(self._known_sets) > MOST_KNOWN_SETS:
            self._known_sets.clear()
        self._known_sets.update(s.action_set_id for row in rows for s in row.action_sets)
        for row in rows:
            if row.asked and row.decisions.request_id in new:
                self._remember(row)
        return dict.fromkeys(new, Logged.STORED)

    def _remember(self, row: Row) -> None:
        self._recent[row.decisions.request_id] = row
        self._recent_titles += len(row.decisions.choices)
        while self._recent_titles > TITLES_REMEMBERED:
            _, old = self._recent.popitem(last=False)
            self._recent_titles -= len(old.decisions.choices)

    def _spooled(self, rows: list[Row]) -> dict[str, Logged]:
        ids = [row.decisions.request_id for row in rows]
        try:
            new = self.spool.add([_entry(REQUEST, r, i) for i, r in zip(ids, rows, strict=True)])
        except StoreUnavailable as error:
            log.error("rows_not_logged", extra={"rows": len(rows), "error": str(error)})
            return dict.fromkeys(ids, Logged.NOWHERE)
        return {i: Logged.SPOOLED for i, is_new in zip(ids, new, strict=True) if is_new}

    def _insert(self, rows: list[Row], abandoned: threading.Event) -> set[str]:
        """Commit rows, unless they have been `abandoned` meanwhile: their members saw defaults."""

        def insert(connection: Connection) -> set[str]:
            whole = not one_statement()
            new = self._insert_rows(connection, rows)
            if abandoned.is_set() and whole:
                raise StoreUnavailable("the rows were given up")
            return new

        def one_statement() -> bool:
            return all(r.decisions.confirm == "client" for r in rows) and all(
                s.action_set_id in self._known_sets for r in rows for s in r.action_sets
            )

        return self._written(self._for_rows, insert, one_statement)

    def _insert_rows(
        self, connection: Connection, rows: Sequence[Row], drained_at: dt.datetime | None = None
    ) -> set[str]:
        if not rows:
            return set()
        sets = {
            s.action_set_id: s
            for row in rows
            for s in row.action_sets
            if s.action_set_id not in self._known_sets
        }
        request_store.insert_action_sets(connection, list(sets.values()))
        new = request_store.insert(connection, [(r.decisions, r.asked) for r in rows])
        for row in rows:
            made = row.decisions
            if made.confirm == "server" and made.request_id in new:
                shown = [(made, i, made.occurred_at) for i in range(len(made.choices))]
                received = max(made.occurred_at, drained_at or made.occurred_at)
                event_store.insert_impressions(connection, shown, received)
        return new

    def _commit_events(self, jobs: list[Job[Batch, Report]]) -> None:
        batches = [job.asked for job in jobs]
        try:
            reports = self._written(self._for_events, lambda c: self._insert_events(c, batches))
        except StoreUnavailable as error:
            self._lost(error)
            for job in jobs:
                job.failed(error)
            return
        for job, report in zip(jobs, reports, strict=True):
            job.done(report)

    def _insert_events(
        self, connection: Connection, batches: list[Batch], drained_at: dt.datetime | None = None
    ) -> list[Report]:
        return ingest.take_in(
            connection, self._decision_ids, batches, self._half_life, self._windows, drained_at
        )

    def _written(
        self, held: Held, work: Callable[[Connection], T],
        one_statement: Callable[[], bool] = lambda: False,
    ) -> T:  # fmt: skip
        try:
            return held.write(work, one_statement=one_statement())
        except StoreUnavailable:
            # A server may have taken over that lacks the last commits.
            self._known_sets.clear()
            # A connection that broke while it was idle says nothing about the database.
            if not self.up:
                raise
        return held.write(work, one_statement=one_statement())

    def _lost(self, error: Exception) -> None:
        self._known_sets.clear()
        if self.up:
            self.up = False
            log.error("database_lost", extra={"error": str(error)})

    def drain(self, level: int = logging.WARNING) -> None:
        """Bring what waits in the spool into the database now, as far as that can be."""
        try:
            with self._draining:  # one thread's commit would end another's transaction half-way
                self._drain()
        except StoreUnavailable as error:
            log.log(level, "drain_failed", extra={"error": str(error)})

    def _drain_for_ever(self) -> None:
        while not self._stopped.wait(DRAIN_SECONDS):
            try:
                self.drain(logging.DEBUG)
            except Exception:  # a thread that died would leave the spool full for ever
                log.exception("drain_crashed")

    def _drain(self) -> None:
        """Bring what waits into the database; see whether it is back.

        It is as soon as a chunk went in quickly, whatever waits still: under load the spool may
        fill as fast as it is emptied, and then would for ever.
        """
        quick = True
        try:
            with self.spool.draining() as mine:
                while mine and (entries := self.spool.next(1_000 * self._pace.size)):
                    self._bring(entries)
                    seconds = time.monotonic() - self._turn_began
                    self._pace.took(seconds)
                    quick = seconds < self._write_seconds / 2
                    if quick:
                        self._look()
                    if self._stopped.is_set():
                        return
                    self._pace.rest()
        except StoreUnavailable as error:  # the spool's disk, or the database; the next line tells
            log.debug("drain_failed", extra={"error": str(error)})
        if quick:
            self._look()

    def _look(self) -> None:
        """See whether a database that was away is back."""
        if not self.up:
            self._for_drain.write(lambda _connection: None)
            self.up = True
            log.warning("database_back")

    def _bring(self, entries: list[Entry]) -> None:
        try:
            again, refused = self._for_drain.write(lambda c: self._insert_entries(c, entries))
        except StoreUnavailable:
            raise
        except Exception as error:  # one entry that cannot be stored must not hold up the others
            if len(entries) > 1:
                for entry in entries:
                    self._bring([entry])
                return
            if isinstance(error, Conflict | InvalidInput | msgspec.DecodeError):
                log.exception("spool_entry_refused")
                self.spool.settle(entries, refused=[(entries[0], str(error))])
                return
            log.exception("spool_entry_put_off")
            later = time.time() + PUT_OFF_SECONDS
            self.spool.settle(entries, [replace(entries[0], not_before=later)])
            return
        if refused:
            why = {"events": len(refused), "reason": refused[0][1]}
            log.error("spooled_events_refused", extra=why)
        self.spool.settle(entries, again, refused)

    def _insert_entries(
        self, connection: Connection, entries: list[Entry]
    ) -> tuple[list[Entry], list[tuple[Entry, str]]]:
        """Store entries; return those that must wait longer, and those that will never be taken."""
        # Before any row: who waits for a join must hold up nobody that waits for rows.
        attribution.share(connection)
        self._turn_began = time.monotonic()
        now = dt.datetime.now(dt.UTC)
        rows = [_row.decode(e.payload) for e in entries if e.kind == REQUEST]
        self._insert_rows(connection, rows, now)
        batches = [
            replace(batch, final=now - batch.now > LONGEST_WAIT)
            for batch in (_batch.decode(e.payload) for e in entries if e.kind == EVENTS)
        ]
        if not batches:
            return [], []
        again, refused = [], []
        reports = self._insert_events(connection, batches, now)
        for batch, report in zip(batches, reports, strict=True):
            if report.waiting:
                entry = _entry(EVENTS, replace(batch, events=report.waiting))
                waited = (now - batch.now).total_seconds()
                pause = min(AGAIN_SHARE * waited, self._shortest_window / 2)
                later = time.time() + max(AGAIN_SECONDS, pause)
                again.append(replace(entry, not_before=later))
            sent = {incoming.index: incoming for incoming in batch.events}
            for rejected in report.rejected:
                alone = replace(batch, events=[sent[rejected.index]])
                entry = _entry(EVENTS, alone, f"event {rejected.event_id}")
                refused.append((entry, rejected.reason))
        return again, refused


def _entry(kind: str, value: Row | Batch, key: str | None = None) -> Entry:
    return Entry(kind=kind, key=key, payload=msgspec.msgpack.encode(value))
