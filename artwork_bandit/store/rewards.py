"""The reward join: what followed each unit of replay, attached when its window has closed.

A unit is the first rendered decision of a (member, title, slot, period); later decisions of the
period are continuations, settled without a row. Assumed impressions (confirm `server`) are units of
their own. Which events count for a unit, `store.counting` says; those that name no decision of
their sender's are joined to what they followed first (`store.attribution`).

The window closes that long after the impression was *received*, so that a device that was offline
can still tell what followed; a later one of the unit waits for it. What comes later still is stored
and counts for nothing: `late`, if it names the decision.

Each batch is one transaction that inserts rewards, adds to the roll-ups and marks impressions
settled, so a kill at any point neither loses nor doubles a row. Joiners take turns.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa

from artwork_bandit.domain import Context, EventType, member_bucket
from artwork_bandit.slots import Outcomes, RewardRule, Slot
from artwork_bandit.slots import windows as windows_of_slots
from artwork_bandit.store import attribution, counting, rollups, rules
from artwork_bandit.store.columns import floored
from artwork_bandit.store.engine import Connection, Store, chunks, insert_ignoring
from artwork_bandit.store.tables import events, impressions, requests, rewards
from artwork_bandit.store.units import Unit, settled_units, unit_of

log = logging.getLogger(__name__)
_PENDING = sa.text("NOT impressions.settled")
"""As the index says it: SQLAlchemy would have SQLite compare with 0, and read the whole table."""
_context = msgspec.json.Decoder(Context)
_MICROSECOND = counting.MICROSECOND
_DAY = dt.timedelta(days=1) // _MICROSECOND
BATCH = 5_000
COUNTED = {
    "clicks": EventType.CLICK, "plays": EventType.PLAY, "rewatches": EventType.REWATCH,
    "abandons": EventType.ABANDON, "thumbs_up": EventType.THUMBS_UP,
    "thumbs_down": EventType.THUMBS_DOWN,
}  # fmt: skip
THUMBS = ("thumbs_up", "thumbs_down")
_COPIED = (
    "request_id", "position", "member_id", "title_id", "slot", "period", "occurred_at", "confirm",
    "cell", "policy", "model_version", "action_set_id", "chosen", "variant_id", "propensity",
)  # fmt: skip


def join(
    store: Store, slot: Slot, window: dt.timedelta, now: dt.datetime,
    windows: counting.Windows | None = None,
) -> int:  # fmt: skip
    """Settle all impressions of a slot whose window has closed; return how many units they gave.

    `windows` are those of all slots, if they are not their own.
    """
    windows = {**windows_of_slots(), **(windows or {}), slot.name: window}
    made, pace, after = 0, store.pace(BATCH), None
    while True:
        most = pace.size
        with store.write() as connection:
            rollups.take_turns(connection, [slot.name])
            # An event may have followed what is of another slot: one joins at a time.
            attribution.alone(connection)
            with pace.timed():
                batch = _closed(slot.name, now - window, most, after)
                page = connection.execute(sa.select(batch)).all()
                closing = _first_closed(connection, slot.name, page, now - window)
                attribution.join_waiting(connection, closing, windows)
                known = {(row.request_id, row.position) for row in closing}
                found = connection.execute(_outcomes(batch, window))
                # What came in between is settled with the next.
                pending = [row for row in found if (row.request_id, row.position) in known]
                made += _settle(connection, slot, window, pending, now)
        if len(page) < most:
            return made
        after = page[-1]
        pace.rest()


def waiting(connection: Connection, slot: str) -> tuple[int, dt.datetime | None]:
    """Return how many impressions of a slot are not settled yet, and when the first was seen."""
    query = sa.select(sa.func.count(), sa.func.min(impressions.c.occurred_at)).where(
        impressions.c.slot == slot, _PENDING
    )
    count, first = connection.execute(query).one()
    return int(count), first


class SettledUnit(NamedTuple):
    """One unit of a title, with what segments are made of."""

    day: int
    """UTC, counted from 1970."""
    action_set_id: int
    cell: str
    variant_id: str
    member_bucket: int
    propensity: float
    quality_play: int
    context: Context


def latest_of_title(
    connection: Connection, slot: str, title_id: str, since: dt.datetime | None,
    until: dt.datetime | None, limit: int,
) -> list[SettledUnit]:  # fmt: skip
    """Return a title's latest confirmed units in [since, until), the newest first."""
    day = floored(rewards.c.occurred_at, _DAY)
    cell = rollups.cell_of(rewards)
    columns = [cell if n == "cell" else rewards.c[n] for n in SettledUnit._fields[1:-1]]
    query = (
        sa.select(day, *columns, requests.c.context)
        .join_from(rewards, requests, rewards.c.request_id == requests.c.request_id)
        .where(
            rewards.c.slot == slot, rewards.c.title_id == title_id, rewards.c.confirm == "client"
        )
        .order_by(rewards.c.occurred_at.desc())
        .limit(limit)
    )  # fmt: skip
    if since is not None:
        query = query.where(rewards.c.occurred_at >= since)
    if until is not None:
        query = query.where(rewards.c.occurred_at < until)
    rows = connection.execute(query).cursor.fetchall()  # there is nothing to convert
    contexts = {text: _context.decode(text) for text in {row[-1] for row in rows}}
    return [SettledUnit._make((*row[:-1], contexts[row[-1]])) for row in rows]


def of_decision(
    connection: Connection, request_id: str, position: int
) -> tuple[float, str] | None:  # fmt: skip
    """Return a decision's reward, and the version of the rule that it was settled under; None while
    its window is open, or if it is no unit's first."""
    query = sa.select(rewards.c.reward, rewards.c.rule).where(
        rewards.c.request_id == request_id, rewards.c.position == position
    )
    row = connection.execute(query).first()
    return None if row is None else (row.reward, row.rule)


def _closed(
    slot: str, closed_before: dt.datetime, most: int, after: Any | None = None
) -> sa.Subquery:
    """Return a batch of impressions whose window has closed, the oldest, or those that come after
    one in that order."""
    order = (impressions.c.occurred_at, impressions.c.request_id, impressions.c.position)
    found = sa.select(impressions).where(
        impressions.c.slot == slot,
        _PENDING,
        impressions.c.occurred_at <= closed_before,
        # A device that was offline sends what followed with, or after, its impression.
        impressions.c.received_at <= closed_before,
    )
    if after is not None:
        last = (after.occurred_at, after.request_id, after.position)
        found = found.where(impressions.c.occurred_at >= last[0], sa.tuple_(*order) > last)
    return found.order_by(*order).limit(most).subquery("shown")


def _first_closed(
    connection: Connection, slot: str, page: Sequence[Any], closed_before: dt.datetime
) -> Sequence[Any]:
    """Return a batch without the impressions whose unit was shown earlier, on a device that told of
    it later: they wait for that one's window to close."""
    if not page:
        return page
    query = sa.select(impressions).where(
        impressions.c.slot == slot, _PENDING, impressions.c.occurred_at <= page[-1].occurred_at,
        impressions.c.received_at > closed_before,
    )  # fmt: skip
    late: dict[Unit, dt.datetime] = {}
    for row in connection.execute(query.order_by(impressions.c.occurred_at)):
        late.setdefault(unit_of(row), row.occurred_at)
    if not late:
        return page
    return [r for r in page if late.get(unit_of(r), r.occurred_at + _MICROSECOND) > r.occurred_at]


def _outcomes(shown: sa.Subquery, window: dt.timedelta) -> sa.Select[Any]:
    """Return the query: a batch of closed impressions, oldest first, with what followed."""
    followed = counting.counts(shown, window // _MICROSECOND)
    counts = [
        sa.func.coalesce(sa.func.sum(sa.case((events.c.type == kind.value, 1), else_=0)), 0).label(
            name
        )
        for name, kind in COUNTED.items()
    ]
    lasts = [
        sa.func.max(sa.case((events.c.type == COUNTED[name].value, events.c.occurred_at))).label(
            f"last_{name}"
        )
        for name in THUMBS
    ]
    share = events.c.seconds_watched / sa.func.nullif(events.c.duration_seconds, 0)
    longest = [
        sa.func.max(events.c.seconds_watched).label("seconds_watched"),
        sa.func.max(share).label("watched_share"),
    ]
    copied = [shown.c[name] for name in _COPIED]
    return (
        sa.select(*copied, *counts, *longest, *lasts)
        .select_from(shown.outerjoin(events, followed))
        .group_by(*copied)
        .order_by(shown.c.occurred_at, shown.c.request_id, shown.c.position)
    )


def _settle(
    connection: Connection, slot: Slot, window: dt.timedelta, pending: list[Any] | Any,
    now: dt.datetime,
) -> int:  # fmt: skip
    if not pending:
        return 0
    units: dict[Unit, Any] = {}
    for row in pending:  # oldest first: the first of a unit is the unit's
        units.setdefault(unit_of(row), row)
    settled = settled_units(connection, units)
    rows = [_of_last_thumb(row) for unit, row in units.items() if unit not in settled]
    outcomes = outcomes_of(rows)
    quality = slot.reward.quality_plays(outcomes)
    earned = slot.reward.rewards(outcomes)
    for row, played, reward in zip(rows, quality, earned, strict=True):
        row |= {
            "member_bucket": member_bucket(row["member_id"]), "quality_play": int(played),
            "reward": float(reward), "rule": slot.reward.version, "settled_at": now,
        }  # fmt: skip
    before = rules.settle_under(connection, slot.name, slot.reward, window)
    if before is not None:
        told = {"slot": slot.name, "before": before, "now": window.total_seconds()}
        log.warning("attribution_window_changed", extra=told)
    insert_ignoring(connection, rewards, rows)
    rollups.add(connection, [row._mapping for row in pending], rows)
    connection.execute(
        sa.update(impressions)
        .where(
            impressions.c.request_id == sa.bindparam("request"),
            impressions.c.position == sa.bindparam("at"),
        )
        .values(settled=True),
        [{"request": row.request_id, "at": row.position} for row in pending],
    )
    return len(rows)


def _of_last_thumb(row: Any) -> dict[str, Any]:
    """Return a row with the thumbs as they stand in the end: up after down takes that back, and the
    other way round. At the same instant, down stands."""
    found = dict(row._mapping)
    up, down = (found.pop(f"last_{name}") for name in THUMBS)
    if up is not None and down is not None:
        found["thumbs_down" if up > down else "thumbs_up"] = 0
    return found


def under(
    connection: Connection, rule: RewardRule, decisions: Iterable[tuple[str, int]]
) -> Iterator[tuple[tuple[str, int], float]]:
    """Yield each decision with what its outcomes are worth under a rule."""
    key = (rewards.c.request_id, rewards.c.position)
    columns = [rewards.c[n] for n in (*COUNTED, "seconds_watched", "watched_share")]
    for some in chunks(sorted(decisions)):
        requested, wanted = {request_id for request_id, _ in some}, set(some)
        query = sa.select(*key, *columns).where(rewards.c.request_id.in_(requested))
        found = (dict(row._mapping) for row in connection.execute(query))
        rows = [row for row in found if (row["request_id"], row["position"]) in wanted]
        worth = rule.rewards(outcomes_of(rows)).tolist()
        for row, reward in zip(rows, worth, strict=True):
            yield (row["request_id"], row["position"]), reward


def outcomes_of(rows: list[dict[str, Any]]) -> Outcomes:
    """Return joined rows as columns; what nobody sent is NaN."""

    def counts(name: str) -> Any:
        return np.array([row[name] for row in rows], np.int64)

    def seconds(name: str) -> Any:
        return np.array([row[name] for row in rows], np.float64)

    return Outcomes(
        **{name: counts(name) for name in COUNTED},
        seconds_watched=seconds("seconds_watched"),
        watched_share=seconds("watched_share"),
    )
