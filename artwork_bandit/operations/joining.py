"""The reward join as the settings ask for it, and why a log may still be empty after it."""

from __future__ import annotations

import datetime as dt

from artwork_bandit.operations.summing import sum_up
from artwork_bandit.settings import Settings
from artwork_bandit.slots import Slot, windows
from artwork_bandit.store import replay, rewards
from artwork_bandit.store.engine import Store
from artwork_bandit.store.window import Window


def join_rewards(store: Store, slot: Slot, settings: Settings, now: dt.datetime) -> int:
    """Attach outcomes to every impression whose window has closed, and sum up what the overview
    says of their titles; return the new units."""
    all_windows = windows(settings.attribution_window_seconds)
    joined = rewards.join(store, slot, all_windows[slot.name], now, all_windows)
    sum_up(store, slot.name, settings, now)
    return joined


def why_empty(store: Store, slot: Slot, settings: Settings) -> str:
    """Return why the database's log has no row, or none in the time asked for."""
    with store.read() as connection:
        count, first = rewards.waiting(connection, slot.name)
        settled = replay.span(connection, Window(slot=slot.name))
        assumed = replay.span(connection, Window(slot=slot.name, confirm="server"))
    if settled is not None:
        rows, start, end = settled
        return (
            f"no row is in that time: the replay log has {rows:,}, from {start:%Y-%m-%d %H:%M}Z to "
            f"{end:%Y-%m-%d %H:%M}Z"
        )
    if first is None and assumed is not None:
        return (
            f"the replay log is empty: {assumed[0]:,} rows of {slot.name} are of impressions that "
            "were assumed (`confirm` was `server`): nobody knows that they were on screen, so they "
            "are kept apart, and not learned from"
        )
    if first is None:
        return f"the replay log is empty: no impression of {slot.name} has been sent"
    closes = first + slot.window(settings.attribution_window_seconds)
    return (
        f"the replay log is empty: {count:,} impressions wait for what follows, the first until "
        f"{closes:%Y-%m-%d %H:%M}Z, and are joined by `worker` after that; to try things out, set "
        "attribution_window_seconds"
    )
