"""The picture that stands for a title."""

import datetime as dt

from artwork_bandit.slots.slot import RewardRule, Slot, default_or_nothing

SLOT = Slot(
    name="artwork",
    reward=RewardRule(version="artwork-1"),
    attribution_window=dt.timedelta(hours=24),
    period=dt.timedelta(days=14),
    fallback=default_or_nothing,
)
