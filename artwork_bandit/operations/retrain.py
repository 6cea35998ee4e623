"""Retraining: join rewards, train a candidate, judge it on log it has not seen, promote or not.

The candidate is trained on the earlier part of the log and judged on the later part against what
serves (`gate`). The promoted model is the one that was judged: it is not trained again on all of
the log. A model is registered together with its verdict, in one transaction: whoever ends before
that has left nothing behind, and what people or the guard have changed meanwhile stands.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from artwork_bandit.domain import ModelRecord
from artwork_bandit.errors import BrokenModel, NotEnoughData
from artwork_bandit.operations import held_out
from artwork_bandit.operations.changes import times_learned
from artwork_bandit.operations.going_on import Warm
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.model_editing import GATE, ModelEditor, named_by
from artwork_bandit.operations.planning import Plan, Tune, plan, stored
from artwork_bandit.operations.reading import reading, reading_processes
from artwork_bandit.operations.retention import delete_old
from artwork_bandit.operations.rules import slot_of
from artwork_bandit.operations.second_look import ROWS_SINCE, rows_since
from artwork_bandit.settings import Settings
from artwork_bandit.slots import Slot
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Store
from artwork_bandit.training import exploring
from artwork_bandit.training import train as training
from artwork_bandit.training.progress import Progress, silent
from artwork_bandit.training.train import Trained

OUTGROWN = 2
"""Times the log that a challenger was made of, from which on a candidate takes its place before it
has been tried for a draw period."""
MOST_MISLEADING = 1_000
"""Variants that mislead that are kept with a model, for people to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a retraining did."""

    joined: int
    """Rewards joined first."""
    version: int
    promoted: bool
    verdict: str
    """`live`, `challenger`, `rejected`; `candidate` if what it was judged by serves no more, if it
    would be the challenger and another still is, or if another rule is in force."""
    reason: str
    rows: int
    """Rows learned from, those of the model that was gone on from included."""
    new_rows: int
    """Of these, rows read now."""
    started_from: int | None
    """The model that was gone on from; None: the whole log was learned from."""
    why_whole: str | None
    """Why it was, though trainings may go on."""
    changed_at: dt.datetime | None
    """When what had been learned ceased to be true, if it did: rows before weigh little."""
    metrics: dict[str, Any]


def retrain(
    store: Store, slot: Slot, settings: Settings, now: dt.datetime, *, seed: int = 1,
    log: Path | None = None, tune: Tune = "auto", warm: Warm = "auto",
    progress: Progress = silent, scheduler: str | None = None,
) -> Outcome:  # fmt: skip
    """Run the whole flow, on the database's log or a Parquet log made elsewhere, from `now` on.

    `tune` says whether priors are chosen on the log: `auto` if it is large enough to tell and has
    doubled since they were; `warm` whether to go on from the live model: `auto` as the settings
    say, on the database's log, and on the whole log where that cannot be; `scheduler` is who reads
    a Parquet log's parts (`reading`). Raises NotEnoughData if the log is too small to train on.
    """
    clock = ticking(now)
    progress("joining rewards", 0.0)
    joined = join_rewards(store, slot, settings, now)
    planned = plan(
        store, slot, settings, now, seed=seed, log=log, tune=tune, warm=warm, progress=progress
    )
    made = carry_out(store, settings, planned, clock, progress, scheduler)
    return replace(made, joined=joined)


def ticking(now: dt.datetime) -> Callable[[], dt.datetime]:
    """Return a clock that says `now` now."""
    began = time.monotonic()
    return lambda: now + dt.timedelta(seconds=time.monotonic() - began)


def carry_out(
    store: Store, settings: Settings, planned: Plan, clock: Callable[[], dt.datetime],
    progress: Progress = silent, scheduler: str | None = None,
) -> Outcome:  # fmt: skip
    """Train as planned, judge, and register the candidate with what became of it.

    Raises NotEnoughData if the log is too small to train on.
    """
    planned, trained = _trained(settings, planned, progress, scheduler)
    slot = planned.slot
    period = slot.draw_period(settings.period_seconds)
    made = _settings(planned, trained)
    progress("judging", 0.0)
    verdict, reason, metrics = held_out.judged(
        store, planned.source.narrowed(planned.split, None), slot, trained.bundle.policy(None),
        trained.window_to, planned.incumbent, made, scheduler,
    )  # fmt: skip
    verdict, reason = _considered(settings, planned, verdict, reason)
    with store.read() as connection:
        metrics[ROWS_SINCE] = rows_since(connection, slot, trained.window_to)
    data = trained.bundle.encode()  # while nobody waits
    with store.write() as connection:
        editor = ModelEditor(connection=connection, author=GATE, now=clock())
        editor.take_turn(planned.slot.name)
        # What people or the guard have done while this was trained and judged stands.
        serves = registry.live(connection, planned.slot.name)
        if verdict != "rejected" and _version(serves) != _version(planned.incumbent):
            verdict = "candidate"
            rival = metrics["incumbent"]
            reason = f"{rival}, which it was judged against, serves no more; {reason}"
        elif verdict == "challenger" and (named := named_by(connection, slot.name)):
            verdict = "candidate"
            reason = f"{reason}, and model {named[0]} challenges, which {named[1]} named"
        elif (
            verdict == "challenger"
            and (until := editor.tried_until(slot.name, period))
            and not _outgrown(made, registry.challenger(connection, slot.name))
        ):
            verdict = "candidate"
            reason = f"{reason}, and another challenges until {until:%Y-%m-%d %H:%M}Z"
        elif verdict == "challenger":
            reason = f"{reason}; it became the challenger"
        version = registry.register(
            connection, slot=planned.slot.name, data=data,
            window=(trained.window_from, trained.window_to), rows=trained.rows,
            settings=made, now=planned.now,
            status="rejected" if verdict == "rejected" else "candidate", reason=reason,
            metrics=metrics,
        )  # fmt: skip
        if verdict == "live":
            editor.promote(version, reason, metrics=metrics)
        elif verdict == "challenger":
            editor.challenge(version)
    delete_old(store, slot.name, settings, clock())
    return Outcome(
        joined=0, version=version, promoted=verdict == "live", verdict=verdict, reason=reason,
        rows=trained.rows, new_rows=trained.new_rows, started_from=_started_from(planned),
        why_whole=planned.why_whole, changed_at=planned.changed_at, metrics=metrics,
    )  # fmt: skip


def _trained(
    settings: Settings, planned: Plan, progress: Progress, scheduler: str | None
) -> tuple[Plan, Trained]:
    """Return a candidate, and the plan it came of: the one of the whole log where there was too
    little to go on with, or what came of it was no sound model."""
    goes_on = planned.goes_on
    since, start = (None, None) if goes_on is None else (goes_on.since, goes_on.start)
    earlier = planned.source.narrowed(since, planned.split)
    try:
        with reading(earlier, scheduler, processes=reading_processes(settings)) as log:
            return planned, training.train(
                log, planned.source.lookup, planned.slot, planned.how, progress, start
            )
    except (NotEnoughData, BrokenModel) as error:
        if goes_on is None or not planned.may_be_whole:
            raise
        whole = replace(planned, goes_on=None, why_whole=str(error))
        return _trained(settings, whole, progress, scheduler)


def _considered(settings: Settings, planned: Plan, verdict: str, reason: str) -> tuple[str, str]:
    """Return the gate's verdict and reason, with what else is to be said of what was learned: of a
    change, of rewards that came with their rows, and of a rule that is not in force."""
    if planned.learns_change:
        reason = (
            f"what had been learned ceased to be true at {planned.changed_at:%Y-%m-%d %H:%M}Z, "
            f"rows from before weigh little; {reason}"
        )
    reason = "; ".join([reason, *(check.message for check in planned.source.imported())])
    learned = planned.slot.reward.version
    in_force = slot_of(settings, planned.slot.name).reward.version
    if verdict == "rejected" or learned == in_force:
        return verdict, reason
    why = (
        f"it learned rewards by rule {learned!r}, and {in_force!r} is in force: only `models "
        "promote` makes it live"
    )
    return "candidate", f"{reason}; {why}"


def _outgrown(made: Mapping[str, Any], challenger: ModelRecord | None) -> bool:
    """Return whether a candidate knows so much more than the challenger that it is to be tried
    instead: of a change, or of twice as much log."""
    return challenger is None or times_learned(made, challenger.settings) >= OUTGROWN


def _version(model: ModelRecord | None) -> int | None:
    return None if model is None else model.version


def _started_from(planned: Plan) -> int | None:
    return None if planned.goes_on is None else planned.goes_on.version


def _misleading(planned: Plan, trained: Trained) -> Mapping[str, float] | None:
    """Return the variants that mislead; of a model that went on, those of the one it went on from,
    of which as little is expected."""
    if trained.misleading is not None:
        return dict(islice(trained.misleading.items(), MOST_MISLEADING))
    version = _started_from(planned)
    before = next((m for m in planned.models if m.version == version), None)
    return None if before is None else before.settings.get("misleading")


def _settings(planned: Plan, trained: Trained) -> dict[str, Any]:
    """Return how a candidate was made."""
    how, source, since = planned.how, planned.source, planned.changed_at
    contexts = trained.bundle.model.context_encoder
    return {
        "vowpal_arguments": trained.bundle.vowpal_arguments,
        "priors": msgspec.to_builtins(trained.priors),
        "tuned_on_rows": None if trained.tuned is None else trained.rows_since,
        "tuning_losses": None if trained.tuned is None else trained.tuned.losses,
        "reward_rule": planned.slot.reward.version,
        # A file names its rewards' rule, not what that pays.
        "reward_formula": msgspec.to_builtins(planned.slot.reward) if source.grows else None,
        "half_life_days": how.half_life / dt.timedelta(days=1) / trained.priors.ageing,
        "context_products": list(how.products),
        "context_products_left_out": contexts.products_left_out(how.products),
        "exploration": how.form,
        "strength": trained.bundle.strength,
        "exploration_cost": exploring.cost_share(trained.effective_rows),
        "effective_rows": round(trained.effective_rows),
        "changed_at": stored(since),
        "log": source.name,
        "log_rows": source.rows() if source.grows else None,
        "log_rows_since_change": since and source.narrowed(since, None).rows(),
        "explored_share": how.explored_share,
        "seed": how.seed,
        "rows_left_out": trained.left_out,
        "misleading": _misleading(planned, trained),
        "started_from": _started_from(planned),
        "why_whole": planned.why_whole,
        "new_rows": trained.new_rows,
    }
