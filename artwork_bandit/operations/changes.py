"""Abrupt changes of what members like: looked for before each training, and remembered.

What serves is asked whether it is still true (`training.change`), and where it learned from little,
a better informed model of the same time beside it. When it ceased to be is kept in
the settings of every model trained since, so that later trainings weigh rows alike; as long as none
of them serves, it is asked again, and may say another instant, or that nothing has changed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from artwork_bandit.domain import ModelRecord, instant, microseconds
from artwork_bandit.errors import BrokenModel, Conflict, InvalidInput, NotEnoughData
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.slots import RewardRule, Slot
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Store
from artwork_bandit.training import change
from artwork_bandit.training.start import Start

MOST_ROWS = 100_000
"""The newest, which are looked at."""
NOT_LEARNED = 0.5
"""Share of the log, its newest rows, that the second model that is asked has not learned from: from
those after a change it would know of it."""
UNANSWERED = 5
"""Times the rows from which on a model is asked for another change, that may have come since the
last before one is asked that learned from fewer."""


def alike(before: Sequence[ModelRecord], slot: Slot, log: ReplaySource) -> list[ModelRecord]:
    """Return the models that learned from earlier states of this very log, under the slot's rule:
    what others were told is another story."""
    told = {"log": log.name, "reward_rule": slot.reward.version}
    return [r for r in before if told.items() <= r.settings.items()]


def require_same_rule(before: Sequence[ModelRecord], slot: Slot, log: ReplaySource) -> None:
    """Raise InvalidInput if a model learned from this log under a rule of the slot's version that
    paid otherwise: it would pass for one that learned what this rule pays. What the rewards of
    other logs were paid for, nobody here knows."""
    for record in alike(before, slot, log):
        formula = record.settings.get("reward_formula")
        if formula is not None and msgspec.convert(formula, RewardRule) != slot.reward:
            raise InvalidInput(
                f"reward rule {slot.reward.version!r} pays otherwise than when model "
                f"{record.version} learned under it: give the changed rule a version of its own"
            )


def require_known_formula(store: Store, slot: Slot, log: ReplaySource) -> None:
    """Raise InvalidInput as `require_same_rule` does, of the slot's newest models."""
    with store.read() as connection:
        before = registry.recent(connection, slot.name)
    require_same_rule(before, slot, log)


def changed_at(model: ModelRecord | None) -> dt.datetime | None:
    """Return when the last change was that a model knows of."""
    text = None if model is None else model.settings.get("changed_at")
    return None if text is None else dt.datetime.fromisoformat(text)


def times_learned(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return how many times as much log one model learned from as another, by the settings of both:
    since the last change, if they know of one; infinity if it knows of a later one, 0 if the other
    does."""
    change, earlier = (None if (at := each.get("changed_at")) is None
                       else dt.datetime.fromisoformat(at) for each in (one, other))  # fmt: skip
    if change != earlier:
        later = change is not None and (earlier is None or change > earlier)
        return math.inf if later else 0.0
    of = "log_rows" if change is None else "log_rows_since_change"
    rows, before = one.get(of), other.get(of)
    return rows / before if rows and before else 1.0  # an earlier release kept no numbers


def known(before: Sequence[ModelRecord], slot: Slot, log: ReplaySource) -> dt.datetime | None:
    """Return when the last change was that models know of; `before` has the newest first."""
    return changed_at(next(iter(alike(before, slot, log)), None))


def unlearned(before: Sequence[ModelRecord]) -> dt.datetime | None:
    """Return when the change was that the newest model knows of and what serves does not."""
    newest = changed_at(next(iter(before), None))
    return None if newest == changed_at(live(before)) else newest


def _young(serving: ModelRecord, log: ReplaySource) -> bool:
    """Return whether a model knows too little since the last change to be asked for another; it is
    asked all the same where so much has come that no better one took its place."""
    learned = serving.settings.get("log_rows_since_change")
    if learned is None or learned >= change.FEWEST_LEARNED:
        return False
    return log.narrowed(changed_at(serving), None).rows() < UNANSWERED * change.FEWEST_LEARNED


def live(before: Sequence[ModelRecord]) -> ModelRecord | None:
    """Return the model that serves."""
    return next((r for r in before if r.status == "live"), None)


def looked_for(
    store: Store, slot: Slot, before: Sequence[ModelRecord], log: ReplaySource
) -> dt.datetime | None:
    """Return when the last change was, whether found now or known.

    All rows after a model's last are looked at, those that will judge a candidate too: what is
    found is an instant, by what models say, and says nothing of the candidate.
    """
    same = alike(before, slot, log)
    last, serving = known(before, slot, log), live(same)
    if serving is None:
        return last
    if _young(serving, log):
        return changed_at(serving)
    serves = changed_at(serving)
    again = None if last is None or last == serves else microseconds(last)
    try:
        told = [_told(store, slot, serving, log, again)]
    except NotEnoughData:
        return last
    if (other := _better_informed(same, serving, log)) is not None:
        with contextlib.suppress(NotEnoughData, BrokenModel, Conflict):  # just deleted
            told.append(_told(store, slot, other, log, again))
    found = [each for each in told if each is not None]
    return instant(max(found, key=lambda each: each.evidence).at) if found else serves


def _better_informed(
    same: Sequence[ModelRecord], serving: ModelRecord, log: ReplaySource
) -> ModelRecord | None:
    """Return the newest model that learned nothing of the newer half of the log, if it learned from
    more than the one that serves: a model of a few hundred rows says so little of each variant that
    nobody can tell whether it is true any more."""
    until, serves = log.quantile(1 - NOT_LEARNED), changed_at(serving)
    for model in same:
        learned_to = model.window_to
        if until is None or learned_to is None or learned_to >= until:
            continue
        if model.deleted_at is not None:
            continue
        if changed_at(model) == serves and not _young(model, log):
            return model if model.rows > serving.rows else None
    return None


def _told(
    store: Store, slot: Slot, model: ModelRecord, log: ReplaySource, again: int | None
) -> change.Change | None:
    """Return the change that rows after a model's last tell of; raises NotEnoughData if it was made
    by an earlier release."""
    with store.read() as connection:
        start = Start.of(registry.load(connection, model.version))
    since = instant(start.learned.last + 1)
    blocks = log.narrowed(since, None).newest(MOST_ROWS).blocks()
    return change.looked_for(blocks, log.lookup, start, slot.reward.bounds, again)
