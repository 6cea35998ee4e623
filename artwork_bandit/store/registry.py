"""Trained models: bytes with hash, status, training window, metrics; at most one live per slot.
One more may be the slot's challenger: it serves the challenger cell, and stays a candidate."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from artwork_bandit.domain import ModelRecord
from artwork_bandit.errors import BrokenModel, Conflict, NotFound
from artwork_bandit.policies import bundle
from artwork_bandit.policies.bundle import Bundle
from artwork_bandit.store import generations
from artwork_bandit.store.engine import Connection, insert_ignoring, upsert
from artwork_bandit.store.tables import challengers, challenges, floors, models, promotions


class Promotion(NamedTuple):
    """What went live when, and why."""

    promoted_at: dt.datetime
    version: int | None
    """None: no model is live from then on."""
    reason: str


class Served(NamedTuple):
    """A time that a model was live."""

    since: dt.datetime
    until: dt.datetime | None
    followed_by: int | None
    """The model that was live then; None if it is live still, or none was."""
    why: str
    why_ended: str | None


MOST_RECENT = 100
"""Models that are looked at where what has been learned of late is asked."""
_RECORD = [c for c in models.c if c.name != "bundle"]


def register(
    connection: Connection,
    *,
    slot: str,
    data: bytes,
    window: tuple[dt.datetime | None, dt.datetime | None],
    rows: int,
    settings: Mapping[str, Any],
    now: dt.datetime,
    status: Literal["candidate", "rejected"] = "candidate",
    reason: str = "not judged",
    metrics: Mapping[str, Any] | None = None,
) -> int:
    """Store a candidate's bytes and what the gate said of it; return its version."""
    result = connection.execute(
        sa.insert(models).values(
            slot=slot, status=status, created_at=now, window_from=window[0],
            window_to=window[1], rows=rows, sha256=bundle.sha256(data), bundle=data,
            settings=dict(settings), metrics=dict(metrics or {}), reason=reason,
        )
    )  # fmt: skip
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def _draws(connection: Connection, record: ModelRecord) -> None:
    """Remember what a model that begins to serve spreads evenly."""
    if (share := record.settings.get("explored_share")) is not None:
        row = {"slot": record.slot, "explored_share": float(share)}
        insert_ignoring(connection, floors, [row])


def least_explored(connection: Connection, slot: str, explored_share: float) -> float:
    """Return the smallest share that models which served a slot ever spread evenly, and this one:
    of what has been drawn, no propensity is below it over the number of variants."""
    query = sa.select(sa.func.min(floors.c.explored_share)).where(floors.c.slot == slot)
    found = connection.execute(query).scalar()
    return explored_share if found is None else min(float(found), explored_share)


def promote(
    connection: Connection, version: int, reason: str, now: dt.datetime,
    metrics: Mapping[str, Any] | None = None, *, challenged: bool = False,
    undoes: bool = False,
) -> None:  # fmt: skip
    """Make a model the live one of its slot; the one before is retired. Raises NotFound.

    `metrics` are the gate's; without them what it said of the model stays as it is. Nobody
    challenges it, unless the one before is to be `challenged` on. Where it `undoes` a promotion,
    the model that was live before is gone back to.
    """
    record = get(connection, version)
    connection.execute(
        sa.update(models)
        .where(models.c.slot == record.slot, models.c.status == "live")
        .values(status="retired")
    )
    values: dict[str, Any] = {"status": "live"}
    if metrics is not None:
        values |= {"reason": reason, "metrics": dict(metrics)}
    # Whoever challenged the one before has not been compared with this one.
    ended = [challengers.c.model_version == version] if challenged else []
    _end_challenge(connection, record.slot, now, *ended)
    connection.execute(sa.update(models).where(models.c.version == version).values(values))
    _draws(connection, record)
    rolls_back = undoes and version in _stack(connection, record.slot)[:-1]
    _record_promotion(connection, record.slot, version, reason, now, rolls_back)


def restore(connection: Connection, version: int, status: str) -> None:
    """Give a model that is not live the status that it had before it was."""
    connection.execute(
        sa.update(models)
        .where(models.c.version == version, models.c.status == "retired")
        .values(status=status)
    )


def challenge(
    connection: Connection, version: int, now: dt.datetime, since: dt.datetime | None = None
) -> None:
    """Make a model its slot's challenger, in place of the one before; raises NotFound. `since` is
    given where it goes on with the challenge that it began then."""
    record = get(connection, version)
    row = {"slot": record.slot, "model_version": version, "since": since or now}
    upsert(connection, challengers, [row], "slot")
    connection.execute(sa.insert(challenges).values(row | {"since": now}))
    _draws(connection, record)
    generations.bump(connection, "models")


def challenged_since(connection: Connection, slot: str) -> tuple[int, dt.datetime] | None:
    """Return the slot's challenger, and since when it is that."""
    query = sa.select(challengers.c.model_version, challengers.c.since)
    row = connection.execute(query.where(challengers.c.slot == slot)).first()
    return None if row is None else (row.model_version, row.since)


def challengers_of(connection: Connection) -> set[int]:
    """Return the models that challenge, of all slots."""
    return set(connection.execute(sa.select(challengers.c.model_version)).scalars())


def challenger(connection: Connection, slot: str) -> ModelRecord | None:
    """Return the record of the slot's challenger."""
    found = challenged_since(connection, slot)
    return None if found is None else get(connection, found[0])


def challenging(connection: Connection, slot: str) -> list[tuple[dt.datetime, int | None]]:
    """Return since when who challenged (None: nobody), the first first."""
    query = sa.select(challenges.c.since, challenges.c.model_version)
    query = query.where(challenges.c.slot == slot).order_by(challenges.c.challenge_id)
    return [(row.since, row.model_version) for row in connection.execute(query)]


def unchallenge(connection: Connection, slot: str, now: dt.datetime) -> None:
    """Let nobody challenge a slot's live model."""
    _end_challenge(connection, slot, now)
    generations.bump(connection, "models")


def _end_challenge(
    connection: Connection, slot: str, now: dt.datetime, *which: sa.ColumnElement[bool]
) -> None:
    found = connection.execute(sa.delete(challengers).where(challengers.c.slot == slot, *which))
    if found.rowcount:
        connection.execute(sa.insert(challenges).values(slot=slot, model_version=None, since=now))


def reject(
    connection: Connection, version: int, reason: str, metrics: Mapping[str, Any] | None = None
) -> None:
    """Say of a candidate that it is no good, and why; without `metrics` what the gate said stays as
    it is."""
    connection.execute(
        sa.update(models)
        .where(models.c.version == version, models.c.status == "candidate")
        .values(status="rejected", reason=reason, **_given(metrics))
    )


def judged_again(
    connection: Connection, version: int, reason: str, metrics: Mapping[str, Any]
) -> None:
    """Keep what the gate says of a model now, in place of what it said before."""
    values = {"reason": reason, "metrics": dict(metrics)}
    connection.execute(sa.update(models).where(models.c.version == version).values(values))


def consider(
    connection: Connection, version: int, reason: str, metrics: Mapping[str, Any] | None = None
) -> None:
    """Make a model that was rejected a candidate again, for what was said of it before."""
    connection.execute(
        sa.update(models)
        .where(models.c.version == version, models.c.status == "rejected")
        .values(status="candidate", reason=reason, **_given(metrics))
    )


def _given(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if metrics is None else {"metrics": dict(metrics)}


def previous(connection: Connection, slot: str) -> int | None:
    """Return the model that was live before the one that is, None for no model; raises Conflict if
    none is live."""
    stack = _stack(connection, slot)
    if len(stack) < 2:
        raise Conflict(f"slot {slot!r} has no live model to roll back from")
    return stack[-2]


def _stack(connection: Connection, slot: str) -> list[int | None]:
    """Return what was live before what is, the first first and what is at the end; without what was
    gone back from."""
    query = sa.select(promotions.c.model_version, promotions.c.rolls_back).where(
        promotions.c.slot == slot
    )
    stack: list[int | None] = [None]
    for version, rolls_back in connection.execute(query.order_by(promotions.c.promotion_id)):
        if rolls_back is None:  # of an earlier release: whatever promoted the one below
            rolls_back = len(stack) > 1 and version == stack[-2]
        if rolls_back and len(stack) > 1:
            stack.pop()
            while len(stack) > 1 and stack[-1] != version:  # more than one was let go of
                stack.pop()
        if version != stack[-1]:  # one that is promoted twice stands on what was before
            stack.append(version)
    return stack


def roll_back(
    connection: Connection, slot: str, reason: str, now: dt.datetime, *, challenged: bool = False
) -> int | None:
    """Go back to the model that was live before; return its version, None for no model.

    Nobody challenges from then on, unless it is to be `challenged` on.
    """
    before = previous(connection, slot)
    if before is not None:
        promote(connection, before, reason, now, challenged=challenged, undoes=True)
        return before
    withdraw(connection, slot, reason, now, challenged=challenged)
    return None


def withdraw(
    connection: Connection, slot: str, reason: str, now: dt.datetime, *, challenged: bool = False
) -> None:
    """Let no model be live, and none of those that were be gone back to; for `challenged` see
    `promote`."""
    if not challenged:
        _end_challenge(connection, slot, now)
    connection.execute(
        sa.update(models)
        .where(models.c.slot == slot, models.c.status == "live")
        .values(status="retired")
    )
    _record_promotion(connection, slot, None, reason, now, True)


def get(connection: Connection, version: int) -> ModelRecord:
    row = connection.execute(sa.select(*_RECORD).where(models.c.version == version)).first()
    if row is None:
        raise NotFound(f"model {version} does not exist; `models list` shows the ones there are")
    return ModelRecord(**row._mapping)


def live(connection: Connection, slot: str) -> ModelRecord | None:
    """Return the live model's record."""
    query = sa.select(*_RECORD).where(models.c.slot == slot, models.c.status == "live")
    row = connection.execute(query).first()
    return None if row is None else ModelRecord(**row._mapping)


def live_before(connection: Connection, slot: str) -> list[ModelRecord]:
    """Return the models that were live before the one that is, the latest first; without those
    that were gone back from."""
    *before, now = _stack(connection, slot)
    versions = dict.fromkeys(v for v in reversed(before) if v is not None and v != now)
    return [get(connection, version) for version in versions]


def list_all(connection: Connection, slot: str | None = None) -> list[ModelRecord]:
    """Return records, the newest first."""
    query = sa.select(*_RECORD).order_by(models.c.version.desc())
    if slot is not None:
        query = query.where(models.c.slot == slot)
    return [ModelRecord(**row._mapping) for row in connection.execute(query)]


def recent(connection: Connection, slot: str, most: int = MOST_RECENT) -> list[ModelRecord]:
    """Return the records of a slot's newest models, the newest first, and of the live one: where a
    database keeps columns in order, all others cost a walk through their bytes."""
    query = sa.select(*_RECORD).where(models.c.slot == slot)
    rows = connection.execute(query.order_by(models.c.version.desc()).limit(most))
    found = [ModelRecord(**row._mapping) for row in rows]
    serves = live(connection, slot)
    known = serves is None or any(record.version == serves.version for record in found)
    return found if known or serves is None else [*found, serves]


def load(connection: Connection, version: int) -> Bundle:
    """Return a model's checked bundle; raises NotFound, Conflict if it is kept no more, and
    BrokenModel."""
    columns = (models.c.bundle, models.c.sha256, models.c.deleted_at)
    row = connection.execute(sa.select(*columns).where(models.c.version == version)).first()
    if row is None:
        raise NotFound(f"model {version} does not exist; `models list` shows the ones there are")
    require_kept(version, row.deleted_at)
    try:
        return bundle.decode(bytes(row.bundle), row.sha256)
    except BrokenModel as error:
        advice = "if it is live, `artwork-bandit models rollback` goes back to the one before"
        raise type(error)(f"model {version} cannot be used: {error}; {advice}") from error


def require_kept(version: int, deleted_at: dt.datetime | None) -> None:
    """Raise Conflict if a model's bytes were deleted."""
    if deleted_at is not None:
        raise Conflict(
            f"model {version} is not kept any more: it never chose, and was deleted on "
            f"{deleted_at:%Y-%m-%d} (the setting keep_models_days); `train` makes another"
        )


def last_promotion(connection: Connection, slot: str) -> Promotion | None:
    """Return the last change of what is live in a slot."""
    query = (
        sa.select(promotions.c.promoted_at, promotions.c.model_version, promotions.c.reason)
        .where(promotions.c.slot == slot)
        .order_by(promotions.c.promotion_id.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else Promotion._make(row)


def promoted(
    connection: Connection, slot: str, since: dt.datetime | None = None
) -> list[tuple[dt.datetime, int | None]]:
    """Return when which model went live (None: none), the first first."""
    query = sa.select(promotions.c.promoted_at, promotions.c.model_version).where(
        promotions.c.slot == slot
    )
    if since is not None:
        query = query.where(promotions.c.promoted_at >= since)
    rows = connection.execute(query.order_by(promotions.c.promotion_id))
    return [(row.promoted_at, row.model_version) for row in rows]


def served(connection: Connection, slot: str) -> dict[int, list[Served]]:
    """Return when each model that ever was live was so, and why, the first first."""
    query = sa.select(promotions.c.promoted_at, promotions.c.model_version, promotions.c.reason)
    query = query.where(promotions.c.slot == slot).order_by(promotions.c.promotion_id)
    rows = [Promotion._make(row) for row in connection.execute(query)]
    found: dict[int, list[Served]] = {}
    for row, after in itertools.zip_longest(rows, rows[1:]):
        if row.version is not None:
            until, then, why = (None,) * 3 if after is None else after
            times = found.setdefault(row.version, [])
            times.append(Served(row.promoted_at, until, then, row.reason, why))
    return found


def first_promotion(connection: Connection, slot: str) -> dt.datetime | None:
    """Return when the slot's first model went live."""
    query = sa.select(sa.func.min(promotions.c.promoted_at)).where(
        promotions.c.slot == slot, promotions.c.model_version.is_not(None)
    )
    return connection.execute(query).scalar()


def _record_promotion(
    connection: Connection, slot: str, version: int | None, reason: str, now: dt.datetime,
    rolls_back: bool,
) -> None:  # fmt: skip
    connection.execute(
        sa.insert(promotions).values(
            slot=slot,
            model_version=version,
            promoted_at=now,
            reason=reason,
            rolls_back=rolls_back,
        )
    )
    generations.bump(connection, "models")
