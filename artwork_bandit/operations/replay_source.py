"""Where a replay log comes from: the database, or Parquet files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Ints, ReplayBlock, instant, microseconds
from artwork_bandit.evaluation.span import Span
from artwork_bandit.policies.block import Lookup
from artwork_bandit.slots import RewardRule
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
    part: parquet.Part | None = None
    """Only this part of the path."""

    @staticmethod
    def of(
        store: Store | None, path: Path | None, slot: str,
        since: dt.datetime | None = None, until: dt.datetime | None = None,
        settled_by: dt.datetime | None = None, rule: RewardRule | None = None,
    ) -> ReplaySource:  # fmt: skip
        """Return the Parquet log at `path`, with its own rewards, else the database's under `rule`
        (None: as each was settled)."""
        window = Window(slot=slot, since=since, until=until, settled_by=settled_by, rule=rule)
        lookup: Lookup = names_only if store is None else StoredFeatures(store)
        name = str(path) if path is not None else "database"
        return ReplaySource(name=name, window=window, store=store, path=path, lookup=lookup)

    def narrowed(self, since: dt.datetime | None, until: dt.datetime | None) -> ReplaySource:
        """Return the part of the log from `since` until before `until`."""
        return replace(self, window=replace(self.window, since=since, until=until))

    def parts(self) -> list[ReplaySource]:
        """Return the log cut into parts that can be read anywhere; a database's is one."""
        if self.path is None:
            return [self]
        return [replace(self, part=part) for part in parquet.parts(self.path)]

    @property
    def predicts(self) -> bool:
        """Whether the log brings its own q-hat."""
        return self.path is not None and parquet.has_column(self.path, "q_hat")

    def span(self) -> Span:
        """Return when the first and the last row happened."""
        if self.path is None:
            with self._require_store().read() as connection:
                found = replay.span(connection, self.window)
            return Span() if found is None else Span(*map(microseconds, found[1:]))
        ends = [Span.of(times) for times in self._times() if len(times)]
        return Span(min(s.first for s in ends), max(s.last for s in ends)) if ends else Span()

    def quantile(self, share: float) -> dt.datetime | None:
        """Return the instant before which `share` of the rows lie; None for an empty log."""
        if self.path is None:
            with self._require_store().read() as connection:
                return replay.quantile(connection, self.window, share)
        times = np.sort(np.concatenate([np.empty(0, np.int64), *self._times()]))
        return instant(int(times[int(len(times) * share)])) if len(times) else None

    def blocks(self, *, plain: bool = False) -> Iterable[ReplayBlock]:
        """Yield the log's blocks, in time order if it is the database's; `plain` leaves out
        contexts and what is given per variant."""
        if self.path is None:
            yield from replay.blocks(self._require_store(), self.window, plain=plain)
            return
        of = None if self.part is None else [self.part]
        for block in parquet.read(self.path, self.window.slot, of=of, plain=plain):
            kept = self._within(block.occurred_at)
            yield block if kept.all() else block.take(kept)

    def _times(self) -> Iterator[Ints]:
        assert self.path is not None, "of a log in files"
        for times in parquet.times(self.path, self.window.slot):
            yield times[self._within(times)]

    def _within(self, occurred_at: Ints) -> npt.NDArray[np.bool_]:
        since, until = self.window.since, self.window.until
        kept = occurred_at >= (microseconds(since) if since else -(2**62))
        return np.asarray(kept & (occurred_at < (microseconds(until) if until else 2**62)))

    def _require_store(self) -> Store:
        assert self.store is not None, "a log is a path or a database"
        return self.store
