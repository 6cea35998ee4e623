"""A replay log in Parquet files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Ints, ReplayBlock, instant, microseconds
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.verdict import Check
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.block import Detail
from artwork_bandit.store import parquet


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource(ReplaySource):
    """A Parquet file, or a folder of part files."""

    path: Path
    part: parquet.Part | None = None
    """Only this part of the path."""

    def drawn_by(self, policy: str) -> None:
        return None

    def parts(self) -> Sequence[ReplaySource]:
        return [replace(self, part=part) for part in parquet.parts(self.path)]

    @property
    def predicts(self) -> bool:
        return parquet.has_column(self.path, "q_hat")

    @property
    def rule(self) -> str | None:
        return parquet.rule_of(self.path)

    @property
    def bounds(self) -> tuple[float, float] | None:
        return parquet.bounds_of(self.path)

    @property
    def grows(self) -> bool:
        return False

    def rows(self) -> int:
        return sum(len(times) for times in self._times())

    def span(self) -> Span:
        ends = [Span.of(times) for times in self._times() if len(times)]
        return Span(min(s.first for s in ends), max(s.last for s in ends)) if ends else Span()

    def quantile(self, share: float) -> dt.datetime | None:
        times = np.sort(np.concatenate([np.empty(0, np.int64), *self._times()]))
        return instant(int(times[int(len(times) * share)])) if len(times) else None

    def newest(self, rows: int) -> Self:
        times = np.concatenate([np.empty(0, np.int64), *self._times()])
        if len(times) <= rows:
            return self
        return self.narrowed(instant(int(np.partition(times, -rows)[-rows])), self.window.until)

    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]:
        of = None if self.part is None else [self.part]
        for block in parquet.read(self.path, self.window.slot, of=of, detail=detail):
            kept = self._within(block.occurred_at)
            yield block if kept.all() else block.take(kept)

    def imported(self) -> list[Check]:
        return []

    def checks(self) -> list[Check]:
        return []

    def _times(self) -> Iterator[Ints]:
        of = None if self.part is None else [self.part]
        for times in parquet.times(self.path, self.window.slot, of):
            yield times[self._within(times)]

    def _within(self, occurred_at: Ints) -> npt.NDArray[np.bool_]:
        since, until = self.window.since, self.window.until
        kept = occurred_at >= (microseconds(since) if since else -(2**62))
        return np.asarray(kept & (occurred_at < (microseconds(until) if until else 2**62)))
