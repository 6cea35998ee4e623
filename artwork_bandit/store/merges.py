"""Anonymous visitors who turned out to be members: for good, whatever comes later or late.

What a visitor did is the member's, in profiles; impressions and rewards stay the visitor's, who
was shown them. A visitor is merged into one member; a member who turns out to be another's visitor
takes its own visitors along.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import sqlalchemy as sa

from artwork_bandit.errors import InvalidInput
from artwork_bandit.store.engine import Connection, chunks
from artwork_bandit.store.tables import merges
from artwork_bandit.store.turns import PATIENCE, wait_for_turn

TURN = "merges"


def share(connection: Connection) -> None:
    """Let nobody be merged until this transaction has ended."""
    wait_for_turn(connection, TURN, shared=True)


def alone(connection: Connection) -> None:
    """Let no profile be changed by others until this transaction has ended."""
    wait_for_turn(connection, TURN, patience=PATIENCE)


def members_of(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Return visitor -> member for those of the ids that have been merged."""
    found: dict[str, str] = {}
    for some in chunks(sorted(set(ids))):
        query = sa.select(merges.c.visitor_id, merges.c.member_id)
        rows = connection.execute(query.where(merges.c.visitor_id.in_(some)))
        found.update((row.visitor_id, row.member_id) for row in rows)
    return found


def visitors_of(connection: Connection, members: Iterable[str]) -> dict[str, list[str]]:
    """Return member -> the visitors it was."""
    found: dict[str, list[str]] = {}
    for some in chunks(sorted(set(members))):
        query = sa.select(merges.c.visitor_id, merges.c.member_id)
        for row in connection.execute(query.where(merges.c.member_id.in_(some))):
            found.setdefault(row.member_id, []).append(row.visitor_id)
    return found


def add(
    connection: Connection, visitor: str, member: str, event_id: str, moment: dt.datetime
) -> str | None:
    """Record that a visitor is a member; return the member it is, None if that was known.

    Raises InvalidInput if it is another member already, or would be its own, and for an id that was
    another merge's.
    """
    known = members_of(connection, [visitor, member])
    member = known.get(member, member)
    if visitor == member:
        raise InvalidInput("visitor_id is the member it would be merged into")
    if visitor in known:
        if known[visitor] == member:
            return None
        raise InvalidInput(
            "visitor_id belongs to another member already; use a new one after signing out"
        )
    used = sa.select(merges.c.event_id).where(merges.c.event_id == event_id)
    if connection.execute(used).first() is not None:
        raise InvalidInput(
            "event_id was another visitor's merge; give each event an id of its own, such as a UUID"
        )
    connection.execute(
        sa.update(merges).where(merges.c.member_id == visitor).values(member_id=member)
    )
    connection.execute(
        sa.insert(merges).values(
            visitor_id=visitor, member_id=member, event_id=event_id, merged_at=moment
        )
    )
    return member
