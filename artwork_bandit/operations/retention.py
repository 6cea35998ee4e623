"""Models that never served are deleted after a while: several are made a day, of some megabytes
each where the catalogue is large, and nobody asks for them any more.

What ever was live or challenged is kept for good: decisions are derived from it again, it can be
gone back to, and its rows are weighed together with others by what it would have chosen. Of the
others everything but the bytes is kept: what they learned from, how, and what the gate said.
"""

from __future__ import annotations

import datetime as dt
import logging

from artwork_bandit.operations.model_editing import wait_for_models
from artwork_bandit.settings import Settings
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Store

log = logging.getLogger(__name__)
MOST_DELETED = 50
"""At a time: nobody shall wait long for the database."""


def delete_old(store: Store, slot: str, settings: Settings, now: dt.datetime) -> list[int]:
    """Delete the bytes of a slot's models that were made `keep_models_days` ago and never served;
    return their versions. What is left is for the next training."""
    if not settings.keep_models_days:
        return []
    before = now - dt.timedelta(days=settings.keep_models_days)
    with store.write() as connection:
        wait_for_models(connection, slot)  # one that is promoted meanwhile stays
        deleted = registry.delete_unserved(connection, slot, before, now, MOST_DELETED)
    if deleted:
        log.info("models_deleted", extra={"slot": slot, "versions": deleted})
    return deleted
