"""How those that wait are told what is going on; apart from training, so that what shows progress
need not load Vowpal Wabbit."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Told what is going on and how much of it is done, 0 to 1."""


def silent(what: str, share: float) -> None:
    """Show no progress."""
