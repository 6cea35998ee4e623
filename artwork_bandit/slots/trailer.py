"""The cut of the trailer that plays when a member lingers on a title.

A trailer is watched right before the decision to play, so its window is shorter.
"""

import datetime as dt

from artwork_bandit.slots.slot import RewardRule, Slot, default_or_nothing

SLOT = Slot(
    name="trailer",
    reward=RewardRule(version="trailer-1"),
    attribution_window=dt.timedelta(hours=6),
    period=dt.timedelta(days=14),
    fallback=default_or_nothing,
)
