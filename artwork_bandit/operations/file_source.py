"""A replay log in Parquet files."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Ints, ReplayBlock, instant, microseconds
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.verdict import Check, Verdict
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.block import Detail
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import parquet

SPANS = 65_536
SORTED = 1_000_000
"""Times that are sorted at once."""
NAMED = 5
"""Slots that are named at most."""


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
        rows = self.rows()
        return instant(self._time_of(int(rows * share))) if rows else None

    def newest(self, rows: int) -> Self:
        before = self.rows() - rows
        if before <= 0:
            return self
        return self.narrowed(instant(self._time_of(before)), self.window.until)

    def _time_of(self, place: int) -> int:
        """Return when the row happened that has so many before it, in microseconds: counted in
        ever narrower spans of time, as a log's times may not fit into memory."""
        span = self.span()
        low, high = span.first, span.last
        while True:
            width = -(-(high - low + 1) // SPANS)
            counts = np.zeros(SPANS, np.int64)
            for times in self._times():
                inside = times[(times >= low) & (times <= high)]
                counts += np.bincount((inside - low) // width, minlength=SPANS)
            at = int(np.searchsorted(np.cumsum(counts), place, side="right"))
            place -= int(counts[:at].sum())
            low, high = low + at * width, min(low + (at + 1) * width - 1, high)
            if width == 1:
                return low
            if counts[at] <= SORTED:
                inside = np.concatenate([t[(t >= low) & (t <= high)] for t in self._times()])
                return int(np.partition(inside, place)[place])

    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]:
        of = None if self.part is None else [self.part]
        for block in parquet.read(self.path, self.window.slot, of=of, detail=detail):
            kept = self._within(block.occurred_at)
            yield block if kept.all() else block.take(kept)

    def imported(self) -> list[Check]:
        return []

    def checks(self) -> list[Check]:
        others = {n: rows for n, rows in parquet.slots(self.path).items() if n not in SLOTS}
        if not others:
            return []
        rows = sum(others.values())
        named = ", ".join(repr(name[:50]) for name in sorted(others)[:NAMED])
        return [
            Check(
                name="slots", status=Verdict.CAUTION, value=float(rows), limit=math.inf,
                message=f"{rows:,} rows are of slots that there are not, and judge nothing: "
                f"{named} (there are {', '.join(SLOTS)})",
            )
        ]  # fmt: skip

    def _times(self) -> Iterator[Ints]:
        of = None if self.part is None else [self.part]
        for times in parquet.times(self.path, self.window.slot, of):
            yield times[self._within(times)]

    def _within(self, occurred_at: Ints) -> npt.NDArray[np.bool_]:
        since, until = self.window.since, self.window.until
        kept = occurred_at >= (microseconds(since) if since else -(2**62))
        return np.asarray(kept & (occurred_at < (microseconds(until) if until else 2**62)))
