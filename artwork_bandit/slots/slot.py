"""What a slot is: a frozen value, not a subclass.

A new slot is one file with a value like `artwork.SLOT` and one line in `slots.SLOTS`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

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
    """Thumbs as they stand at the window's end, 0 where a later one of the other kind took them
    back; of both at one instant down stands. Earlier releases counted both."""
    seconds_watched: Floats
    """Longest time watched that any one event told, seconds; NaN where none did."""
    watched_share: Floats
    """Largest share of the duration that any one event told; NaN where none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRule:
    """A versioned formula from outcomes to a reward per impression: the sum of what happened, each
    times what it is worth, cut at the bounds.

    By default 1 for a quality play not thumbed down, else 0. A click alone earns nothing: a picture
    that misleads gets clicks and no finished plays.
    """

    version: str
    """Kept with every reward: another formula is another version."""
    quality_share: float = 0.5
    """A play is a quality play if this share of the duration was watched ..."""
    quality_seconds: float = 1200.0
    """... or this many seconds."""
    quality: float = 1.0
    """What a quality play is worth."""
    watched: float = 0.0
    """What the watched share of the duration is worth, a whole one this much."""
    click: float = 0.0
    """What at least one of it is worth, as the following."""
    rewatch: float = 0.0
    abandon: float = 0.0
    thumbs_up: float = 0.0
    thumbs_down: float = -1.0
    bounds: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest reward."""

    @property
    def quality_play(self) -> str:
        """What a quality play is, in words."""
        share, minutes = f"{self.quality_share:.0%}", f"{self.quality_seconds / 60:g}"
        return f"{share} of the title or {minutes} minutes watched"

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

    def quality_earned(self, reward: float) -> bool:
        """Return whether a reward alone, of a log made elsewhere, looks like a quality play's."""
        return reward >= self.quality if self.quality > 0 else reward > 0

    def rewards(self, outcomes: Outcomes) -> Floats:
        """Return the reward per impression."""
        share = np.clip(np.nan_to_num(outcomes.watched_share), 0.0, 1.0)
        earned = self.quality * self.quality_plays(outcomes) + self.watched * share
        for worth, happened in (
            (self.click, outcomes.clicks), (self.rewatch, outcomes.rewatches),
            (self.abandon, outcomes.abandons), (self.thumbs_up, outcomes.thumbs_up),
            (self.thumbs_down, outcomes.thumbs_down),
        ):  # fmt: skip
            earned = earned + worth * (happened > 0)
        found: Floats = np.clip(earned, *self.bounds)
        return found


CLICKS = RewardRule(version="clicks-1", quality=0.0, click=1.0, thumbs_down=0.0)
"""What a click is worth to whoever counts clicks: to compare with."""
GRADED = RewardRule(
    version="graded-1", quality=0.6, watched=0.2, click=0.05, rewatch=0.15, thumbs_up=0.2,
    abandon=-0.2,
)  # fmt: skip
"""Quality plays first, with shades."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A kind of thing to pick, with all that is special about it."""

    name: str
    reward: RewardRule
    """The rule in force."""
    attribution_window: dt.timedelta
    """Outcomes count from the first impression for this long."""
    period: dt.timedelta
    """A member keeps the same random draw for this long."""
    other_rules: tuple[RewardRule, ...] = (CLICKS, GRADED)
    """Rules that the log can be read under as well."""
    fallback: Callable[[list[bool]], int | None]
    """Index to show when choosing fails, from each eligible variant's `is_default`; or None."""

    def window(self, seconds: float) -> dt.timedelta:
        """Return how long outcomes count: `seconds`, if the settings say any."""
        return dt.timedelta(seconds=seconds) if seconds else self.attribution_window

    def draw_period(self, seconds: float) -> dt.timedelta:
        """Return how long a draw is kept: `seconds`, if the settings say any."""
        return dt.timedelta(seconds=seconds) if seconds else self.period

    def under(self, rule: RewardRule) -> Slot:
        """Return the slot with another rule in force."""
        others = (self.reward, *self.other_rules)
        return replace(
            self, reward=rule, other_rules=tuple(r for r in others if r.version != rule.version)
        )


def default_or_nothing(defaults: list[bool]) -> int | None:
    """Fall back to the default variant if it is eligible, else show nothing."""
    return defaults.index(True) if True in defaults else None
