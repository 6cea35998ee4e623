"""A challenger is judged again, by all the log that has come since it learned.

A candidate is judged once it is trained, by the few rows kept from it, and may challenge because
they cannot tell. Every row that comes tells more of it, whichever cell it was drawn in: much sooner
than the members of the challenger cell alone (`guard.end_challenge`), and than the next candidate,
which is kept from fewer rows (`planning.split`). What the gate says is kept with the model each
time; it goes live, or challenges no more, by what it would have been told at first.

It is looked at whenever those rows have grown by a quarter, some ten times until they are ten times
as many: each time 2.5% at most of those that are worse than the gate's margin go live.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from artwork_bandit.domain import ModelRecord
from artwork_bandit.errors import BrokenModel
from artwork_bandit.operations import changes, held_out
from artwork_bandit.operations.model_editing import GATE, ModelEditor
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.slots import Slot
from artwork_bandit.store import aggregates, registry
from artwork_bandit.store.engine import Connection, Store

MORE = 0.25
"""Share by which the rows must have grown since the challenger was judged last."""
JUDGED_BY = "rows_since"
"""Among a model's metrics: rows that had come since it learned when it was judged again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What is to be judged, and by what."""

    challenger: ModelRecord
    incumbent: ModelRecord | None
    since: dt.datetime
    """After the last row that the challenger learned from."""
    rows: int

    @property
    def serve(self) -> tuple[int | None, int | None]:
        return self.challenger.version, _version(self.incumbent)


def due(store: Store, slot: Slot, now: dt.datetime) -> bool:
    """Return whether enough has come since the slot's challenger was judged last."""
    return _look(store, slot, now) is not None


def look_again(store: Store, slot: Slot, now: dt.datetime) -> str | None:
    """Judge the slot's challenger again, if that is due, and make it the live model, or end its
    challenge, if the gate says so; return what became of it, or None."""
    if (look := _look(store, slot, now)) is None:
        return None
    version, learned_to = look.challenger.version, look.challenger.window_to
    assert learned_to is not None, "others are not looked at"
    log = ReplaySource.of(store, None, slot.name, look.since, settled_by=now, rule=slot.reward)
    try:
        with store.read() as connection:
            policy = registry.load(connection, version).policy(None)
        verdict, said, metrics = held_out.judged(
            store, log, slot, policy, learned_to, look.incumbent
        )
    except BrokenModel:  # the guard's to end
        return None
    metrics[JUDGED_BY] = look.rows
    reason = f"judged again by {look.rows:,} rows since it learned: {said}"
    with store.write() as connection:
        editor = ModelEditor(connection=connection, author=GATE, now=now)
        editor.take_turn(slot.name)
        # What people or the guard have done while it was judged stands.
        live = registry.live(connection, slot.name)
        challenger = registry.challenger(connection, slot.name)
        if (_version(challenger), _version(live)) != look.serve or editor.named_by(slot.name):
            return None
        return _decided(editor, version, verdict, reason, metrics)


def _decided(
    editor: ModelEditor, version: int, verdict: str, reason: str, metrics: dict[str, Any]
) -> str | None:
    """Act on what the gate says; return what became of the challenger, None if it still is."""
    slot = registry.get(editor.connection, version).slot
    if verdict == "live":
        editor.promote(version, reason, metrics=metrics)
        return f"model {version} live: {reason}"
    if verdict == "rejected" and metrics["difference"] is not None:
        editor.end_challenge(slot, reason)
        registry.judged_again(editor.connection, version, reason, metrics)
        return f"model {version} challenges no more: {reason}"
    told = f"{reason}; the challenger cell may tell"
    registry.judged_again(editor.connection, version, told, metrics)
    return None


def _look(store: Store, slot: Slot, now: dt.datetime) -> _Look | None:
    """Return what is to be judged, None if nothing is: left alone are challengers that somebody has
    named, that learned from another log or another rule's rewards, and that learned before the last
    change that models know of."""
    with store.read() as connection:
        challenger = _gates_own(connection, slot, now)
        if challenger is None or challenger.window_to is None:
            return None
        since = challenger.window_to + dt.timedelta(microseconds=1)
        rows = aggregates.rows(connection, slot.name, since)
        judged_by = challenger.metrics.get(JUDGED_BY, challenger.metrics.get("held_out_rows", 0))
        if rows < max((1 + MORE) * judged_by, 1):
            return None
        log = ReplaySource.of(store, None, slot.name, rule=slot.reward)
        models = changes.alike(registry.recent(connection, slot.name), slot, log)
        incumbent = registry.live(connection, slot.name)
    same = any(model.version == challenger.version for model in models)
    if not same or changes.changed_at(challenger) != changes.known(models, slot, log):
        return None
    return _Look(challenger=challenger, incumbent=incumbent, since=since, rows=rows)


def _gates_own(connection: Connection, slot: Slot, now: dt.datetime) -> ModelRecord | None:
    """Return the slot's challenger, unless somebody has named it."""
    editor = ModelEditor(connection=connection, author=GATE, now=now)
    theirs = editor.named_by(slot.name) is not None
    return None if theirs else registry.challenger(connection, slot.name)


def _version(model: ModelRecord | None) -> int | None:
    return None if model is None else model.version
