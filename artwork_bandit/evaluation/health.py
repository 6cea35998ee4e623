"""Whether the log itself can be believed: looked at before any target."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pandas.util import hash_array

from artwork_bandit.domain import Floats, Ints, ReplayBlock
from artwork_bandit.estimators import BucketSums, Rows
from artwork_bandit.estimators.diagnostics import Support
from artwork_bandit.evaluation.evidence import plus
from artwork_bandit.evaluation.verdict import (
    MEAN_WEIGHT_CAUTION,
    MEAN_WEIGHT_REFUSE,
    Check,
    Verdict,
)

CERTAIN_CELLS = ("baseline", "paused")
MOST_CERTAIN = 0.01
"""Share of certain choices outside the cells meant for them above which a caution is due."""
MOST_DUPLICATES = 0.01
LONGEST_GAP = 0.25
"""Share of the log's span without any row above which a caution is due ..."""
FEWEST_DAYS = 4 * 86_400 * 1_000_000
"""... in a log of at least this many microseconds."""
FEWEST_EVENTS = 100
"""Events below which their times are not judged."""
MOST_LATE, MOST_EARLY = 0.05, 0.02
"""Shares of late events, and of those before their impression, above which a caution is due."""
NO_ROWS = np.empty(0, np.int64)


@dataclass(slots=True)
class Health:
    """Accumulates blocks."""

    members: set[str] = field(default_factory=set)
    certain: int = 0
    span: tuple[int, int] | None = None
    on_policy: BucketSums | None = None
    """Rewards of the rows that were not left out, and their number."""
    _ids: list[Ints] = field(default_factory=list)
    _hash: Any = field(default_factory=hashlib.sha256)
    _certain_elsewhere: int = 0
    _in_order: bool = True
    _gap: int = 0
    _uniform: Support | None = None

    @property
    def rows(self) -> int:
        return sum(len(ids) for ids in self._ids)

    @property
    def sha256(self) -> str:
        """Hash of the decisions and rewards read."""
        return str(self._hash.hexdigest())

    @property
    def mean_reward(self) -> float | None:
        """Of the rows that were not left out; None if all were."""
        sums = self.on_policy
        return None if sums is None else float(sums.totals[:, 0].sum() / sums.rows)

    def note(self, block: ReplayBlock) -> npt.NDArray[np.bool_]:
        """Look at all rows; return which were certain, and so support nothing but themselves."""
        self.members.update(block.member_ids)
        self._ids.append(hash_array(block.decision_ids, categorize=False).view(np.int64))
        at = block.occurred_at
        first, last = int(at.min()), int(at.max())
        before = self.span
        self._in_order &= bool(np.all(np.diff(at) >= 0)) and (before is None or first >= before[1])
        self._gap = max(self._gap, int(np.diff(np.sort(at)).max(initial=0)))
        if before is not None:
            self._gap = max(self._gap, first - before[1])
            first, last = min(before[0], first), max(before[1], last)
        self.span = (first, last)
        for part in (self._ids[-1], block.chosen, block.propensity, block.reward):
            self._hash.update(part.tobytes())
        certain = (block.propensity >= 1) & (block.sizes > 1)
        self.certain += int(certain.sum())
        self._certain_elsewhere += int((certain & ~np.isin(block.cells, CERTAIN_CELLS)).sum())
        return np.asarray(certain)

    def compare(self, uniform: Rows, reward: Floats) -> None:
        """Take in rows as seen by the uniform policy."""
        support = Support.of(uniform)
        self._uniform = support if self._uniform is None else self._uniform + support
        columns = np.stack([reward, np.ones(len(reward))], axis=1)
        self.on_policy = plus(self.on_policy, BucketSums.of(columns, uniform.bucket))

    def checks(self) -> list[Check]:
        rows = self.rows
        found = [
            Check(
                name="rows", status=Verdict.OK if rows else Verdict.REFUSE, value=float(rows),
                limit=1, message=f"{rows:,} rows" if rows else "the log is empty",
            )
        ]  # fmt: skip
        elsewhere = self._certain_elsewhere / max(1, rows)
        found.append(
            Check(
                name="certain_rows", value=elsewhere, limit=1.0,
                status=Verdict.CAUTION if elsewhere > MOST_CERTAIN else Verdict.OK,
                message=f"{elsewhere:.1%} of rows are certain choices outside a baseline cell; "
                "they are left out, so the estimates are of the other contexts only",
            )
        )  # fmt: skip
        ids = np.concatenate(self._ids) if self._ids else NO_ROWS
        duplicates = int(np.count_nonzero(np.diff(np.sort(ids)) == 0))
        share = duplicates / max(1, rows)
        found.append(
            Check(
                name="duplicates", value=float(duplicates), limit=MOST_DUPLICATES * max(1, rows),
                status=Verdict.OK if not duplicates
                else Verdict.CAUTION if share <= MOST_DUPLICATES else Verdict.REFUSE,
                message=f"{duplicates:,} rows repeat a decision id",
            )
        )  # fmt: skip
        found.append(
            Check(
                name="time_order", value=float(not self._in_order), limit=1,
                status=Verdict.OK if self._in_order else Verdict.CAUTION,
                message="rows are in order of time" if self._in_order
                else "rows are not in order of time: q-hat may have seen later rows",
            )
        )  # fmt: skip
        found += self._gaps()
        if self._uniform is not None and (z := self._uniform.mean_weight_z) is not None:
            status = Verdict.OK
            if not abs(z) <= MEAN_WEIGHT_CAUTION:
                status = Verdict.CAUTION if abs(z) <= MEAN_WEIGHT_REFUSE else Verdict.REFUSE
            found.append(
                Check(
                    name="counts_against_propensities", value=float(z), limit=MEAN_WEIGHT_REFUSE,
                    status=status,
                    message="variant counts, weighed by their propensities, are "
                    f"{abs(z):.1f} standard errors from what those propensities promise",
                )
            )  # fmt: skip
        return found

    def _gaps(self) -> list[Check]:
        if self.span is None or self.span[1] - self.span[0] < FEWEST_DAYS:
            return []
        share = self._gap / (self.span[1] - self.span[0])
        return [
            Check(
                name="gaps", value=share, limit=1.0,
                status=Verdict.CAUTION if share > LONGEST_GAP else Verdict.OK,
                message=f"the longest time without a row is {self._gap / 86_400e6:.1f} days, "
                f"{share:.0%} of the log's span",
            )
        ]  # fmt: skip


def event_checks(events: int, late: int, early: int) -> list[Check]:
    """Return what the times of the events say: how many came when their reward was settled, and how
    many happened before what they followed was shown."""
    if events < FEWEST_EVENTS:
        return []
    return [
        Check(
            name=name, value=count / events, limit=1.0,
            status=Verdict.CAUTION if count / events > most else Verdict.OK,
            message=f"{count / events:.1%} of {events:,} events {what}",
        )
        for name, count, most, what in (
            ("late_events", late, MOST_LATE,
             "came after their reward was settled and count for nothing; a longer "
             "attribution_window_seconds would count them"),
            ("events_before_impressions", early, MOST_EARLY,
             "happened before the impression they name; a client's clock is wrong, or it "
             "confirms impressions late"),
        )
    ]  # fmt: skip
