"""What rows weigh: recent behaviour weighs more.

A row that is h half-lives older than the newest weighs 2^-h. What was before an abrupt change
(`training.change`) is taken to be older by some more.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Floats, Ints

BEFORE_CHANGE = 5.0
"""Half-lives by which a change ages what was before: to a thirtieth, which still helps where few
rows came since, and is soon outweighed."""
SMALLEST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """How fast rows age."""

    half_life: dt.timedelta
    times: float = 1.0
    """As fast as that."""
    changed_at: int | None = None
    """Microsecond of the last abrupt change."""

    def weights(self, occurred_at: Ints, last: int) -> Floats:
        """Return what rows of these microseconds weigh once the newest is of `last`."""
        age = (last - occurred_at) / (self.half_life / dt.timedelta(microseconds=1))
        if self.changed_at is not None:
            age = age + BEFORE_CHANGE * (occurred_at < self.changed_at)
        found: Floats = np.maximum(np.exp2(-self.times * age), SMALLEST_WEIGHT)
        return found
