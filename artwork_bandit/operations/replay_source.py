"""Where a replay log comes from: the database, or Parquet files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from artwork_bandit.domain import ReplayBlock, instant, microseconds
from artwork_bandit.policies.block import Lookup
from artwork_bandit.store import parquet, replay
from artwork_bandit.store.engine import Store
from artwork_bandit.store.features import StoredFeatures, names_only
from artwork_bandit.store.replay import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySource:
    """A log that can be read again and again, and the variants it speaks of."""

    name: str
    window: Window
    store: Store | None = None
    path: Path | None = None
    lookup: Lookup

    @staticmethod
    def of(
        store: Store | None, path: Path | None, slot: str,
        since: dt.datetime | None = None, until: dt.datetime | None = None,
        settled_by: dt.datetime | None = None,
    ) -> ReplaySource:  # fmt: skip
        """Return the Parquet log at `path`, else the database's."""
        window = Window(slot=slot, since=since, until=until, settled_by=settled_by)
        lookup: Lookup = names_only if store is None else StoredFeatures(store)
        name = str(path) if path is not None else "database"
        return ReplaySource(name=name, window=window, store=store, path=path, lookup=lookup)

    def narrowed(self, since: dt.datetime | None, until: dt.datetime | None) -> ReplaySource:
        """Return the part of the log from `since` until before `until`."""
        return replace(self, window=replace(self.window, since=since, until=until))

    def quantile(self, share: float) -> dt.datetime | None:
        """Return the instant before which `share` of the rows lie; None for an empty log."""
        if self.path is None:
            assert self.store is not None, "a log is a path or a database"
            with self.store.read() as connection:
                return replay.quantile(connection, self.window, share)
        times = np.sort(np.concatenate([block.occurred_at for block in self.blocks()]))
        return instant(int(times[int(len(times) * share)])) if len(times) else None

    def blocks(self) -> Iterable[ReplayBlock]:
        """Yield the log's blocks, in time order if it is the database's."""
        if self.path is None:
            assert self.store is not None, "a log is a path or a database"
            yield from replay.blocks(self.store, self.window)
            return
        since, until = self.window.since, self.window.until
        for block in parquet.read(self.path, self.window.slot):
            kept = block.occurred_at >= (microseconds(since) if since else -(2**62))
            kept &= block.occurred_at < (microseconds(until) if until else 2**62)
            yield block if kept.all() else block.take(kept)
