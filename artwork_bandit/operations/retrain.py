"""Retraining: join rewards, train a candidate, judge it on log it has not seen, promote or not.

The candidate is trained on the earlier part of the log and judged on the later part against what
serves now (`gate`). The promoted model is the one that was judged: it is not trained again on all
of the log.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from artwork_bandit.domain import ModelRecord, microseconds
from artwork_bandit.errors import InvalidInput, NotEnoughData
from artwork_bandit.evaluation.evidence import Method
from artwork_bandit.evaluation.question import Question
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.operations import changes, judge
from artwork_bandit.operations.cluster import reading
from artwork_bandit.operations.database_source import model_target
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.gate import GATE, gate
from artwork_bandit.operations.going_on import GoingOn, Warm, going_on, in_a_row
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.summing import sum_up
from artwork_bandit.policies.policy import Uniform
from artwork_bandit.policies.priors import AFTER_CHANGE, Priors
from artwork_bandit.settings import Settings
from artwork_bandit.slots import Slot
from artwork_bandit.store import registry, replay, rewards
from artwork_bandit.store.engine import Store
from artwork_bandit.store.window import Window
from artwork_bandit.training import exploring
from artwork_bandit.training import train as training
from artwork_bandit.training.train import Trained
from artwork_bandit.training.tuning import Progress

HELD_OUT_SHARE = 0.25
"""Share of the log, at its end, that judges the candidate."""
FEWEST_TUNED = 20_000
"""Rows below which a log cannot tell one prior from another."""
TUNED_AGAIN = 2
"""Priors are chosen again when the log has grown by this factor."""
MOST_PROCESSES = 4
"""Processes that make examples, if not told otherwise: each holds a part of the log in memory."""
Tune = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a retraining did."""

    joined: int
    """Rewards joined first."""
    version: int
    promoted: bool
    verdict: str
    """`live`, `challenger` or `rejected`."""
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


def join_rewards(store: Store, slot: Slot, settings: Settings, now: dt.datetime) -> int:
    """Attach outcomes to every impression whose window has closed, and sum up what the overview
    says of their titles; return the new units."""
    joined = rewards.join(store, slot, _window(slot, settings), now)
    sum_up(store, slot.name, settings, now)
    return joined


def retrain(
    store: Store, slot: Slot, settings: Settings, now: dt.datetime, *, seed: int = 1,
    log: Path | None = None, tune: Tune = "auto", warm: Warm = "auto",
    progress: Progress = training.silent, scheduler: str | None = None,
) -> Outcome:  # fmt: skip
    """Run the whole flow, on the database's log or a Parquet log made elsewhere.

    `tune` says whether priors are chosen on the log: `auto` if it is large enough to tell and has
    doubled since they were; `warm` whether to go on from the live model: `auto` as the settings
    say, on the database's log, and on the whole log where that cannot be; `scheduler` is who reads
    a Parquet log's parts (`cluster`). Raises NotEnoughData if the log is too small to train on.
    """
    if (tune, warm) == ("always", "always"):
        raise InvalidInput("priors are chosen on the whole log: leave out --tune or --warm")
    progress("joining rewards", 0.0)
    joined = join_rewards(store, slot, settings, now)
    source = ReplaySource.of(store, log, slot.name, settled_by=now, rule=slot.reward)
    with store.read() as connection:
        incumbent = registry.live(connection, slot.name)
        before = registry.list_all(connection, slot.name)
    progress("looking for a change", 0.0)
    changed_at = changes.looked_for(store, slot, before, source)
    split = _split(source, changed_at)
    if split is None:
        empty = why_empty(store, slot, settings) if log is None else f"{log} holds no rows"
        raise NotEnoughData(empty)
    size, tried = source.size, [r.settings for r in before]
    goes_on, why_whole = _begin(
        store, slot, settings, before, source, split, changed_at, tune, warm
    )  # fmt: skip
    how = training.Settings(
        half_life=dt.timedelta(days=settings.training_half_life_days),
        explored_share=settings.explored_share,
        products=tuple(p for p in settings.context_products.split(",") if p),
        priors=lambda rows: priors_for(tune, tried, rows, _stored(changed_at)),
        changed_at=None if changed_at is None else microseconds(changed_at),
        watched=tune == "auto",
        seed=seed,
    )

    def learned(goes_on: GoingOn | None) -> Trained:
        since, start = (None, None) if goes_on is None else (goes_on.since, goes_on.start)
        earlier = source.narrowed(since, split)
        with reading(earlier, scheduler, processes=processes(settings)) as to_learn:
            return training.train(to_learn, source.lookup, slot, how, progress, start)

    try:
        trained = learned(goes_on)
    except NotEnoughData as error:
        if goes_on is None or warm == "always":
            raise
        goes_on, why_whole = None, str(error)
        trained = learned(None)
    progress("judging", 0.0)
    goes_on_from = None if goes_on is None else goes_on.version
    version = _register(
        store, slot, source, trained, how, now, size, goes_on_from, why_whole, changed_at
    )  # fmt: skip
    candidate = Target(
        name="candidate",
        policy=trained.bundle.policy(version),
        after=microseconds(trained.window_to),
    )
    against = (
        Target(name="incumbent", policy=Uniform())
        if incumbent is None
        else model_target(store, incumbent.version, "incumbent")
    )
    question = Question(
        targets=(candidate, against), lookup=source.lookup, against="incumbent",
        method=Method(bounds=slot.reward.bounds),
    )  # fmt: skip
    report = judge.answer(source.narrowed(split, None), question, scheduler=scheduler)
    verdict, reason, metrics = gate(
        report.targets["candidate"],
        report.targets["incumbent"],
        "uniform" if incumbent is None else f"model {incumbent.version}",
    )
    if changed_at is not None and changed_at != changes.changed_at(changes.live(before)):
        reason = (
            f"what had been learned ceased to be true at {changed_at:%Y-%m-%d %H:%M}Z, rows from "
            f"before weigh little; {reason}"
        )
    with store.write() as connection:
        if verdict == "live":
            Editor(connection=connection, author=GATE, now=now).promote(
                version, reason, metrics=metrics
            )
        elif verdict == "challenger":
            registry.judge(connection, version, "candidate", reason, metrics)
            registry.challenge(connection, version, now)
        else:
            registry.judge(connection, version, "rejected", reason, metrics)
    return Outcome(
        joined=joined, version=version, promoted=verdict == "live", verdict=verdict,
        reason=reason, rows=trained.rows, new_rows=trained.new_rows,
        started_from=goes_on_from, why_whole=why_whole, changed_at=changed_at, metrics=metrics,
    )  # fmt: skip


def would_train(store: Store, slot: Slot, settings: Settings, now: dt.datetime) -> bool:
    """Tell whether a little more log is worth a training: because what serves has ceased to be
    true, or as the training would go on from it."""
    source = ReplaySource.of(store, None, slot.name, settled_by=now, rule=slot.reward)
    with store.read() as connection:
        before = registry.list_all(connection, slot.name)
    changed_at = changes.looked_for(store, slot, before, source)
    if changed_at != changes.known(before, slot, source):
        return True
    if not settings.warm_starts:
        return False
    if (split := _split(source, changed_at)) is None:
        return False
    found, _ = _begin(store, slot, settings, before, source, split, changed_at, "auto", "auto")
    return found is not None


def _begin(
    store: Store, slot: Slot, settings: Settings, before: Sequence[ModelRecord],
    source: ReplaySource, split: dt.datetime, changed_at: dt.datetime | None, tune: Tune,
    warm: Warm,
) -> tuple[GoingOn | None, str | None]:  # fmt: skip
    """Return what to go on from, or None and why not, if that was to be expected."""
    if warm == "never" or (warm == "auto" and (not settings.warm_starts or source.size is None)):
        return None, None
    try:
        if warm == "auto":
            if (n := in_a_row(before)) >= settings.warm_starts:
                raise NotEnoughData(f"{n} trainings in a row went on")
            teaching = _teaching(source.narrowed(changed_at, None), before)
            tried = [r.settings for r in before]
            if priors_for(tune, tried, teaching, _stored(changed_at)) is None:
                raise NotEnoughData("priors are to be chosen again")
        found = going_on(store, slot, settings, before, source, split, changed_at)
        if tune == "never" and found.start.learned.priors != Priors():
            raise NotEnoughData(f"the priors of model {found.version} are not the defaults")
        return found, None
    except NotEnoughData as why:
        if warm == "auto":
            return None, str(why)
        raise NotEnoughData(f"nothing to go on from: {why}; train without --warm") from why


def _split(source: ReplaySource, changed_at: dt.datetime | None) -> dt.datetime | None:
    """Return the instant from which on rows judge a candidate, None for an empty log: after a
    change, so that most of what came since can be learned from."""
    since = None if changed_at is None else source.narrowed(changed_at, None)
    found = None if since is None else since.quantile(1 - HELD_OUT_SHARE)
    return source.quantile(1 - HELD_OUT_SHARE) if found is None else found


def _stored(changed_at: dt.datetime | None) -> str | None:
    """Return how the instant of a change stands in a model's settings."""
    return None if changed_at is None else changed_at.isoformat()


def _teaching(source: ReplaySource, before: Sequence[ModelRecord]) -> int:
    """Return how many rows a training on the whole log would learn from, about: those before the
    held-out ones, of which as many teach as did for the newest model."""
    rows = (source.size or 0) * (1 - HELD_OUT_SHARE)
    made: Mapping[str, Any] = before[0].settings if before else {}
    taught, left_out = made.get("new_rows", 1), made.get("rows_left_out", 0)
    return int(rows * taught / max(taught + left_out, 1))


def why_empty(store: Store, slot: Slot, settings: Settings) -> str:
    """Return why the database's log has no row, or none in the time asked for."""
    with store.read() as connection:
        count, first = rewards.waiting(connection, slot.name)
        settled = replay.span(connection, Window(slot=slot.name))
    if settled is not None:
        rows, start, end = settled
        return (
            f"no row is in that time: the replay log has {rows:,}, from {start:%Y-%m-%d %H:%M}Z to "
            f"{end:%Y-%m-%d %H:%M}Z"
        )
    if first is None:
        return f"the replay log is empty: no impression of {slot.name} has been sent"
    closes = first + _window(slot, settings)
    return (
        f"the replay log is empty: {count:,} impressions wait for what follows, the first until "
        f"{closes:%Y-%m-%d %H:%M}Z, and are joined by `worker` after that; to try things out, set "
        "attribution_window_seconds"
    )


def _window(slot: Slot, settings: Settings) -> dt.timedelta:
    seconds = settings.attribution_window_seconds
    return dt.timedelta(seconds=seconds) if seconds else slot.attribution_window


def processes(settings: Settings) -> int:
    """Return how many processes make the examples of a large log."""
    limited = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if limited else os.cpu_count() or 1
    return settings.training_processes or min(MOST_PROCESSES, cores)


def priors_for(
    tune: Tune, before: Iterable[Mapping[str, Any]], rows: int, changed_at: str | None = None
) -> Priors | None:
    """Return the priors to train with; None to choose them on the log.

    `before`: the settings of earlier models, the newest first; `rows`, since the last change.
    """
    if tune == "always":
        return None
    if tune == "never" or rows < FEWEST_TUNED:
        return Priors() if changed_at is None else AFTER_CHANGE
    for settings in before:
        if settings.get("changed_at") != changed_at:
            continue
        if (tuned := settings.get("tuned_on_rows")) is not None:
            known = msgspec.convert(settings["priors"], Priors)
            return known if rows < TUNED_AGAIN * tuned else None
    return None


def _register(
    store: Store, slot: Slot, source: ReplaySource, trained: Trained, how: training.Settings,
    now: dt.datetime, log_rows: int | None, started_from: int | None, why_whole: str | None,
    changed_at: dt.datetime | None,
) -> int:  # fmt: skip
    """Store a candidate with how it was made; return its version."""
    with store.write() as connection:
        return registry.register(
            connection,
            slot=slot.name,
            data=trained.bundle.encode(),
            window=(trained.window_from, trained.window_to),
            rows=trained.rows,
            settings={
                "vowpal_arguments": trained.bundle.vowpal_arguments,
                "priors": msgspec.to_builtins(trained.priors),
                "tuned_on_rows": None if trained.tuned is None else trained.rows_since,
                "tuning_losses": None if trained.tuned is None else trained.tuned.losses,
                "reward_rule": slot.reward.version,
                "half_life_days": how.half_life / dt.timedelta(days=1) / trained.priors.ageing,
                "context_products": list(how.products),
                "exploration": how.form,
                "strength": trained.bundle.strength,
                "exploration_cost": exploring.cost_share(trained.effective_rows),
                "effective_rows": round(trained.effective_rows),
                "changed_at": _stored(changed_at),
                "log": source.name,
                "log_rows_since_change": changed_at and source.narrowed(changed_at, None).size,
                "explored_share": how.explored_share,
                "seed": how.seed,
                "rows_left_out": trained.left_out,
                "log_rows": log_rows,
                "started_from": started_from,
                "why_whole": why_whole,
                "new_rows": trained.new_rows,
            },
            now=now,
        )
