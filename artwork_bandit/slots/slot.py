"""What a slot is: a frozen value, not a subclass.

A new slot is one file with a value like `artwork.SLOT` and one line in `slots.SLOTS`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What followed n impressions inside the attribution window, in columns of length n."""

    clicks: Ints
    plays: Ints
    rewatches: Ints
    abandons: Ints
    thumbs_up: Ints
    thumbs_down: Ints
    seconds_watched: Floats
    """Longest time watched that any one event told, seconds; NaN where none did."""
    watched_share: Floats
    """Largest share of the duration that any one event told; NaN where none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRule:
    """A versioned formula from outcomes to a reward per impression."""

    version: str
    quality_share: float
    """A play is a quality play if this share of the duration was watched ..."""
    quality_seconds: float
    """... or this many seconds."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest reward the formula can give."""

    def quality_plays(self, outcomes: Outcomes) -> npt.NDArray[np.bool_]:
        """Return, per impression, whether it led to a play worth having.

        A play whose watched time is known counts by that time alone; one whose time nobody sent
        counts unless it was abandoned.
        """
        with np.errstate(invalid="ignore"):
            watched = (outcomes.seconds_watched >= self.quality_seconds) | (
                outcomes.watched_share >= self.quality_share
            )
        started = (outcomes.plays + outcomes.rewatches) > 0
        unknown = np.isnan(outcomes.seconds_watched)
        return started & np.where(unknown, outcomes.abandons == 0, watched)

    def rewards(self, outcomes: Outcomes) -> Floats:
        """Return the reward per impression: 1 for a quality play not thumbed down, else 0.

        A click alone earns nothing: a picture that misleads gets clicks and no finished plays.
        """
        earned: Floats = self.quality_plays(outcomes) & (outcomes.thumbs_down == 0)
        return earned.astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A kind of thing to pick, with all that is special about it."""

    name: str
    reward: RewardRule
    attribution_window: dt.timedelta
    """Outcomes count from the first impression for this long."""
    period: dt.timedelta
    """A member keeps the same random draw for this long."""
    fallback: Callable[[list[bool]], int | None]
    """Index to show when choosing fails, from each eligible variant's `is_default`; or None."""


def default_or_nothing(defaults: list[bool]) -> int | None:
    """Fall back to the default variant if it is eligible, else show nothing."""
    return defaults.index(True) if True in defaults else None
