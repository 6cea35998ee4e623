"""The replay log in SQL: units with their contexts and action sets, in blocks, in time order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from artwork_bandit.domain import ActionSet, Context, Floats, Objects, ReplayBlock, microseconds
from artwork_bandit.store import imported
from artwork_bandit.store import requests as request_store
from artwork_bandit.store import rewards as rewards_store
from artwork_bandit.store.engine import Connection, Store
from artwork_bandit.store.tables import requests, rewards
from artwork_bandit.store.window import Window

BLOCK = 20_000
_context = msgspec.json.Decoder(Context)


def _conditions(window: Window) -> list[sa.ColumnElement[bool]]:
    conditions = [rewards.c.slot == window.slot, rewards.c.confirm == window.confirm]
    if window.since is not None:
        conditions.append(rewards.c.occurred_at >= window.since)
    if window.until is not None:
        conditions.append(rewards.c.occurred_at < window.until)
    if window.settled_by is not None:
        conditions.append(rewards.c.settled_at <= window.settled_by)
    return conditions


def span(connection: Connection, window: Window) -> tuple[int, dt.datetime, dt.datetime] | None:
    """Return (rows, first, last instant) of the window, or None if it is empty."""
    query = sa.select(
        sa.func.count(), sa.func.min(rewards.c.occurred_at), sa.func.max(rewards.c.occurred_at)
    ).where(*_conditions(window))
    count, first, last = connection.execute(query).one()
    return None if not count else (int(count), first, last)


def quantile(connection: Connection, window: Window, share: float) -> dt.datetime | None:
    """Return the instant before which `share` of the window's rows lie."""
    size = connection.execute(
        sa.select(sa.func.count()).select_from(rewards).where(*_conditions(window))
    ).scalar_one()
    query = sa.select(rewards.c.occurred_at).where(*_conditions(window))
    query = query.order_by(rewards.c.occurred_at).offset(int(size * share)).limit(1)
    return connection.execute(query).scalar()


def blocks(
    store: Store, window: Window, block_rows: int = BLOCK, *, plain: bool = False
) -> Iterator[ReplayBlock]:
    """Yield the window's units in time order; each block is a short transaction of its own.

    `plain` leaves contexts out.
    """
    key = sa.tuple_(rewards.c.occurred_at, rewards.c.request_id, rewards.c.position)
    context = sa.literal("{}").label("context") if plain else requests.c.context
    joined = rewards.c.request_id == requests.c.request_id
    query = (
        sa.select(
            rewards.c.request_id, rewards.c.position, rewards.c.occurred_at,
            rewards.c.member_id, rewards.c.action_set_id, rewards.c.chosen,
            rewards.c.propensity, rewards.c.reward, rewards.c.rule, rewards.c.cell, context,
        )
        .select_from(rewards if plain else rewards.join(requests, joined))
        .where(*_conditions(window))
        .order_by(rewards.c.occurred_at, rewards.c.request_id, rewards.c.position)
        .limit(block_rows)
    )  # fmt: skip
    sets: dict[int, ActionSet] = {}
    after: tuple[Any, ...] | None = None
    while True:
        with store.read() as connection:
            page = query if after is None else query.where(key > after)
            rows = connection.execute(page).all()
            new = {row.action_set_id for row in rows} - set(sets)
            sets |= request_store.get_action_sets(connection, new)
            earned = _rewards(connection, window, rows)
        if rows:
            yield _block(rows, sets, earned)
        if len(rows) < block_rows:
            return
        last = rows[-1]
        after = (last.occurred_at, last.request_id, last.position)


def _rewards(connection: Connection, window: Window, rows: Sequence[Any]) -> Floats:
    """Return the rows' rewards under the window's rule."""
    earned = np.array([row.reward for row in rows], np.float64)
    rule = window.rule
    if rule is None:
        return earned
    settled = {rule.version, imported.RULE}
    others = {(r.request_id, r.position): i for i, r in enumerate(rows) if r.rule not in settled}
    if others:
        for key, reward in rewards_store.under(connection, rule, others):
            earned[others[key]] = reward
    return earned


def _block(rows: Sequence[Any], sets: dict[int, ActionSet], earned: Floats) -> ReplayBlock:
    used = sorted({row.action_set_id for row in rows})
    number = {set_id: i for i, set_id in enumerate(used)}
    return ReplayBlock(
        decision_ids=_objects([f"{row.request_id}.{row.position}" for row in rows]),
        occurred_at=np.array([microseconds(row.occurred_at) for row in rows], np.int64),
        member_ids=_objects([row.member_id for row in rows]),
        action_sets=tuple(sets[set_id] for set_id in used),
        set_of_row=np.array([number[row.action_set_id] for row in rows], np.int64),
        chosen=np.array([row.chosen for row in rows], np.int64),
        propensity=np.array([row.propensity for row in rows], np.float64),
        reward=earned,
        contexts=tuple(_context.decode(row.context) for row in rows),
        cells=_objects([row.cell for row in rows]),
    )


def _objects(values: list[Any]) -> Objects:
    out = np.empty(len(values), object)
    out[:] = values
    return out
