"""What the next training is to learn from, and how: decided from the log and the models there are.

A candidate learns from the earlier part of the log, and is judged on the later. Whether it goes on
from the live model (`going_on`), whether something changed abruptly (`changes`) and whether priors
are chosen again is all decided here, before anything is trained: the worker asks for a plan alone
to find out whether a training is worth it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from artwork_bandit.domain import ModelRecord, microseconds
from artwork_bandit.errors import InvalidInput, NotEnoughData
from artwork_bandit.operations import changes
from artwork_bandit.operations.going_on import GoingOn, Warm, going_on, in_a_row
from artwork_bandit.operations.joining import why_empty
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.rules import slot_of_log
from artwork_bandit.policies.encoding import products_of
from artwork_bandit.policies.priors import AFTER_CHANGE, Priors
from artwork_bandit.settings import Settings
from artwork_bandit.slots import Slot
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Store
from artwork_bandit.training import train as training
from artwork_bandit.training.progress import Progress, silent

HALVED = 20_000
"""Rows up to which half of a log judges: twice as many to learn from make a model a little better,
and half as many to judge by keep it, and every better one, from members for long."""
MOST_SINCE_CHANGE = 0.25
"""Of what came since a change: what was true before helps less, and a model of half of few rows is
live sooner, but far from as good, and hard to tell from better ones (`simulations.recovery`)."""
FEWEST_TUNED = 20_000
"""Rows below which a log cannot tell one prior from another."""
TUNED_AGAIN = 2
"""Priors are chosen again when the log has grown by this factor."""
Tune = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A training that has not begun."""

    now: dt.datetime
    """When it was made."""
    slot: Slot
    """Under the rule that the log's rewards are of."""
    source: ReplaySource
    """The log as it was settled when the plan was made."""
    models: Sequence[ModelRecord]
    """The slot's, as they are now, the newest first."""
    changed_at: dt.datetime | None
    """When what had been learned ceased to be true, if it did: rows before weigh little."""
    split: dt.datetime
    """From then on rows judge the candidate."""
    goes_on: GoingOn | None
    """What is gone on from; None: the whole log is learned from."""
    why_whole: str | None
    """Why it is, though trainings may go on."""
    may_be_whole: bool
    """Whether the whole log is learned from if too little is left that can teach to go on."""
    how: training.Settings

    @property
    def incumbent(self) -> ModelRecord | None:
        """The model that serves."""
        return changes.live(self.models)

    @property
    def learns_change(self) -> bool:
        """Whether what serves has ceased to be true."""
        return self.changed_at not in (None, changes.changed_at(self.incumbent))

    @property
    def worthwhile(self) -> bool:
        """Whether a little more log is worth the training: because it says other than the newest
        model of when things changed, or as it goes on from what serves."""
        known = changes.known(self.models, self.slot, self.source)
        return self.changed_at != known or self.goes_on is not None


def plan(
    store: Store, slot: Slot, settings: Settings, now: dt.datetime, *, seed: int = 1,
    log: Path | None = None, tune: Tune = "auto", warm: Warm = "auto",
    progress: Progress = silent,
) -> Plan:  # fmt: skip
    """Return what a training of the database's log, or of a Parquet log, would do now.

    For the arguments see `retrain`. Raises NotEnoughData for a log without rows.
    """
    if (tune, warm) == ("always", "always"):
        raise InvalidInput("priors are chosen on the whole log: leave out --tune or --warm")
    source = ReplaySource.of(store, log, slot.name, settled_by=now, rule=slot.reward)
    slot = slot_of_log(slot, source.rule, source.bounds)
    with store.read() as connection:
        models = registry.recent(connection, slot.name)
    if source.grows:  # what a file's rewards are of, nobody here knows
        changes.require_same_rule(models, slot, source)
    progress("looking for a change", 0.0)
    changed_at = changes.looked_for(store, slot, models, source)
    if (judged_from := split(source, changed_at)) is None:
        empty = (
            why_empty(store, slot, settings)
            if log is None
            else f"{log} holds no rows of slot {slot.name!r}"
        )
        raise NotEnoughData(empty)
    tried = [r.settings for r in changes.alike(models, slot, source)]
    change = stored(changed_at)
    how = training.Settings(
        half_life=dt.timedelta(days=settings.training_half_life_days),
        explored_share=settings.explored_share,
        products=products_of(settings.context_products),
        priors=lambda rows: priors_for(tune, tried, rows, change),
        changed_at=None if changed_at is None else microseconds(changed_at),
        watched=tune == "auto",
        seed=seed,
    )
    whole = Plan(
        now=now, slot=slot, source=source, models=models, changed_at=changed_at, split=judged_from,
        goes_on=None, why_whole=None, may_be_whole=warm != "always", how=how,
    )  # fmt: skip
    return _going_on(store, settings, whole, tune, warm)


def held_out_share(rows: int, most: float = 0.5) -> float:
    """Return the share of a log, at its end, that judges a candidate.

    Of a small one as much as may be. Of larger ones less, the rows by the square root of how much
    larger they are: what is told from them grows as slowly, and the newest rows are those worth
    learning from.

    >>> [held_out_share(rows) for rows in (1_000, 20_000, 80_000, 2_000_000)]
    [0.5, 0.5, 0.25, 0.05]
    """
    return min(most, 0.5 * math.sqrt(HALVED / max(rows, 1)))


def split(source: ReplaySource, changed_at: dt.datetime | None = None) -> dt.datetime | None:
    """Return the instant from which on a log's rows judge a candidate, None for an empty log: after
    a change, as if what came since were the log."""
    if changed_at is not None:
        since = source.narrowed(changed_at, None)
        if rows := since.rows():
            return since.quantile(1 - held_out_share(rows, MOST_SINCE_CHANGE))
    rows = source.rows()
    return source.quantile(1 - held_out_share(rows)) if rows else None


def _going_on(store: Store, settings: Settings, whole: Plan, tune: Tune, warm: Warm) -> Plan:
    """Return the plan that goes on from the live model if that can be and is wanted, else the one
    of the whole log, with why if going on was to be expected."""
    may = settings.warm_starts and whole.source.grows
    if warm == "never" or (warm == "auto" and not may):
        return whole
    try:
        if warm == "auto":
            if (n := in_a_row(whole.models)) >= settings.warm_starts:
                raise NotEnoughData(f"{n} trainings in a row went on")
            if whole.how.priors(_teaching(whole)) is None:
                raise NotEnoughData("priors are to be chosen again")
        found = going_on(
            store, whole.slot, settings, whole.models, whole.source, whole.split, whole.changed_at
        )
        if tune == "never" and found.start.learned.priors != Priors():
            raise NotEnoughData(f"the priors of model {found.version} are not the defaults")
        return replace(whole, goes_on=found)
    except NotEnoughData as why:
        if warm == "auto":
            return replace(whole, why_whole=str(why))
        raise NotEnoughData(f"nothing to go on from: {why}; train without --warm") from why


def _teaching(whole: Plan) -> int:
    """Return how many rows a training on the whole log would learn from, about: those since the
    last change before the held-out ones, of which as many teach as did for the newest model."""
    rows = whole.source.narrowed(whole.changed_at, whole.split).rows()
    made: Mapping[str, Any] = whole.models[0].settings if whole.models else {}
    taught, left_out = made.get("new_rows", 1), made.get("rows_left_out", 0)
    return int(rows * taught / max(taught + left_out, 1))


def stored(changed_at: dt.datetime | None) -> str | None:
    """Return how the instant of a change stands in a model's settings."""
    return None if changed_at is None else changed_at.isoformat()


def priors_for(
    tune: Tune, before: Iterable[Mapping[str, Any]], rows: int, changed_at: str | None = None
) -> Priors | None:
    """Return the priors to train with; None to choose them on the log.

    `before`: the settings of models of earlier states of that log, the newest first; `rows`, since
    the last change.
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
