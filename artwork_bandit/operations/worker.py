"""The worker: joins rewards, trains, watches the live model, drains this host's spool.

Any number of workers may run; one leads (`store.leader`), the others wait for it to end. What is
due is read from the database, and every step is a transaction of its own, so a worker may be killed
at any moment: the next one goes on where the log is. All that one keeps in memory is what it need
not try again for a while.

    join    every `join_seconds`: impressions whose window has closed become units of replay
    guard   a live model, or a challenger, that is damaged goes; after each join the gate's
            challenger goes live, or challenges no more, if its cell surely says so, and a live
            model goes that is surely worse than the baseline or chance, or has ceased to be true
            and does no better
    train   when the log, or what came since the last change, has doubled, or the newest model is
            older than `train_seconds` and either has grown by a tenth, or the log by a hundredth if
            the training goes on from the live model (`warm_starts`) or what it had learned has
            ceased to be true; then random, best single, live and challenger are judged for the
            pages. In a thread of its own: joins go on meanwhile, and a live model can be found to
            be worse
    look    when a quarter more rows have come since the gate judged its challenger: it is judged
            again by all that have come since it learned; in the same thread, after a training
    drain   always, on each worker's own host, leader or not
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from artwork_bandit.domain import ModelRecord
from artwork_bandit.errors import ArtworkBanditError, NotEnoughData, StoreUnavailable
from artwork_bandit.operations import changes
from artwork_bandit.operations.guard import (
    demote_if_damaged,
    demote_if_worse,
    end_challenge,
    end_damaged_challenge,
)
from artwork_bandit.operations.imports import AHEAD
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.planning import plan
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.reporting import keep_latest
from artwork_bandit.operations.retrain import carry_out, ticking
from artwork_bandit.operations.rules import slot_of
from artwork_bandit.operations.second_look import look_again, look_due
from artwork_bandit.policies.encoding import products_of
from artwork_bandit.serving.decision_ids import DecisionIds
from artwork_bandit.serving.journal import Journal
from artwork_bandit.serving.state import Keys
from artwork_bandit.settings import Settings, local_folder
from artwork_bandit.slots import SLOTS, Slot, windows
from artwork_bandit.store import aggregates, registry
from artwork_bandit.store.engine import Store
from artwork_bandit.store.leader import Leader
from artwork_bandit.store.spool import Spool

log = logging.getLogger(__name__)

FIRST_ROWS = 1_000
"""Of a log before its first model: with fewer the gate could not judge it."""
GROWN, GROWN_A_LITTLE = 0.1, 0.01
"""Shares by which the log, or what came since the last change, must have grown since the newest
model, to train again; and to look whether that is worth it (`planning`)."""
LOOKED_AT = dt.timedelta(minutes=10)
"""Between two looks at whether a model that serves is damaged, where nothing is joined."""
COUNTED_AT = dt.timedelta(minutes=10)
"""Between two countings of the log while the newest model is young."""
LEADER_SECONDS = 2.0
"""How often a worker that waits looks whether the lead is free."""


Due = Literal["yes", "perhaps", "no"]
"""Whether it is time to train; `perhaps` if that depends on what would be learned from."""


class Tried(NamedTuple):
    """A training that was."""

    at: dt.datetime
    rows: int
    """Of the log then."""
    since_change: int | None = None
    """Of these, since the last change."""

    @staticmethod
    def of(model: ModelRecord) -> Tried:
        told = model.settings
        return Tried(model.created_at, _seen(model), told.get("log_rows_since_change"))


class Counted(NamedTuple):
    """Rows of a log."""

    at: dt.datetime
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one round did for a slot."""

    slot: str
    joined: int = 0
    demoted: str | None = None
    decided: str | None = None
    """What became of a challenger."""
    trained: str | None = None
    """What became of a new model, and of a challenger that was judged again."""
    waits: str | None = None
    """Why no training was due."""
    failed: str | None = None
    """Why what was due could not be done."""


class Worker:
    """The work of one process."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._slots = [slot_of(settings, name) for name in SLOTS]
        products_of(settings.context_products)  # a mistyped one is told now, not hours later
        self._leader = Leader(store, "worker")
        self._journal = _journal(store, settings)
        self._tried: dict[str, Tried] = {}
        """Slot -> the last training that failed: what cannot succeed is not tried at every join."""
        self._log_rows: dict[str, Counted] = {}
        """Slot -> rows of its log when they were counted, and those joined here since."""
        self._waits: dict[str, bool] = {}
        """Slot -> whether it was told why no training is due."""
        self._asked: dict[str, int] = {}
        """Slot -> rows of the log when it was last looked whether a training is worth it."""
        self._looked_at: dict[str, dt.datetime] = {}
        """Slot -> when it was last looked whether a model that serves is damaged."""
        self._look_failed: dict[str, dt.datetime] = {}
        """Slot -> when its challenger was to be judged again, and could not be."""
        self._trainer = ThreadPoolExecutor(1, "trainer")
        self._training: dict[str, Future[str | None]] = {}
        """Slot -> its training, until it was told what came of it."""

    def close(self) -> None:
        """Give the lead away, and wait for a training that goes on: what comes of it is registered
        as safely by one that leads no more, and meanwhile another joins."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._journal.close)
            stack.callback(self._trainer.shutdown, cancel_futures=True)
            self._leader.close()

    def run(self, stopped: threading.Event, now: Callable[[], dt.datetime]) -> None:
        """Work until stopped; `now` may raise StoreUnavailable."""
        led: bool | None = None
        while not stopped.is_set():
            leads = self._leader.lead()
            if leads != led:
                log.info("leader_changed", extra={"leads": leads})
            led = leads
            if leads:
                try:
                    self.round(now(), stopped, wait=False)
                except StoreUnavailable as error:
                    log.warning("worker_failed", extra={"error": str(error)})
            stopped.wait(self._settings.join_seconds if leads else LEADER_SECONDS)

    def once(self, now: dt.datetime) -> list[Done] | None:
        """Drain the spool and do what is due; None if another worker leads."""
        self._journal.drain()
        return self.round(now, threading.Event()) if self._leader.lead() else None

    def round(self, now: dt.datetime, stopped: threading.Event, *, wait: bool = True) -> list[Done]:
        """Do for every slot what is due now. A slot that fails holds no other up.

        Without `wait`, what came of a training is told by a later round.
        """
        done = []
        for slot in self._slots:
            if stopped.is_set():
                break
            try:
                done.append(self._slot(slot, now, wait=wait))
            except (ArtworkBanditError, OSError) as error:  # a full disk, say
                log.warning("worker_failed", extra={"slot": slot.name, "error": str(error)})
                done.append(Done(slot=slot.name, failed=str(error)))
            except Exception as error:  # our fault; without a worker nothing is joined or drained
                log.exception("worker_failed", extra={"slot": slot.name})
                done.append(Done(slot=slot.name, failed=f"{type(error).__name__}: {error}"))
        return done

    def _slot(self, slot: Slot, now: dt.datetime, *, wait: bool) -> Done:
        joined = join_rewards(self._store, slot, self._settings, now)
        if (counted := self._log_rows.get(slot.name)) is not None:
            self._log_rows[slot.name] = Counted(counted.at, counted.rows + joined)
        demoted, ended = self._damaged(slot, now, joined)
        if joined:
            # A challenger that is better takes the place of what would be let go of.
            ended.append(_ended(slot, end_challenge(self._store, slot, now)))
            demoted.append(_demoted(slot, demote_if_worse(self._store, slot, now)))
        due: Due = "no"
        waits = None
        if slot.name not in self._training:
            due, waits = self._due(slot, now)
            if due != "no" or (joined and self._looks(slot, now)):
                clock = ticking(now)  # it may wait for another slot's
                self._training[slot.name] = self._trainer.submit(self._train, slot, clock, due)
        trained = self._trained(slot, now, wait=wait)
        if due == "perhaps" and wait and trained is None:
            waits = "what has come since the last training is little, and says nothing new"
        if waits is not None and not self._waits.get(slot.name):  # once: it is the same for hours
            log.info("training_waits", extra={"slot": slot.name, "why": waits})
        self._waits[slot.name] = waits is not None
        found = Done(
            slot=slot.name, joined=joined, demoted=_listed(demoted), decided=_listed(ended),
            trained=trained, waits=waits,
        )  # fmt: skip
        if joined or trained:
            log.info(
                "worker_round", extra={"slot": slot.name, "joined": joined, "trained": trained}
            )
        return found

    def _damaged(
        self, slot: Slot, now: dt.datetime, joined: int
    ) -> tuple[list[str | None], list[str | None]]:
        """Let go of models that serve and are damaged; return why, of live ones and challengers."""
        looked = self._looked_at.get(slot.name)
        if not joined and looked is not None and now - looked < LOOKED_AT:
            return [], []  # it reads whole models
        self._looked_at[slot.name] = now
        demoted = _demoted(slot, demote_if_damaged(self._store, slot, now))
        return [demoted], [_ended(slot, end_damaged_challenge(self._store, slot, now))]

    def _trained(self, slot: Slot, now: dt.datetime, *, wait: bool) -> str | None:
        """Return what came of the slot's training, None if there was none or it goes on."""
        training = self._training.get(slot.name)
        if training is None or not (wait or training.done()):
            return None
        del self._training[slot.name]
        try:
            return training.result()
        except NotEnoughData as error:
            self._failed(slot, now)
            return f"not trained: {error}"
        except BaseException:
            self._failed(slot, now)
            raise

    def _failed(self, slot: Slot, now: dt.datetime) -> None:
        counted = self._log_rows.get(slot.name)
        rows = 0 if counted is None else counted.rows
        with contextlib.suppress(ArtworkBanditError):  # what failed may be the database
            rows = self._count(slot)
        self._tried[slot.name] = Tried(now, rows)

    def _looks(self, slot: Slot, now: dt.datetime) -> bool:
        """Return whether it is time to judge the challenger again."""
        failed = self._look_failed.get(slot.name)
        between = dt.timedelta(seconds=self._settings.train_seconds)
        rests = failed is not None and now - failed < between
        return not rests and look_due(self._store, slot) is not None

    def _due(self, slot: Slot, now: dt.datetime) -> tuple[Due, str | None]:
        """Return whether it is time to train, and why not."""
        source = ReplaySource.of(self._store, None, slot.name, rule=slot.reward)
        with self._store.read() as connection:
            # What others learned from, or under which rule, says nothing of how this log has grown.
            models = changes.alike(registry.recent(connection, slot.name), slot, source)
        made = f"model {models[0].version}" if models else "no model"
        if (soon := self._too_soon(slot, now, models)) is not None:
            return "no", soon
        rows = self._count(slot)
        if not models:
            few = rows < FIRST_ROWS
            return ("no", f"{rows:,} of at least {FIRST_ROWS:,} rows") if few else ("yes", None)
        newest = models[0]
        seen = _seen(newest)
        changed_at, known = changes.changed_at(newest), newest.settings.get("log_rows_since_change")
        if rows >= (1 + GROWN) * seen:
            return "yes", None
        if changed_at is not None and known:  # the others weigh little
            since = self._count(slot, changed_at)
            if since >= (1 + GROWN) * int(known):
                return "yes", None
            if changes.unlearned(models) is not None:
                what = f"{since:,} rows since the change, {known:,} at {made}"
                return "no", f"{what}: trained again when {GROWN:.0%} more have come"
        if rows < (1 + GROWN_A_LITTLE) * max(seen, self._asked.get(slot.name, 0)):
            more = f"{GROWN_A_LITTLE:.0%} more, if that is worth it, or {GROWN:.0%}"
            return "no", f"{rows:,} rows, {seen:,} at {made}: looked again after {more}"
        return "perhaps", None

    def _too_soon(self, slot: Slot, now: dt.datetime, models: Sequence[ModelRecord]) -> str | None:
        """Return why the last training is too recent for another, None if it is not: while a log,
        or what came since a change, is so young that it doubles within `train_seconds`, that is
        when."""
        between = dt.timedelta(seconds=self._settings.train_seconds)
        last = self._tried.get(slot.name)
        said = "the last training failed; tried again"
        # One of the future was made by a clock that was ahead: when, nobody knows.
        made = models and models[0].created_at <= now + AHEAD
        if made and (last is None or last.at < models[0].created_at):
            last = Tried.of(models[0])
            said = f"model {models[0].version} is young: none is trained before"
        if last is None or now - last.at >= between:
            return None
        enough = max(last.rows + min(last.rows, last.since_change or last.rows), FIRST_ROWS)
        # Not counted at every join; what was joined may be no row, and others may have joined, too.
        counted = self._log_rows.get(slot.name)
        if counted is None or counted.rows >= enough or now - counted.at >= COUNTED_AT:
            counted = self._log_rows[slot.name] = Counted(now, self._count(slot))
        if counted.rows >= enough:
            return None
        return f"{said} {last.at + between:%Y-%m-%d %H:%M}Z (train_seconds) or {enough:,} rows"

    def _count(self, slot: Slot, since: dt.datetime | None = None) -> int:
        with self._store.read() as connection:
            return aggregates.rows(connection, slot.name, since)

    def _train(self, slot: Slot, clock: Callable[[], dt.datetime], due: Due) -> str | None:
        made = None if due == "no" else self._made(slot, clock, due)
        # The newest model knows best whether the world has changed since the challenger learned.
        return _listed([made, self._looked_again(slot, clock)])

    def _looked_again(self, slot: Slot, clock: Callable[[], dt.datetime]) -> str | None:
        """Return what became of the challenger; what fails here fails no training, and is not tried
        at every join."""
        try:
            return look_again(self._store, slot, clock)
        except (ArtworkBanditError, OSError) as error:
            log.warning("look_failed", extra={"slot": slot.name, "error": str(error)})
        except Exception:  # our fault
            log.exception("look_failed", extra={"slot": slot.name})
        self._look_failed[slot.name] = clock()
        return None

    def _made(self, slot: Slot, clock: Callable[[], dt.datetime], due: Due) -> str | None:
        with contextlib.closing(Leader(self._store, f"training-{slot.name}")) as training:
            if not training.lead():  # one that was told to stop has not ended its own yet
                return None
            return self._made_alone(slot, clock, due)

    def _made_alone(
        self, slot: Slot, clock: Callable[[], dt.datetime], due: Due
    ) -> str | None:  # fmt: skip
        planned = plan(self._store, slot, self._settings, clock())
        if due == "perhaps" and not planned.worthwhile:
            self._asked[slot.name] = planned.source.rows()
            return None
        outcome = carry_out(self._store, self._settings, planned, clock)
        keep_latest(self._store, slot, clock())
        return f"model {outcome.version} {outcome.verdict}: {outcome.reason}"


def _demoted(slot: Slot, reason: str | None) -> str | None:
    if reason is not None:
        log.warning("model_demoted", extra={"slot": slot.name, "reason": reason})
    return reason


def _ended(slot: Slot, reason: str | None) -> str | None:
    if reason is not None:
        log.info("challenge_ended", extra={"slot": slot.name, "reason": reason})
    return reason


def _listed(reasons: Sequence[str | None]) -> str | None:
    return "; ".join(reason for reason in reasons if reason is not None) or None


def _seen(model: ModelRecord) -> int:
    """Return how many rows the log had when a model was made."""
    return int(model.settings.get("log_rows") or model.rows)


def _journal(store: Store, settings: Settings) -> Journal:
    """Return what drains this host's spool: its servers may never come back."""
    path = Path(local_folder(settings)) / "spool.db"
    keys = Keys.of(store, settings.decision_key)
    half_life = dt.timedelta(days=settings.profile_half_life_days)
    return Journal(
        store, Spool(path), DecisionIds(keys.decision), half_life,
        windows(settings.attribution_window_seconds), settings.write_seconds,
    )  # fmt: skip
