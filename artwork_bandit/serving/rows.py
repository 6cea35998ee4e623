"""What is logged of a request, and where it is."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from artwork_bandit.domain import ActionSet, Decisions


class Logged(StrEnum):
    """Where a row is when the answer leaves."""

    STORED = "stored"
    SPOOLED = "spooled"
    REPEATED = "repeated"
    """Its request id has a row already; this one was dropped."""
    NOWHERE = "nowhere"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A request's row of the log, and what must be there for it."""

    decisions: Decisions
    action_sets: list[ActionSet]
    asked: str
    """Fingerprint of what was asked; empty where the service made the request id."""
