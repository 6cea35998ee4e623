"""What people want remembered about a day: a campaign, an outage, a premiere."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from artwork_bandit.store.engine import Connection
from artwork_bandit.store.tables import notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note on a day; of all titles if `title_id` is None."""

    note_id: int
    slot: str
    title_id: str | None
    day: int
    """Days since 1970, UTC."""
    text: str
    author: str
    written_at: dt.datetime


def add(
    connection: Connection, slot: str, title_id: str | None, day: int, text: str, author: str,
    now: dt.datetime,
) -> int:  # fmt: skip
    """Write a note; return its id."""
    result = connection.execute(
        sa.insert(notes).values(
            slot=slot, title_id=title_id, day=day, text=text, author=author, written_at=now
        )
    )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def set_removed(connection: Connection, note_id: int, removed: bool) -> None:
    connection.execute(sa.update(notes).where(notes.c.note_id == note_id).values(removed=removed))


def of_title(connection: Connection, slot: str, title_id: str | None) -> list[Note]:
    """Return the notes that concern a title, the first day first; None for those of all."""
    query = sa.select(notes).where(
        notes.c.slot == slot, ~notes.c.removed,
        sa.or_(notes.c.title_id.is_(None), notes.c.title_id == title_id),
    ).order_by(notes.c.day, notes.c.note_id)  # fmt: skip
    names = Note.__dataclass_fields__
    return [
        Note(**{name: getattr(row, name) for name in names}) for row in connection.execute(query)
    ]
