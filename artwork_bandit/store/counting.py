"""Which events count for which units: said once, for all who ask.

An event counts for a unit of its member, title and slot if it happened from the unit's first
impression to the end of its window, whatever was shown meanwhile. One that happened before counts
too if it names a decision that was shown as a part of the unit: whoever names one has been shown
it, and the clock that says otherwise is wrong.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from artwork_bandit.domain import EventType
from artwork_bandit.store.tables import events, impressions, rewards

Windows = Mapping[str, dt.timedelta]
"""Slot -> how long after an impression of it what follows counts."""
MICROSECOND = dt.timedelta(microseconds=1)


def followed(
    happened: dt.datetime, first: dt.datetime, window: dt.timedelta, *, of_unit: bool
) -> bool:  # fmt: skip
    """Return whether what happened counts for a unit of its member, title and slot, shown `first`;
    `of_unit` says whether it names a decision that was shown as a part of it."""
    return happened <= first + window and (happened >= first or of_unit)


def counts(unit: sa.FromClause, window: sa.ColumnElement[int] | int) -> sa.ColumnElement[bool]:
    """Return whether an event of the table counts for a unit, a row of its first impression;
    `window` in microseconds."""
    first, happened = (sa.type_coerce(of.c.occurred_at, sa.BigInteger) for of in (unit, events))
    named = impressions.alias("named")
    of_unit = (
        sa.exists()
        .where(
            named.c.request_id == events.c.request_id,
            named.c.position == events.c.position,
            named.c.period == unit.c.period,
            named.c.confirm == unit.c.confirm,
        )
        .correlate_except(named)
    )
    return sa.and_(
        events.c.member_id == unit.c.member_id, events.c.title_id == unit.c.title_id,
        events.c.slot == unit.c.slot, events.c.type != EventType.IMPRESSION.value,
        happened <= first + window,
        sa.or_(happened >= first, sa.and_(events.c.period == unit.c.period, of_unit)),
    )  # fmt: skip


def counted(windows: Windows, *more: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return whether an event of the table counted for a unit that is settled, and of which `more`
    is so."""
    lengths = {slot: window // MICROSECOND for slot, window in windows.items()}
    window = sa.case(lengths, value=rewards.c.slot, else_=0)
    return sa.exists().where(counts(rewards, window), *more)
