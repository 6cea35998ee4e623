"""Under which reward rules a slot's units are settled, after how long, and since when.

Rewards are kept with the version of their rule: what it pays is remembered with it, so that a rule
that was changed and kept its version is refused, and never mixed with what it was. So is how long
outcomes counted: rewards of two attribution windows are worth different things, and that is said.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools

import msgspec
import sqlalchemy as sa

from artwork_bandit.domain import instant
from artwork_bandit.errors import InvalidInput
from artwork_bandit.slots import RewardRule
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.rollups import IMPORTED
from artwork_bandit.store.tables import rewards, rules

_MICROSECOND = dt.timedelta(microseconds=1)


def since(connection: Connection, slot: str, rule: RewardRule) -> dt.datetime | None:
    """Return from when on all of a slot's units are settled under a rule; None if none is yet."""
    query = sa.select(rules).where(rules.c.slot == slot).order_by(rules.c.since.desc())
    under = itertools.takewhile(lambda row: row.rule == rule.version, connection.execute(query))
    return min((row.since for row in under), default=None)


def settle_under(
    connection: Connection, slot: str, rule: RewardRule, window: dt.timedelta
) -> float | None:
    """Remember that units are settled under a rule, and what follows counts for so long, from now
    on: if either is another, those shown after all that were settled so far. Return the seconds
    that it was before, if that was another. Raises InvalidInput for a rule that has changed."""
    require_same(connection, slot, rule)
    seconds = window.total_seconds()
    query = sa.select(rules).where(rules.c.slot == slot).order_by(rules.c.since.desc()).limit(1)
    last = connection.execute(query).first()
    before = None if last is None else last.window_seconds
    if last is not None and last.rule == rule.version:
        if last.formula is None:  # of a release before, which did not say
            of_last = sa.and_(rules.c.slot == slot, rules.c.since == last.since)
            connection.execute(sa.update(rules).where(of_last).values(formula=_formula(rule)))
        if before == seconds:
            return None
    query = (
        sa.select(rewards.c.occurred_at)
        .where(
            rewards.c.slot == slot, rewards.c.confirm == "client", rewards.c.policy != IMPORTED
        )
        .order_by(rewards.c.occurred_at.desc())
        .limit(1)
    )  # fmt: skip
    settled = connection.execute(query).scalar()
    begins = instant(0) if settled is None else settled + _MICROSECOND
    if last is not None and begins <= last.since:
        begins = last.since + _MICROSECOND
    row = {
        "slot": slot, "since": begins, "rule": rule.version, "formula": _formula(rule),
        "window_seconds": seconds,
    }  # fmt: skip
    connection.execute(sa.insert(rules), row)
    return None if before == seconds else before


def windows(
    connection: Connection, slot: str, since: dt.datetime | None, until: dt.datetime | None
) -> list[tuple[dt.datetime, float]]:
    """Return for how many seconds outcomes counted of what was shown in [since, until), and from
    when on, the first first; what earlier releases did not say is left out. What a device told
    late may have been settled under the one after."""
    query = sa.select(rules.c.since, rules.c.window_seconds).where(rules.c.slot == slot)
    if until is not None:
        query = query.where(rules.c.since < until)
    found: list[tuple[dt.datetime, float]] = []
    for begins, seconds in connection.execute(query.order_by(rules.c.since)):
        if seconds is None or (found and found[-1][1] == seconds):
            continue
        if since is not None and begins <= since:
            found.clear()  # what was before is not in that time
        found.append((begins, seconds))
    return found


def require_same(connection: Connection, slot: str, rule: RewardRule) -> None:
    """Raise InvalidInput if units were settled under a rule of that version that paid otherwise."""
    query = sa.select(rules.c.formula).distinct().where(
        rules.c.slot == slot, rules.c.rule == rule.version, rules.c.formula.is_not(None)
    )  # fmt: skip
    # What a release before did not know of is as it is by default.
    before = [msgspec.json.decode(f, type=RewardRule) for f in connection.execute(query).scalars()]
    if any(each != rule for each in before):
        raise InvalidInput(
            f"reward rule {rule.version!r} pays otherwise than when units of the {slot} were "
            "settled under it: give the changed rule a version of its own"
        )


def _formula(rule: RewardRule) -> str:
    """Return all that a rule pays, as text."""
    return msgspec.json.encode(dataclasses.asdict(rule), order="sorted").decode()
