"""Who changed what and when: append-only, with what is needed to undo it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from artwork_bandit.errors import NotFound
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.tables import changes

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change that somebody made."""

    change_id: int
    changed_at: dt.datetime
    author: str
    action: str
    slot: str | None
    title_id: str | None
    variant_id: str | None
    before: Values | None
    """The fields that changed, as they were."""
    after: Values | None
    undoes: int | None
    """The change that this one takes back."""
    undone: bool
    """Whether another one has taken this back."""


def record(
    connection: Connection, author: str, action: str, now: dt.datetime, *,
    before: Values | None = None, after: Values | None = None, slot: str | None = None,
    title_id: str | None = None, variant_id: str | None = None, undoes: int | None = None,
) -> int:  # fmt: skip
    """Append a change; return its id. Raises Conflict if `undoes` has been undone already."""
    result = connection.execute(
        sa.insert(changes).values(
            changed_at=now, author=author, action=action, slot=slot, title_id=title_id,
            variant_id=variant_id, before=None if before is None else dict(before),
            after=None if after is None else dict(after), undoes=undoes,
        )
    )  # fmt: skip
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def get(connection: Connection, change_id: int) -> Change:
    """Return a change; raises NotFound."""
    found = connection.execute(_query().where(changes.c.change_id == change_id)).first()
    if found is None:
        raise NotFound(f"there is no change {change_id}")
    return _change(found)


def latest(
    connection: Connection, *, title_id: str | None = None, variant_id: str | None = None,
    before: int | None = None, limit: int = 50,
) -> list[Change]:  # fmt: skip
    """Return the latest changes (of a title, of a variant, older than a change), the newest
    first."""
    query = _query().order_by(changes.c.change_id.desc()).limit(limit)
    if title_id is not None:
        query = query.where(changes.c.title_id == title_id)
    if variant_id is not None:
        query = query.where(changes.c.variant_id == variant_id)
    if before is not None:
        query = query.where(changes.c.change_id < before)
    return [_change(row) for row in connection.execute(query)]


def count_since(connection: Connection, since: dt.datetime) -> int:
    """Return how many changes were made from then on."""
    query = sa.select(sa.func.count()).select_from(changes).where(changes.c.changed_at >= since)
    return int(connection.execute(query).scalar_one())


def of_kind(connection: Connection, action: str) -> list[Change]:
    """Return all changes of a kind, the first first."""
    query = _query().where(changes.c.action == action).order_by(changes.c.change_id)
    return [_change(row) for row in connection.execute(query)]


def last(connection: Connection, action: str, slot: str | None = None) -> Change | None:
    """Return the last change of a kind (in a slot)."""
    query = _query().where(changes.c.action == action).order_by(changes.c.change_id.desc()).limit(1)
    if slot is not None:
        query = query.where(changes.c.slot == slot)
    row = connection.execute(query).first()
    return None if row is None else _change(row)


def _query() -> sa.Select[Any]:
    later = changes.alias("later")
    undone = sa.exists().where(later.c.undoes == changes.c.change_id).label("undone")
    return sa.select(changes, undone)


def _change(row: Any) -> Change:
    return Change(**{name: getattr(row, name) for name in Change.__dataclass_fields__})
