"""From when to when a log goes, and its cut into equal parts of time.

Known before any row is judged, so that what depends on time does not depend on how the log is
split into blocks, files and machines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Ints


@dataclass(frozen=True, slots=True)
class Span:
    """Microseconds of the first and the last row."""

    first: int = 0
    last: int = 0

    @staticmethod
    def of(occurred_at: Ints) -> Span:
        if not len(occurred_at):
            return Span()
        return Span(int(occurred_at.min()), int(occurred_at.max()))

    def parts_of(self, occurred_at: Ints, parts: int) -> Ints:
        """Return in which of so many equal parts of the span each row lies."""
        length = self.last - self.first + 1
        share = (occurred_at - self.first) / length
        found: Ints = np.clip((share * parts).astype(np.int64), 0, parts - 1)
        return found
