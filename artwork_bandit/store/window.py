"""Which part of a replay log is meant."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from artwork_bandit.errors import InvalidInput
from artwork_bandit.slots import RewardRule


def require_order(since: dt.datetime | None, until: dt.datetime | None) -> None:
    """Raise InvalidInput if nothing can be from `since` on and before `until`."""
    if since is not None and until is not None and since >= until:
        raise InvalidInput(
            f"nothing is from {since.isoformat()} to {until.isoformat()}; from must be before to"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which part of the log."""

    slot: str = "artwork"
    since: dt.datetime | None = None
    """Units shown at or after this."""
    until: dt.datetime | None = None
    """Units shown before this."""
    settled_by: dt.datetime | None = None
    """Units settled until then: reading twice gives the same rows."""
    rule: RewardRule | None = None
    """What outcomes are worth; None takes each reward as it was settled. Rewards that came with an
    imported log are theirs under any rule."""
    bounds: tuple[float, float] | None = None
    """What rewards are taken to lie between; None as the rule says. Imported rows by rules whose
    rewards lie further apart are left out."""
    policy: str | None = None
    """Only units that this policy drew."""
    confirm: str = "client"
    """`client` or `server`: rows of assumed impressions are never mixed with confirmed ones."""
