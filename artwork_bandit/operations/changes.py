"""Abrupt changes of what members like: looked for before each training, and remembered.

A change is found by a model that did not know of it (`training.change`), and is kept in the
settings of every model trained since, so that later trainings weigh rows as the first did.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from artwork_bandit.domain import ModelRecord, instant
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.operations.cluster import reading
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.slots import Slot
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Store
from artwork_bandit.training import change
from artwork_bandit.training.start import Start


def known(before: Sequence[ModelRecord]) -> dt.datetime | None:
    """Return when the last change was that models know of; `before` has the newest first."""
    return changed_at(before[0]) if before else None


def changed_at(model: ModelRecord) -> dt.datetime | None:
    """Return when the last change was that a model knows of."""
    text = model.settings.get("changed_at")
    return None if text is None else dt.datetime.fromisoformat(text)


def looked_for(
    store: Store, slot: Slot, before: Sequence[ModelRecord], log: ReplaySource,
    scheduler: str | None = None,
) -> dt.datetime | None:  # fmt: skip
    """Return when the last change was, whether found now or known."""
    last = known(before)
    live = next((r for r in before if r.status == "live"), None)
    if live is None or changed_at(live) != last:
        return last  # what serves does not know of the last one yet: it would find the same
    from_files = live.settings.get("log_rows") is None
    if from_files != (log.size is None) or live.settings.get("reward_rule") != slot.reward.version:
        return last  # what it was told is another story
    try:
        with store.read() as connection:
            start = Start.of(registry.load(connection, live.version))
    except NotEnoughData:
        return last
    newer = log.narrowed(instant(start.learned.last + 1), None)
    with reading(newer, scheduler) as rows:
        found = change.looked_for(rows, log.lookup, start, slot.reward.bounds)
    return last if found is None else instant(found.at)
