"""What rows weigh: recent behaviour weighs more.

A row that is h half-lives older than the newest weighs 2^-h. What was before an abrupt change
(`training.change`) is taken to be older by some more, so that all of it together weighs at most a
tenth of what came since.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints

OLDER = 5.0
"""Half-lives by which a change ages what was before, at least."""
MOST_BEFORE = 0.1
SMALLEST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """How fast rows age."""

    half_life: dt.timedelta
    times: float = 1.0
    """As fast as that."""
    changed_at: int | None = None
    """Microsecond of the last abrupt change."""
    older: float = OLDER
    """Half-lives by which what was before it is older."""

    @staticmethod
    def since(changed_at: int | None, half_life: dt.timedelta, before: int, since: int) -> Ageing:
        """Return it for so many rows before and since the change."""
        older = math.log2(max(before, 1) / (MOST_BEFORE * max(since, 1)))
        return Ageing(half_life=half_life, changed_at=changed_at, older=max(OLDER, older))

    def is_since(self, occurred_at: Ints) -> npt.NDArray[np.bool_]:
        """Return which rows are since the change; all, if there was none."""
        first = np.iinfo(np.int64).min if self.changed_at is None else self.changed_at
        return np.asarray(occurred_at >= first)

    def weights(self, occurred_at: Ints, last: int) -> Floats:
        """Return what rows of these microseconds weigh once the newest is of `last`."""
        age = (last - occurred_at) / (self.half_life / dt.timedelta(microseconds=1))
        if self.changed_at is not None:
            age = age + self.older * ~self.is_since(occurred_at)
        found: Floats = np.maximum(np.exp2(-self.times * age), SMALLEST_WEIGHT)
        return found

    def faded(self, at: int, last: int) -> float:
        """Return what weights as of microsecond `at` are to be multiplied with once the newest row
        is of `last`; what a change makes of them, they have in them."""
        age = (last - at) / (self.half_life / dt.timedelta(microseconds=1))
        return float(2.0 ** (-self.times * age))
