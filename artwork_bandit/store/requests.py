"""The decision log: one durable row per request, with its choices packed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from artwork_bandit.domain import ActionSet, Choice, Context, Decisions, microseconds
from artwork_bandit.errors import NotFound
from artwork_bandit.store.engine import Connection, chunks, driver_cursor, insert_ignoring
from artwork_bandit.store.tables import action_sets, requests


class _PackedChoice(msgspec.Struct, array_like=True):
    """A choice as stored; MessagePack, by position."""

    title_id: str
    variant_id: str | None
    propensity: float | None
    action_set_id: int | None
    index: int | None
    reason: str | None


_decoder = msgspec.msgpack.Decoder(list[_PackedChoice])


def fingerprint(*parts: object) -> str:
    """Return a hash of what a client asked, to tell a repeated request from a reused id."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


_COLUMNS = (
    "request_id", "member_id", "slot", "occurred_at", "period", "cell", "policy", "model_version",
    "confirm", "fingerprint", "context", "choices",
)  # fmt: skip
_NAMES = ", ".join(_COLUMNS)
_KINDS = (
    "text", "text", "text", "bigint", "bigint", "text", "text", "int", "text", "text", "text",
    "text",
)  # fmt: skip
# The one statement of the request path, written out: building it each time costs more than the
# database does. PostgreSQL gets all rows of a batch as one JSON text, which costs the client a
# fifth of an array per column; the packed choices are base64 in it.
_POSTGRESQL = (
    f"INSERT INTO requests ({_NAMES}) SELECT {', '.join(_COLUMNS[:-1])}, "
    "decode(choices, 'base64') FROM json_to_recordset(%s::json) AS rows("
    + ", ".join(f"{name} {kind}" for name, kind in zip(_COLUMNS, _KINDS, strict=True))
    + ") ON CONFLICT DO NOTHING RETURNING request_id"
)
_SQLITE = (
    f"INSERT INTO requests ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT DO NOTHING"
)


def insert(connection: Connection, rows: Sequence[tuple[Decisions, str]]) -> set[str]:
    """Append one row per (decisions, fingerprint of what was asked), ids being distinct.

    One statement on PostgreSQL. Returns the request ids that were not there yet; the others are
    left as they are.
    """
    values = [_row(decisions, asked) for decisions, asked in rows]
    with driver_cursor(connection) as cursor:
        if connection.dialect.name == "postgresql":
            named = [dict(zip(_COLUMNS, value, strict=True)) for value in values]
            cursor.execute(_POSTGRESQL, (msgspec.json.encode(named).decode(),))
            return {request_id for (request_id,) in cursor.fetchall()}
        new = set()
        for value in values:
            cursor.execute(_SQLITE, value)
            if cursor.rowcount:
                new.add(str(value[0]))
        return new


def _row(decisions: Decisions, asked: str) -> tuple[object, ...]:
    packed = [
        (c.title_id, c.variant_id, c.propensity, c.action_set_id, c.index, c.reason)
        for c in decisions.choices
    ]
    return (
        decisions.request_id, decisions.member_id, decisions.slot,
        microseconds(decisions.occurred_at), decisions.period, decisions.cell, decisions.policy,
        decisions.model_version, decisions.confirm, asked,
        msgspec.json.encode(decisions.context).decode(), msgspec.msgpack.encode(packed),
    )  # fmt: skip


def get(connection: Connection, request_id: str) -> tuple[Decisions, str]:
    """Return the logged request and the fingerprint of what was asked; raises NotFound."""
    row = connection.execute(sa.select(requests).where(requests.c.request_id == request_id)).first()
    if row is None:
        raise NotFound(f"request {request_id!r} was never answered")
    return _decisions(row), row.fingerprint


def get_many(connection: Connection, request_ids: Iterable[str]) -> dict[str, Decisions]:
    """Return those of the requests that are logged."""
    found: dict[str, Decisions] = {}
    for some in chunks(sorted(set(request_ids))):
        for row in connection.execute(sa.select(requests).where(requests.c.request_id.in_(some))):
            found[row.request_id] = _decisions(row)
    return found


def contexts(connection: Connection, request_ids: Iterable[str]) -> dict[str, str]:
    """Return the contexts of requests, as JSON."""
    found: dict[str, str] = {}
    for some in chunks(sorted(request_ids)):
        query = sa.select(requests.c.request_id, requests.c.context)
        rows = connection.execute(query.where(requests.c.request_id.in_(some)))
        found.update(rows.cursor.fetchall())  # there is nothing to convert
    return found


def insert_action_sets(connection: Connection, sets: Sequence[ActionSet]) -> None:
    """Store action sets not stored yet; their ids say what they hold, so clashes are the same."""
    insert_ignoring(
        connection,
        action_sets,
        [
            {
                "action_set_id": s.action_set_id, "title_id": s.title_id, "slot": s.slot,
                "revision_ids": list(s.revision_ids), "variant_ids": list(s.variant_ids),
                "default_index": s.default,
            }
            for s in sets
        ],
    )  # fmt: skip


def get_action_sets(connection: Connection, ids: Iterable[int]) -> dict[int, ActionSet]:
    found: dict[int, ActionSet] = {}
    for some in chunks(sorted(set(ids))):
        query = sa.select(action_sets).where(action_sets.c.action_set_id.in_(some))
        for row in connection.execute(query):
            found[row.action_set_id] = ActionSet(
                action_set_id=row.action_set_id, title_id=row.title_id, slot=row.slot,
                revision_ids=tuple(row.revision_ids), variant_ids=tuple(row.variant_ids),
                default=row.default_index,
            )  # fmt: skip
    return found


def _decisions(row: sa.Row[tuple[object, ...]]) -> Decisions:
    choices = tuple(
        Choice(
            title_id=c.title_id, variant_id=c.variant_id, uri=None, propensity=c.propensity,
            action_set_id=c.action_set_id, index=c.index, fallback=c.propensity is None,
            reason=c.reason,
        )
        for c in _decoder.decode(row.choices)
    )  # fmt: skip
    return Decisions(
        request_id=row.request_id, member_id=row.member_id, slot=row.slot,
        occurred_at=row.occurred_at, period=row.period, cell=row.cell, policy=row.policy,
        model_version=row.model_version, confirm=row.confirm,
        context=msgspec.json.decode(row.context, type=Context), choices=choices,
    )  # fmt: skip
