"""Counters that tell running servers what has changed: `catalog` (variants),
`titles` (what of them serving needs), `models`, `cells`, `pauses`. Beside them `works_with`, which
migrations set (`migrate`).

Bumped in the transaction of the change; servers read all of them in one small query.
"""

from __future__ import annotations

import sqlalchemy as sa

from artwork_bandit.store.engine import Connection, insert_ignoring
from artwork_bandit.store.tables import generations


def bump(connection: Connection, name: str) -> int:
    """Count one up and return the new number; writers of the same name queue until commit."""
    insert_ignoring(connection, generations, [{"name": name, "number": 0}])
    statement = (
        sa.update(generations)
        .where(generations.c.name == name)
        .values(number=generations.c.number + 1)
        .returning(generations.c.number)
    )
    return int(connection.execute(statement).scalar_one())


def read(connection: Connection) -> dict[str, int]:
    return {row.name: row.number for row in connection.execute(sa.select(generations))}
