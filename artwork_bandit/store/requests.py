"""The decision log: one durable row per request, with its choices packed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from artwork_bandit.domain import ActionSet, Choice, Context, Decisions
from artwork_bandit.errors import NotFound
from artwork_bandit.store.engine import Connection, chunks, insert_ignoring
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


def insert(connection: Connection, decisions: Decisions, asked: str) -> None:
    """Append the request's row; raises Conflict if its id is already there."""
    packed = [
        _PackedChoice(c.title_id, c.variant_id, c.propensity, c.action_set_id, c.index, c.reason)
        for c in decisions.choices
    ]
    connection.execute(
        sa.insert(requests).values(
            request_id=decisions.request_id, member_id=decisions.member_id, slot=decisions.slot,
            occurred_at=decisions.occurred_at, period=decisions.period, cell=decisions.cell,
            policy=decisions.policy, model_version=decisions.model_version,
            confirm=decisions.confirm, fingerprint=asked,
            context=msgspec.json.encode(decisions.context).decode(),
            choices=msgspec.msgpack.encode(packed),
        )
    )  # fmt: skip


def get(connection: Connection, request_id: str) -> tuple[Decisions, str]:
    """Return the logged request and the fingerprint of what was asked; raises NotFound."""
    row = connection.execute(sa.select(requests).where(requests.c.request_id == request_id)).first()
    if row is None:
        raise NotFound(f"request {request_id!r} was never answered")
    return _decisions(row), row.fingerprint


def get_many(connection: Connection, request_ids: Iterable[str]) -> dict[str, Decisions]:
    """Return those of the requests that are logged, without their contexts."""
    found: dict[str, Decisions] = {}
    for some in chunks(sorted(set(request_ids))):
        for row in connection.execute(sa.select(requests).where(requests.c.request_id.in_(some))):
            found[row.request_id] = _decisions(row)
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
