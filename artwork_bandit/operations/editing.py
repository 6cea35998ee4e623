"""Changes that people, and the gate, make: each is recorded with its author, and can be undone.

A change of a variant's content makes a new revision, so a comparison goes on being right: what was
logged before was logged of what was shown before, and another picture is compared from then on.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from artwork_bandit.domain import Variant, VariantStatus
from artwork_bandit.errors import Conflict, InvalidInput, Overtaken
from artwork_bandit.operations import catalog_forms
from artwork_bandit.operations.model_editing import (
    CELLS_SET,
    CHALLENGER_ENDED,
    CHALLENGER_NAMED,
    GATE,
    GUARD,
    ModelEditor,
)
from artwork_bandit.policies.cells import shares_of
from artwork_bandit.store import catalog, cells, changes, notes, pauses, registry
from artwork_bandit.store.changes import Change

DEFAULT = "default"
"""Name of the entry of a change that made another variant the default than before."""
FIELDS = ("name", "uri", "features", *catalog.ELIGIBILITY)
"""What of a variant can be changed."""
LONGEST_NOTE = 200
_WORDS = {
    VariantStatus.ACTIVE: "resumed", VariantStatus.PAUSED: "paused",
    VariantStatus.RETIRED: "retired",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor(ModelEditor):
    """Somebody who changes things, in one transaction."""

    def put_variant(self, variant: Variant, undoes: int | None = None) -> int | None:
        """Bring a variant to this content and eligibility; return the change, None if it is so
        already. Raises NotFound, Conflict, InvalidInput."""
        catalog.lock(self.connection)
        found = catalog.by_ids(self.connection, [variant.variant_id])
        before = found[0] if found else None
        default = self._default_of(variant)
        catalog.put_variants(self.connection, [variant], self.now)
        old, new = {} if before is None else _values(before), _values(variant)
        differing = [name for name in FIELDS if before is None or old[name] != new[name]]
        if not differing:
            return None
        was = None if before is None else {name: old[name] for name in differing}
        now = {name: new[name] for name in differing}
        if variant.is_default and default not in (None, variant.variant_id):
            was, now = (was or {}) | {DEFAULT: default}, now | {DEFAULT: variant.variant_id}
        return changes.record(
            self.connection, self.author, _action(before, variant, differing), self.now,
            before=was, after=now, slot=variant.slot, title_id=variant.title_id,
            variant_id=variant.variant_id, undoes=undoes,
        )  # fmt: skip

    def patch_variant(
        self, title_id: str, variant_id: str, fields: Mapping[str, Any],
        undoes: int | None = None, seen: str | None = None,
    ) -> int | None:  # fmt: skip
        """Change some fields of a variant; return the change.

        `seen` is the `fingerprint` of what somebody decided on. Raises NotFound, and Overtaken if
        it has been changed meanwhile.
        """
        catalog.lock(self.connection)
        variant = catalog.get_variant(self.connection, title_id, variant_id)
        if seen is not None and seen != fingerprint(variant):
            raise Overtaken(
                f"{variant_id} has been changed by somebody else since this form was opened; look "
                "at it again before you change it"
            )
        return self.put_variant(replace(variant, **fields), undoes)

    def _default_of(self, variant: Variant) -> str | None:
        """Return the default of the variant's title and slot."""
        known = catalog.list_variants(self.connection, variant.title_id, variant.slot)
        return next((v.variant_id for v in known if v.is_default), None)

    def pause_exploration(
        self, title_id: str, paused: bool, undoes: int | None = None
    ) -> int | None:
        """Stop or start random draws for a title; raises NotFound."""
        catalog.lock(self.connection)
        before = catalog.get_title(self.connection, title_id).exploration_paused
        catalog.pause_exploration(self.connection, title_id, paused, self.now)
        if before == paused:
            return None
        return changes.record(
            self.connection, self.author,
            "exploration paused" if paused else "exploration resumed", self.now,
            before={"exploration_paused": before}, after={"exploration_paused": paused},
            title_id=title_id, undoes=undoes,
        )  # fmt: skip

    def switch(self, slot: str, paused: bool, reason: str, undoes: int | None = None) -> int | None:
        """Pause a slot, or let it go on: paused, everybody gets the default."""
        before = slot in pauses.read(self.connection)
        pauses.switch(self.connection, slot, paused, reason, self.now)
        if before == paused:
            return None
        return changes.record(
            self.connection, self.author, "slot paused" if paused else "slot resumed", self.now,
            before={"paused": before}, after={"paused": paused, "reason": reason}, slot=slot,
            undoes=undoes,
        )  # fmt: skip

    def set_cells(self, shares: Mapping[str, float], undoes: int | None = None) -> int | None:
        """Give the cells new shares of the members; raises InvalidInput."""
        before, after = (
            shares_of(found)
            for found in (cells.locked(self.connection), cells.set_shares(self.connection, shares))
        )
        if before == after:
            return None
        return changes.record(
            self.connection, self.author, CELLS_SET, self.now, before=before, after=after,
            undoes=undoes,
        )  # fmt: skip

    def write_note(self, slot: str, title_id: str | None, day: int, text: str) -> int:
        """Write a note on a day; raises InvalidInput, NotFound."""
        text = text.strip()
        if not 1 <= len(text) <= LONGEST_NOTE:
            raise InvalidInput(f"a note has 1 to {LONGEST_NOTE} characters")
        checked(text, catalog_forms.Text, "the note")
        if title_id is not None:
            catalog.get_title(self.connection, title_id)
        number = notes.add(self.connection, slot, title_id, day, text, self.author, self.now)
        return changes.record(
            self.connection, self.author, "note written", self.now, slot=slot, title_id=title_id,
            after={"note_id": number, "text": text},
        )  # fmt: skip

    def undo(self, change_id: int) -> int:
        """Take a change back; return the change that does. Raises NotFound, and Conflict if what
        it changed has been changed again, or it was undone already."""
        change = changes.get(self.connection, change_id)
        if change.undone:
            raise Conflict(f"change {change_id} has been undone already")
        kinds: list[tuple[str, Callable[[Change], int | None]]] = [
            ("variant", self._undo_variant), ("exploration", self._undo_exploration),
            ("model", self._undo_model), ("note", self._undo_note), ("slot", self._undo_switch),
            ("cells", self._undo_cells), ("challenger", self._undo_challenger),
        ]  # fmt: skip
        kind = "variant" if change.variant_id else change.action.partition(" ")[0]
        made = dict(kinds)[kind](change)
        if made is None:
            raise Conflict(f"change {change_id} changed nothing that could be taken back")
        return made

    def _undo_variant(self, change: Change) -> int | None:
        assert change.title_id is not None
        assert change.variant_id is not None
        assert change.after is not None
        catalog.lock(self.connection)
        now = catalog.get_variant(self.connection, change.title_id, change.variant_id)
        values = _values(now)
        after = {name: value for name, value in change.after.items() if name != DEFAULT}
        if any(values[name] != value for name, value in after.items()):
            raise Conflict(
                f"{change.variant_id} has been changed again since; undo the later change first"
            )
        # What was added has been logged and stays known: it is retired, not deleted.
        before = dict(change.before or {})
        default = before.pop(DEFAULT, None)
        if change.action == "added":
            before = {"status": VariantStatus.RETIRED.value, "is_default": False}
        made = self.put_variant(replace(now, **_fields(before)), change.change_id)
        if default is not None:
            other = catalog.get_variant(self.connection, change.title_id, default)
            self.put_variant(replace(other, is_default=True))
        return made

    def _undo_exploration(self, change: Change) -> int | None:
        assert change.title_id is not None
        assert change.before is not None
        return self.pause_exploration(
            change.title_id, bool(change.before["exploration_paused"]), change.change_id
        )

    def _undo_switch(self, change: Change) -> int | None:
        assert change.slot is not None
        assert change.before is not None
        return self.switch(
            change.slot, bool(change.before["paused"]), f"undone by {self.author}", change.change_id
        )

    def _undo_cells(self, change: Change) -> int | None:
        assert change.before is not None
        now = shares_of(cells.locked(self.connection))
        if now != change.after:
            raise Conflict("the cells have been changed again since; undo the later change first")
        return self.set_cells(change.before, change.change_id)

    def _undo_challenger(self, change: Change) -> int | None:
        assert change.before is not None
        assert change.slot is not None
        assert change.after is not None
        self.take_turn(change.slot)
        before, now = change.before["challenger"], registry.challenger(self.connection, change.slot)
        if (now and now.version) != change.after["challenger"]:
            raise Conflict("another model challenges by now, or none; name the one you want")
        if before is not None and change.action == CHALLENGER_NAMED:
            return self.challenge(before, change.change_id)
        if change.action == CHALLENGER_ENDED:
            registry.consider(
                self.connection, before, change.before["reason"], change.before.get("metrics")
            )
            return self.challenge(before, change.change_id)
        registry.unchallenge(self.connection, change.slot, self.now)
        return changes.record(
            self.connection, self.author, CHALLENGER_NAMED, self.now, slot=change.slot,
            before=change.after, after=change.before, undoes=change.change_id,
        )  # fmt: skip

    def _undo_model(self, change: Change) -> int | None:
        assert change.slot is not None
        assert change.before is not None
        assert change.after is not None
        self.take_turn(change.slot)
        live = registry.live(self.connection, change.slot)
        challenged = registry.challenged_since(self.connection, change.slot)
        if (None if live is None else live.version) != change.after["live"]:
            raise Conflict("another model is live by now; promote the one you want")
        if change.before["live"] is None:
            made = self.roll_back(change.slot, undoes=change.change_id)
        else:
            made = self.promote(change.before["live"], undoes=change.change_id)
        if live is not None and (status := change.before.get("status")) is not None:
            registry.restore(self.connection, live.version, status)
        if (challenger := change.before.get("challenger")) is not None:
            registry.challenge(self.connection, challenger, self.now)
            return made
        let_go_on = challenged if change.author in (GATE, GUARD) else None
        if let_go_on is not None and let_go_on[0] != change.before["live"]:
            version, since = let_go_on
            registry.challenge(self.connection, version, self.now, since)
        return made

    def _undo_note(self, change: Change) -> int | None:
        assert change.after is not None
        removed = change.action != "note removed"
        notes.set_removed(self.connection, change.after["note_id"], removed)
        return changes.record(
            self.connection, self.author, "note removed" if removed else "note restored",
            self.now, slot=change.slot, title_id=change.title_id, after=change.after,
            undoes=change.change_id,
        )  # fmt: skip


def fingerprint(variant: Variant) -> str:
    """Return what a form remembers of a variant, to see whether somebody else has changed it."""
    values = msgspec.json.encode(_values(variant), order="sorted")
    return hashlib.blake2b(values, digest_size=8).hexdigest()


def checked(value: str, kind: Any, what: str) -> str:
    """Return the text if it is of a kind of `catalog_forms`; raises InvalidInput."""
    try:
        found: str = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{what}: {catalog_forms.explained(error)}") from error
    return found


def _action(before: Variant | None, after: Variant, differing: list[str]) -> str:
    if before is None:
        return "added"
    if differing == ["status"]:
        return _WORDS[after.status]
    return "changed"


def _values(variant: Variant) -> dict[str, Any]:
    """Return a variant's fields as they are stored, to the letter."""
    values = {name: getattr(variant, name) for name in FIELDS}
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
    return found


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored values as `Variant` has them."""
    fields = dict(values)
    if "status" in fields:
        fields["status"] = VariantStatus(fields["status"])
    for name in ("countries", "languages"):
        if fields.get(name) is not None:
            fields[name] = tuple(fields[name])
    for name in ("starts_at", "ends_at"):
        if fields.get(name) is not None:
            fields[name] = msgspec.convert(fields[name], dt.datetime)
    return fields
