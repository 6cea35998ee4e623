"""What imports have in common: what they did, and how much they store at a time."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

MOST_ROWS = 20_000
"""Of one transaction."""
MOST_PROBLEMS = 20
AHEAD = dt.timedelta(minutes=1)
"""Another clock may be ahead by this much before its times are in the future."""


@dataclass(slots=True)
class Changes:
    """What an import did, or with a dry run would do; problems name the line and the rule."""

    titles_new: int = 0
    titles_changed: int = 0
    titles_same: int = 0
    variants_new: int = 0
    variants_revised: int = 0
    """New content: a new revision."""
    variants_changed: int = 0
    """Eligibility only."""
    variants_same: int = 0
    events_new: int = 0
    events_known: int = 0
    members: int = 0
    rejected: int = 0
    problems: list[str] = field(default_factory=list)
    """The first 20."""

    def reject(self, where: str, why: object) -> None:
        self.rejected += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{where}: {why}")
