"""The cells' shares of members."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from artwork_bandit.domain import CellShare
from artwork_bandit.policies.cells import DEFAULT_SHARES, reallocate
from artwork_bandit.store import generations
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.tables import cells
from artwork_bandit.store.turns import wait_for_turn


def read(connection: Connection) -> tuple[CellShare, ...]:
    """Return the cells; the default shares before anybody has set them."""
    rows = connection.execute(sa.select(cells).order_by(cells.c.name)).all()
    if not rows:
        return reallocate((), DEFAULT_SHARES)
    return tuple(
        CellShare(name=row.name, ranges=tuple((a, b) for a, b in row.ranges)) for row in rows
    )


def locked(connection: Connection) -> tuple[CellShare, ...]:
    """Return the cells, which nobody else sets until this transaction has ended."""
    wait_for_turn(connection, "cells")
    return read(connection)


def set_shares(connection: Connection, shares: Mapping[str, float]) -> tuple[CellShare, ...]:
    """Give the cells new shares, moving as few members as possible; raises InvalidInput."""
    changed = reallocate(locked(connection), shares)
    connection.execute(sa.delete(cells))
    connection.execute(
        sa.insert(cells), [{"name": c.name, "ranges": [list(r) for r in c.ranges]} for c in changed]
    )
    generations.bump(connection, "cells")
    return changed
