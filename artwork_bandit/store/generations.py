"""Counters that tell running servers what has changed: `catalog`, `models`, `cells`.

Bumped in the transaction of the change; servers read all of them in one small query.
"""

from __future__ import annotations

import sqlalchemy as sa

from artwork_bandit.store.engine import Connection, insert_ignoring
from artwork_bandit.store.tables import generations


def bump(connection: Connection, name: str) -> None:
    insert_ignoring(connection, generations, [{"name": name, "number": 0}])
    connection.execute(
        sa.update(generations)
        .where(generations.c.name == name)
        .values(number=generations.c.number + 1)
    )


def read(connection: Connection) -> dict[str, int]:
    return {row.name: row.number for row in connection.execute(sa.select(generations))}
