"""The slots there are. To add one, write its file and name it here."""

import datetime as dt

from artwork_bandit.errors import InvalidInput
from artwork_bandit.slots import artwork, trailer
from artwork_bandit.slots.slot import Outcomes, RewardRule, Slot

SLOTS = {slot.name: slot for slot in (artwork.SLOT, trailer.SLOT)}


def slot_named(name: str) -> Slot:
    """Return the slot of that name; raises InvalidInput naming the ones there are."""
    if name not in SLOTS:
        raise InvalidInput(f"slot {name[:50]!r} is unknown; known are {sorted(SLOTS)}")
    return SLOTS[name]


def windows(seconds: float = 0.0) -> dict[str, dt.timedelta]:
    """Return how long outcomes count, per slot: `seconds`, if the settings say any."""
    return {slot.name: slot.window(seconds) for slot in SLOTS.values()}


__all__ = ["SLOTS", "Outcomes", "RewardRule", "Slot", "slot_named", "windows"]
