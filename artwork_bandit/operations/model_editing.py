"""Changes of which models choose, by people, the gate and the guard: promoted, rolled back, named
challengers."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from artwork_bandit.domain import ModelRecord
from artwork_bandit.errors import BrokenModel, Conflict, Overtaken
from artwork_bandit.operations.changes import changed_at
from artwork_bandit.policies.cells import shares_of
from artwork_bandit.store import cells, changes, registry
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.turns import wait_for_turn

CELLS_SET = "cells set"
CHALLENGER_NAMED, CHALLENGER_ENDED = "challenger named", "challenger ended"
GATE, GUARD = "gate", "guard"
"""Who promotes a model that the held-out log speaks for, and who goes by what cells say, in the
record of changes: no people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEditor:
    """Somebody who changes which models serve, in one transaction."""

    connection: Connection
    author: str
    now: dt.datetime

    def challenge(self, version: int, undoes: int | None = None) -> int | None:
        """Make a model the challenger of its slot; raises NotFound, BrokenModel if its bytes are
        not what was trained, Conflict if it is the live one, or kept no more."""
        record = registry.get(self.connection, version)
        self.take_turn(record.slot)
        registry.load(self.connection, version)
        live = registry.live(self.connection, record.slot)
        if live is not None and live.version == version:
            raise Conflict(f"model {version} is live: it cannot challenge itself")
        before = registry.challenger(self.connection, record.slot)
        if before is None or before.version != version:
            registry.challenge(self.connection, version, self.now)
        elif self.author == GATE or named_by(self.connection, record.slot) is not None:
            return None  # else it is the gate's no more
        return changes.record(
            self.connection, self.author, CHALLENGER_NAMED, self.now, slot=record.slot,
            before={"challenger": before and before.version}, after={"challenger": version},
            undoes=undoes,
        )  # fmt: skip

    def tried_until(self, slot: str, period: dt.timedelta) -> dt.datetime | None:
        """Return until when the challenger's cell is to tell of it before another takes its place:
        until each of the cell's members who came has been drawn anew. None if nobody challenges,
        the cell has no members, or that is over."""
        found = registry.challenged_since(self.connection, slot)
        if found is None or not shares_of(cells.read(self.connection)).get("challenger"):
            return None
        until = found[1] + period
        return until if self.now < until else None

    def end_challenge(
        self, slot: str, rejecting: str | None = None, metrics: Mapping[str, Any] | None = None
    ) -> int:
        """End the challenge of a slot's challenger, for a reason that is kept with it, and with
        numbers, if its cell or the log speak against it; return its version. Raises Conflict if
        there is none."""
        self.take_turn(slot)
        found = registry.challenger(self.connection, slot)
        if found is None:
            raise Conflict(f"no model challenges in slot {slot!r}")
        registry.unchallenge(self.connection, slot, self.now)
        if rejecting is not None:
            registry.reject(self.connection, found.version, rejecting, metrics)
        changes.record(
            self.connection, self.author, CHALLENGER_ENDED, self.now, slot=slot,
            before={
                "challenger": found.version, "reason": found.reason, "metrics": found.metrics
            },
            after={"challenger": None} | _why(rejecting),
        )  # fmt: skip
        return found.version

    def promote(
        self, version: int, reason: str | None = None, undoes: int | None = None,
        metrics: Mapping[str, Any] | None = None, seen: int | None = None,
    ) -> int:  # fmt: skip
        """Make a model the live one, whatever the gate said; raises NotFound, BrokenModel if its
        bytes are not what was trained, Conflict if it is live already or kept no more, or if the
        model that was `seen` to be live (0 for none) is not. `metrics` are the gate's, if it is the
        gate that promotes."""
        record = registry.get(self.connection, version)
        self.take_turn(record.slot)
        registry.load(self.connection, version)
        live = registry.live(self.connection, record.slot)
        _require_seen(live, seen)
        if live is not None and live.version == version:
            raise Conflict(f"model {version} is live already")
        said = reason or f"promoted by {self.author}"
        challenger, stays = self._challenger(record.slot)
        registry.promote(
            self.connection, version, said, self.now, metrics, challenged=stays,
            undoes=undoes is not None,
        )  # fmt: skip
        before = {"status": record.status, "challenger": None if stays else challenger}
        return self._model("model promoted", record.slot, live, version, undoes, before, reason)

    def roll_back(
        self, slot: str, reason: str | None = None, undoes: int | None = None,
        seen: int | None = None, knowing: dt.datetime | None = None,
    ) -> int:  # fmt: skip
        """Go back to the model that was live before, or to the latest of them that knows of a
        change at that instant, if that is asked for; to none, if none does. Models that cannot be
        read are passed over. Raises Conflict if there is none, or if the model that was `seen` to
        be live is not."""
        self.take_turn(slot)
        live = registry.live(self.connection, slot)
        _require_seen(live, seen)
        challenger, stays = self._challenger(slot)
        said = reason or f"rolled back by {self.author}"
        before = registry.live_before(self.connection, slot)
        knows = [m.version for m in before if knowing is None or changed_at(m) == knowing]
        broken = list(itertools.takewhile(self._is_broken, knows))
        if broken:
            passed = " and ".join(map(str, broken))
            said = f"{said}; model {passed}, live before, cannot be read and was passed over"
        now_live = next(iter(knows[len(broken) :]), None)
        if [m.version for m in before[:1]] == ([now_live] if now_live else []):
            now_live = registry.roll_back(self.connection, slot, said, self.now, challenged=stays)
        elif now_live:
            registry.promote(
                self.connection, now_live, said, self.now, challenged=stays, undoes=True
            )
        else:
            registry.withdraw(self.connection, slot, said, self.now, challenged=stays)
        ended = {"challenger": None if stays else challenger}
        return self._model("model rolled back", slot, live, now_live, undoes, ended, reason)

    def take_turn(self, slot: str) -> None:
        """Have nobody else change what is live, or who challenges, until this is done: what is read
        from now on is what stands."""
        wait_for_models(self.connection, slot)

    def _is_broken(self, version: int) -> bool:
        try:
            registry.load(self.connection, version)
        except BrokenModel:
            return True
        return False

    def _challenger(self, slot: str) -> tuple[int | None, bool]:
        """Return the slot's challenger, and whether it goes on when another model goes live: no
        program ends a test that somebody has set up."""
        found = registry.challenger(self.connection, slot)
        stays = self.author in (GATE, GUARD) and named_by(self.connection, slot) is not None
        return None if found is None else found.version, stays

    def _model(
        self, action: str, slot: str, before: ModelRecord | None, after: int | None,
        undoes: int | None, more: Mapping[str, Any], reason: str | None,
    ) -> int:  # fmt: skip
        live = {"live": None if before is None else before.version}
        return changes.record(
            self.connection, self.author, action, self.now, slot=slot,
            before=live | dict(more), after={"live": after} | _why(reason), undoes=undoes,
        )  # fmt: skip


def wait_for_models(connection: Connection, slot: str) -> None:
    """Have nobody else change which models there are, and which serve, until this is done."""
    wait_for_turn(connection, f"models {slot}")


def named_by(connection: Connection, slot: str) -> tuple[int, str] | None:
    """Return the challenger that somebody has named by hand, and who: their test is theirs to
    end."""
    found = registry.challenger(connection, slot)
    change = changes.last(connection, CHALLENGER_NAMED, slot)
    if found is None or change is None or change.author in (GATE, GUARD):
        return None
    named = change.after is not None and change.after["challenger"] == found.version
    return (found.version, change.author) if named else None


def _why(reason: str | None) -> dict[str, str]:
    return {} if reason is None else {"why": reason}


def _require_seen(live: ModelRecord | None, seen: int | None) -> None:
    now = 0 if live is None else live.version
    if seen is not None and seen != now:
        raise Overtaken(
            f"{f'model {now}' if now else 'no model'} is live by now: somebody else, or the gate, "
            "was faster; look again before you decide"
        )
