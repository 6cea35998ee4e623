"""Which models never chose anything, and deleting their bytes."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from artwork_bandit.store.engine import Connection
from artwork_bandit.store.tables import cell_rollups, challengers, challenges, models, promotions


def unserved(connection: Connection, slot: str, before: dt.datetime) -> list[tuple[int, int]]:
    """Return a slot's models that were made before an instant, are kept, and as far as is known
    here never chose, with the rows they learned from; the oldest first."""
    # Of who challenged before migration 0013 only what was shown tells.
    showed = sa.select(cell_rollups.c.model_version).where(cell_rollups.c.slot == slot)
    query = sa.select(models.c.version, models.c.rows).where(
        models.c.slot == slot, models.c.created_at < before, _never_named(),
        models.c.version.not_in(showed),
    )  # fmt: skip
    return [(row.version, row.rows) for row in connection.execute(query.order_by(models.c.version))]


def delete(connection: Connection, version: int, now: dt.datetime) -> bool:
    """Delete the bytes of a model that was `unserved`, unless it began to serve meanwhile; return
    whether that was done. What is known of it stays."""
    found = connection.execute(
        sa.update(models)
        .where(models.c.version == version, _never_named())
        .values(bundle=b"", deleted_at=now)
    )
    return found.rowcount > 0


def _never_named() -> sa.ColumnElement[bool]:
    """Return the condition: a model is kept, and no record says that it was live or challenged."""
    chose = sa.union(
        *(
            sa.select(each.c.model_version).where(each.c.model_version.is_not(None))
            for each in (promotions, challenges, challengers)
        )
    )
    return sa.and_(models.c.deleted_at.is_(None), models.c.version.not_in(chose))
