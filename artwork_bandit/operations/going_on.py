"""Which model a training goes on from, and whether it can.

Going on reads only what came after the live model's last row, so that a training takes time by the
new rows, not by the log. What it cannot do is find out that priors should be others, learn columns
for features nobody had before, or read rows that were settled late or imported with older times:
for that the whole log is learned from again after `warm_starts` trainings.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from artwork_bandit.domain import ModelRecord, instant
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.operations import changes
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.encoding import products_of
from artwork_bandit.settings import Settings
from artwork_bandit.slots import Slot
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Store
from artwork_bandit.training.start import Start
from artwork_bandit.training.train import FEWEST_ROWS

Warm = Literal["auto", "always", "never"]
SAME = 1e-6
"""Half-lives that differ by less are the same: they are kept to the microsecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoingOn:
    """A model that a training goes on from."""

    version: int
    start: Start

    @property
    def since(self) -> dt.datetime:
        """Instant after the last row it learned from."""
        return instant(self.start.learned.last + 1)


def in_a_row(before: Sequence[ModelRecord]) -> int:
    """Return how many of the newest models went on from another; `before` has the newest first."""
    whole = (i for i, r in enumerate(before) if r.settings.get("started_from") is None)
    return next(whole, len(before))


def going_on(
    store: Store, slot: Slot, settings: Settings, before: Sequence[ModelRecord], log: ReplaySource,
    until: dt.datetime, changed_at: dt.datetime | None,
) -> GoingOn:  # fmt: skip
    """Return what to go on from when learning from the log's rows before `until`.

    `before` are the slot's models, the newest first, `changed_at` when what they had learned last
    ceased to be true. Raises NotEnoughData where there is nothing.
    """
    if (live := changes.live(before)) is None:
        raise NotEnoughData("no model is live")
    if changes.changed_at(live) != changed_at:
        raise NotEnoughData(
            f"model {live.version} weighs rows by a change that was none" if changed_at is None
            else f"what model {live.version} had learned ceased to be true "
            f"at {changed_at:%Y-%m-%d %H:%M}Z"
        )  # fmt: skip
    found = GoingOn(version=live.version, start=_start(store, slot, settings, live, log))
    rows = log.narrowed(found.since, until).rows()
    if rows < FEWEST_ROWS:
        raise NotEnoughData(
            f"{rows} rows came after what model {found.version} learned from and before those that "
            f"judge, of at least {FEWEST_ROWS} needed"
        )
    return found


def _start(
    store: Store, slot: Slot, settings: Settings, live: ModelRecord, log: ReplaySource
) -> Start:
    """Return what the live model knows; raises NotEnoughData if it was made in another way."""
    made, name = live.settings, f"model {live.version}"
    if log.grows and made.get("log_rows") is None:
        raise NotEnoughData(f"{name} learned from files, not from the database")
    if (rule := made.get("reward_rule")) != slot.reward.version:
        raise NotEnoughData(
            f"{name} learned rewards of rule {rule!r}, which is {slot.reward.version!r} now"
        )
    if made.get("context_products", []) != list(products_of(settings.context_products)):
        raise NotEnoughData(f"{name} learned other context_products")
    with store.read() as connection:
        start = Start.of(registry.load(connection, live.version))
    learned = start.learned
    half_life = learned.half_life_days * learned.priors.ageing
    if abs(half_life / settings.training_half_life_days - 1) > SAME:
        raise NotEnoughData(
            f"{name} learned with training_half_life_days {half_life:g}, which is "
            f"{settings.training_half_life_days:g} now"
        )
    return start
