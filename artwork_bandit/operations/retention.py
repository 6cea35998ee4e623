"""Models that never chose anything are deleted after a while: several are made a day, of some
megabytes each where the catalogue is large, and nobody asks for them any more.

What ever was live or challenged is kept for good: decisions are derived from it again, it can be
gone back to, and its rows are weighed together with others by what it would have chosen. Of those
that were not, the newest of each doubling of what they learned from is kept, too: whether the world
has changed is asked of a model of the older half of the log (`changes`). Of the others everything
but the bytes is kept: what they learned from, how, and what the gate said.
"""

from __future__ import annotations

import datetime as dt
import logging

from artwork_bandit.errors import ArtworkBanditError
from artwork_bandit.operations.model_editing import CHALLENGER_NAMED, wait_for_models
from artwork_bandit.settings import Settings
from artwork_bandit.store import changes
from artwork_bandit.store import retention as stored
from artwork_bandit.store.engine import Store

log = logging.getLogger(__name__)
MOST_DELETED = 50
"""At a time; each in a transaction of its own, for nobody shall wait long for the database."""


def delete_old(store: Store, slot: str, settings: Settings, now: dt.datetime) -> list[int]:
    """Delete the bytes of a slot's models that were made `keep_models_days` ago and never chose;
    return their versions. What is left, or fails, is for the next training."""
    if not settings.keep_models_days:
        return []
    before = now - dt.timedelta(days=settings.keep_models_days)
    deleted: list[int] = []
    try:
        pace = store.pace(1)
        for version in _old(store, slot, before)[:MOST_DELETED]:
            with store.write() as connection:
                wait_for_models(connection, slot)  # one that is promoted meanwhile stays
                if stored.delete(connection, version, now):
                    deleted.append(version)
            pace.rest()
    except (ArtworkBanditError, OSError) as error:
        log.warning("models_not_deleted", extra={"slot": slot, "error": str(error)})
    if deleted:
        log.info("models_deleted", extra={"slot": slot, "versions": deleted})
    return deleted


def _old(store: Store, slot: str, before: dt.datetime) -> list[int]:
    """Return the models that may go, the oldest first."""
    with store.read() as connection:
        unserved = stored.unserved(connection, slot, before)
        named = changes.of_kind(connection, CHALLENGER_NAMED)
    challenged = {(change.after or {}).get("challenger") for change in named}
    asked = {rows.bit_length(): version for version, rows in unserved}
    return [v for v, _ in unserved if v not in challenged and v not in asked.values()]
