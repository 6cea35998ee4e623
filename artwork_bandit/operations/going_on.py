"""Which model a training goes on from, and whether it can.

Going on reads only what came after the live model's last row, so that a training takes as long as
the new rows do, not as the log does. What it cannot do is find out that priors should be others,
learn columns for features nobody had before, or read rows that were settled late: for that the
whole log is learned from again after `warm_starts` trainings.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from artwork_bandit.domain import ModelRecord, instant
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.settings import Settings
from artwork_bandit.slots import Slot
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Store
from artwork_bandit.training.start import Start
from artwork_bandit.training.train import FEWEST_ROWS

Warm = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoingOn:
    """A model that a training goes on from."""

    version: int
    in_a_row: int
    """Trainings in a row that went on, with this one."""
    start: Start

    @property
    def since(self) -> dt.datetime:
        """Instant after the last row it learned from."""
        return instant(self.start.learned.last + 1)


def going_on(
    store: Store, slot: Slot, settings: Settings, warm: Warm, live: ModelRecord | None,
    log: ReplaySource, until: dt.datetime,
) -> GoingOn | None:  # fmt: skip
    """Return what to go on from when learning from the log's rows before `until`.

    None where the whole log is to be learned from; raises NotEnoughData where that is not wanted
    (`always`) and yet the only way.
    """
    asked = warm == "always"
    before = 0 if live is None else int(live.settings.get("warm_starts", 0))
    if warm == "never" or (not asked and before >= settings.warm_starts):
        return None
    try:
        if live is None:
            raise NotEnoughData("no model is live")
        found = GoingOn(
            version=live.version, in_a_row=before + 1, start=_start(store, slot, settings, live)
        )
        _require_rows(log, found, until)
    except NotEnoughData as why:
        if not asked:
            return None
        raise NotEnoughData(f"nothing to go on from: {why}; train without --warm") from why
    return found


def _start(store: Store, slot: Slot, settings: Settings, live: ModelRecord) -> Start:
    """Return what the live model knows; raises NotEnoughData if it was made in another way."""
    made, name = live.settings, f"model {live.version}"
    if (rule := made.get("reward_rule")) != slot.reward.version:
        raise NotEnoughData(
            f"{name} learned rewards of rule {rule!r}, which is {slot.reward.version!r} now"
        )
    products = [p for p in settings.context_products.split(",") if p]
    if made.get("context_products", []) != products:
        raise NotEnoughData(f"{name} learned other context_products")
    with store.read() as connection:
        start = Start.of(registry.load(connection, live.version))
    learned = start.learned
    half_life = learned.half_life_days * learned.priors.ageing
    if abs(half_life / settings.training_half_life_days - 1) > 1e-9:
        raise NotEnoughData(
            f"{name} learned with training_half_life_days {half_life:g}, which is "
            f"{settings.training_half_life_days:g} now"
        )
    return start


def _require_rows(log: ReplaySource, found: GoingOn, until: dt.datetime) -> None:
    rows = 0 if found.since >= until else log.narrowed(found.since, until).size or 0
    if rows < FEWEST_ROWS:
        raise NotEnoughData(
            f"{rows} rows came after what model {found.version} learned from and before those that "
            f"judge, of at least {FEWEST_ROWS} needed"
        )
