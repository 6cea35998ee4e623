"""A challenger is judged again, by all the log that has come since it learned.

A candidate is judged once it is trained, by the few rows kept from it, and may challenge because
they cannot tell. Every row that comes tells more of it, whichever cell it was drawn in: more than
the members of the challenger cell alone (`guard.end_challenge`), and more than of the next
candidate, which fewer rows are kept from (`planning.split`). What the gate says is kept with the
model each time. It goes live when the gate says so, and challenges no more when it is not better by
the estimate, and surely not by the gate's margin: then another may be tried.

It is looked at whenever those rows have grown by a quarter, ten times at most: by then they are
nine times as many, and what they could not tell is left to cells and to the next candidate. Each
look has intervals of a level at which, of challengers that are worse by the gate's margin, 2.5% go
live at any of ten looks (Pocock, Biometrika 64, 1977: one level for all looks); at 95% it would be
8%. That they are surely better by no more than the margin, is told at this level as well.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from artwork_bandit.domain import ModelRecord
from artwork_bandit.operations import changes, held_out
from artwork_bandit.operations.model_editing import GATE, ModelEditor, named_by
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.slots import Slot
from artwork_bandit.store import aggregates, registry
from artwork_bandit.store.engine import Connection, Store

MORE = 0.25
"""Share by which the rows must have grown since the challenger was judged last."""
LOOKS = 10
LEVEL = 0.985
"""Of the intervals at one look."""
ROWS_SINCE, LOOKED = "rows_since", "looked"
"""Among a model's metrics: rows that had come since it learned when it was judged last, and how
many times it was judged again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is to be judged, and by what."""

    slot: Slot
    challenger: ModelRecord
    incumbent: ModelRecord | None
    learned_to: dt.datetime
    """The last row that the challenger learned from."""
    rows: int
    """That have come since."""

    def still(self, connection: Connection) -> bool:
        """Return whether these two still serve, and the challenger is nobody's."""
        live = registry.live(connection, self.slot.name)
        challenger = _gates_own(connection, self.slot)
        return (
            challenger is not None
            and challenger.version == self.challenger.version
            and (live and live.version) == (self.incumbent and self.incumbent.version)
        )


def look_due(store: Store, slot: Slot) -> Look | None:
    """Return what is to be judged, None if too little has come since it was judged last. Left alone
    are challengers that somebody has named, that were live and were let go of, that were looked at
    `LOOKS` times, that learned from another log or another rule's rewards, and that learned before
    the last change that models know of."""
    log = ReplaySource.of(store, None, slot.name, rule=slot.reward)
    with store.read() as connection:
        challenger = _gates_own(connection, slot)
        if challenger is None or challenger.window_to is None:
            return None
        if challenger.metrics.get(LOOKED, 0) >= LOOKS:
            return None
        rows = rows_since(connection, slot, challenger.window_to)
        if rows < max((1 + MORE) * challenger.metrics.get(ROWS_SINCE, 0), 1):
            return None
        models = registry.recent(connection, slot.name)
        incumbent = registry.live(connection, slot.name)
        been_live = registry.served(connection, slot.name)
    changed_at = changes.known(models, slot, log)
    if changed_at is not None and challenger.window_to < changed_at:
        return None
    if challenger.version in been_live or not changes.alike([challenger], slot, log):
        return None
    return Look(
        slot=slot, challenger=challenger, incumbent=incumbent, learned_to=challenger.window_to,
        rows=rows,
    )  # fmt: skip


def look_again(store: Store, slot: Slot, clock: Callable[[], dt.datetime]) -> str | None:
    """Judge the slot's challenger again, if that is due, and make it the live model, or end its
    challenge, if the log says so; return what became of it, or None.

    Raises BrokenModel if it, or what is live, cannot be read.
    """
    if (look := look_due(store, slot)) is None:
        return None
    version, since = look.challenger.version, _after(look.learned_to)
    log = ReplaySource.of(store, None, slot.name, since, settled_by=clock(), rule=slot.reward)
    if not log.rows():  # what has come was imported, with rewards that this rule never gives
        return None
    with store.read() as connection:
        policy = registry.load(connection, version).policy(None)
    verdict, said, metrics = held_out.judged(
        store, log, slot, policy, look.learned_to, look.incumbent, look.challenger.settings,
        level=LEVEL,
    )  # fmt: skip
    metrics[ROWS_SINCE] = look.rows
    metrics[LOOKED] = look.challenger.metrics.get(LOOKED, 0) + 1
    reason = f"judged again by {metrics['held_out_rows']:,} rows since it learned: {said}"
    reason = "; ".join([reason, *(check.message for check in log.imported())])
    with store.write() as connection:
        editor = ModelEditor(connection=connection, author=GATE, now=clock())
        editor.take_turn(slot.name)
        # What people or the guard have done while it was judged stands.
        return _decided(editor, look, verdict, reason, metrics) if look.still(connection) else None


def _decided(
    editor: ModelEditor, look: Look, verdict: str, reason: str, metrics: dict[str, Any]
) -> str | None:
    """Act on what the gate says; return what became of the challenger, None if it still is."""
    version, estimate = look.challenger.version, metrics["difference"]
    if verdict == "live":
        editor.promote(version, reason, metrics=metrics)
        return f"model {version} live: {reason}"
    # What the gate rejects by an estimate alone, at one of so many looks, is often better.
    if estimate is not None and estimate <= 0 and metrics["difference_upper"] <= metrics["margin"]:
        reason = f"{reason}, and is surely better by no more than {metrics['margin']:.4f}"
        editor.end_challenge(look.slot.name, reason, metrics)
        return f"model {version} challenges no more: {reason}"
    registry.judged_again(editor.connection, version, reason, metrics)
    return None


def rows_since(connection: Connection, slot: Slot, learned_to: dt.datetime) -> int:
    """Return how many rows have come since a model learned, whoever drew them."""
    return aggregates.rows(connection, slot.name, _after(learned_to))


def _after(learned_to: dt.datetime) -> dt.datetime:
    return learned_to + dt.timedelta(microseconds=1)


def _gates_own(connection: Connection, slot: Slot) -> ModelRecord | None:
    """Return the slot's challenger, unless somebody has named it."""
    theirs = named_by(connection, slot.name) is not None
    return None if theirs else registry.challenger(connection, slot.name)
