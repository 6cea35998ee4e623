"""Under which reward rules a slot's units are settled, and since when.

Rewards are kept with the version of their rule: what it pays is remembered with it, so that a rule
that was changed and kept its version is refused, and never mixed with what it was.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

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
    last = _last(connection, slot)
    return last.since if last is not None and last.rule == rule.version else None


def settle_under(connection: Connection, slot: str, rule: RewardRule) -> None:
    """Remember that units are settled under a rule from now on: if that is another, those shown
    after all that were settled so far. Raises InvalidInput for one that has changed."""
    require_same(connection, slot, rule)
    last = _last(connection, slot)
    if last is not None and last.rule == rule.version:
        if last.formula is None:  # of a release before, which did not say
            of_last = sa.and_(rules.c.slot == slot, rules.c.since == last.since)
            connection.execute(sa.update(rules).where(of_last).values(formula=_formula(rule)))
        return
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
    row = {"slot": slot, "since": begins, "rule": rule.version, "formula": _formula(rule)}
    connection.execute(sa.insert(rules), row)


def require_same(connection: Connection, slot: str, rule: RewardRule) -> None:
    """Raise InvalidInput if units were settled under a rule of that version that paid otherwise."""
    query = sa.select(rules.c.formula).where(
        rules.c.slot == slot, rules.c.rule == rule.version, rules.c.formula.is_not(None)
    )
    # What a release before did not know of is as it is by default.
    before = [msgspec.json.decode(f, type=RewardRule) for f in connection.execute(query).scalars()]
    if any(each != rule for each in before):
        raise InvalidInput(
            f"reward rule {rule.version!r} pays otherwise than when units of the {slot} were "
            "settled under it: give the changed rule a version of its own"
        )


def _last(connection: Connection, slot: str) -> Any:
    query = sa.select(rules).where(rules.c.slot == slot).order_by(rules.c.since.desc()).limit(1)
    return connection.execute(query).first()


def _formula(rule: RewardRule) -> str:
    """Return all that a rule pays, as text."""
    return msgspec.json.encode(dataclasses.asdict(rule), order="sorted").decode()
