"""Taking in a replay log made elsewhere: all of it is looked at before the first row is stored."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from artwork_bandit.domain import ReplayBlock, instant, microseconds
from artwork_bandit.errors import InvalidInput
from artwork_bandit.operations.catalog_forms import Id, Name, Short, Weight, explained
from artwork_bandit.operations.imports import AHEAD, MOST_ROWS
from artwork_bandit.operations.rules import slot_of
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS, slot_named
from artwork_bandit.store import parquet
from artwork_bandit.store.engine import Store
from artwork_bandit.store.imported import Imported, Place, check, take_in
from artwork_bandit.training.progress import Progress, silent


class ContextForm(msgspec.Struct):
    """A context of a log made elsewhere, as far as it is looked at."""

    device: Short | None = None
    country: Short | None = None
    language: Short | None = None
    surface: Short | None = None
    maturity: Short | None = None
    hour: Annotated[int, Meta(ge=0, le=23)] | None = None
    weekday: Annotated[int, Meta(ge=0, le=6)] | None = None
    genres: dict[Short, Weight] = {}
    played: dict[Name, Annotated[float, Meta(ge=0, le=1)]] = {}
    habits: dict[Short, Weight] = {}


_context = msgspec.json.Decoder(ContextForm)


def import_log(
    store: Store, path: Path, settings: Settings, now: dt.datetime, *, dry_run: bool,
    progress: Progress = silent,
) -> Imported:  # fmt: skip
    """Take a Parquet replay log into the database; one that is broken, or whose rewards are of a
    rule that is not in force, changes nothing.

    Some rows are stored at a time, so that nobody waits long for the database: what fails between
    them leaves the ones before, and importing again takes in the others.
    """
    in_force = {name: slot_of(settings, name).reward for name in SLOTS}
    places: dict[str, Place] = {}
    slots: set[str] = set()
    rows = sum(part.rows for part in parquet.parts(path))
    done = 0
    for block in parquet.read(path):  # every row is checked before the first is stored
        _require_ids(path, block)
        _require_past(path, block, now)
        _require_contexts(path, block)
        if new := {s.slot for s in block.action_sets} - slots:
            _require_in_force(path, {in_force[slot_named(name).name].version for name in new})
            slots |= new
        with store.read() as connection:
            check(connection, block, in_force, places)
        progress(f"checking {rows:,} rows", (done := done + len(block)) / rows)
    result, pace, done = Imported(), store.pace(MOST_ROWS), 0
    for block in parquet.read(path):
        begin = 0
        while begin < len(block):
            size = len(block) if dry_run else pace.size  # what is stored is known to the next
            some = block.take(np.arange(begin, min(begin + size, len(block))))
            begin += len(some)
            with pace.timed():
                result += take_in(store, some, in_force, now, dry_run=dry_run)
            progress(
                f"{'looking at' if dry_run else 'taking in'} {rows:,} rows",
                (done := done + len(some)) / rows,
            )
            if not dry_run:
                pace.rest()
    return result


def _require_ids(path: Path, block: ReplayBlock) -> None:
    """Raise InvalidInput for an id that the catalogue, or a client's request, could not have."""
    sets = block.action_sets
    of_rows = (
        ("member_id", Name, block.member_ids.tolist()),
        ("title_id", Id, [sets[s].title_id for s in block.set_of_row.tolist()]),
        ("action_set", list[Id], [sets[s].variant_ids for s in block.set_of_row.tolist()]),
        ("cell", Short | None, [cell or None for cell in block.cells.tolist()]),
    )
    for column, kind, values in of_rows:
        for value in dict.fromkeys(values):
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                decision = block.decision_ids[values.index(value)]
                raise InvalidInput(
                    f"{path}, decision {decision!r}: {column}: {explained(error)}"
                ) from error


def _require_contexts(path: Path, block: ReplayBlock) -> None:
    """Raise InvalidInput for a context that no client could have sent."""
    distinct, place = block.contexts.used()  # rows of a page share theirs
    for i, context in enumerate(distinct):
        try:
            _context.decode(msgspec.json.encode(context))
        except msgspec.ValidationError as error:
            decision = block.decision_ids[int(np.argmax(place == i))]
            raise InvalidInput(
                f"{path}, decision {decision!r}: context: {explained(error)}"
            ) from error


def _require_past(path: Path, block: ReplayBlock, now: dt.datetime) -> None:
    """Raise InvalidInput for a row of the future: the newest rows judge models."""
    if len(block) and block.occurred_at.max() > microseconds(now + AHEAD):
        decision = block.decision_ids[int(block.occurred_at.argmax())]
        at = instant(int(block.occurred_at.max()))
        raise InvalidInput(
            f"{path}, decision {decision!r}: occurred_at is {at:%Y-%m-%d %H:%M}Z, in the future; a "
            "log is of what has happened"
        )


def _require_in_force(path: Path, rules: set[str]) -> None:
    """Raise InvalidInput if a log says that its rewards are of another rule than these."""
    rule = parquet.rule_of(path)
    if rule is not None and rules - {rule}:
        named = " and ".join(sorted(rules))
        raise InvalidInput(
            f"the rewards in {path} are of rule {rule!r}, and {named} is in force: export it under "
            f"that rule (`export --rule {named}`), or put {rule!r} in force (the setting "
            "reward_rule names it, or its *.toml file)"
        )
