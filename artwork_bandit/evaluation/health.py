"""Whether the log itself can be believed: looked at before any target."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import MEMBER_BUCKETS, Ints, ReplayBlock
from artwork_bandit.estimators import BucketSums
from artwork_bandit.estimators.diagnostics import mean_weight_z
from artwork_bandit.evaluation.counted import Counted
from artwork_bandit.evaluation.distinct import Distinct, Hashes, hashed
from artwork_bandit.evaluation.evidence import plus
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.verdict import (
    MEAN_WEIGHT_CAUTION,
    MEAN_WEIGHT_REFUSE,
    Check,
    Verdict,
)
from artwork_bandit.policies.ragged import total

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
SURELY_WRONG = 1e-6
"""Probability by chance below which variants' counts are held to be wrong."""
OCCUPIED = 4_096
"""Parts of the log's span that have rows or not; gaps are told to this."""
LANES = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93],
                 np.uint64)  # fmt: skip
"""Odd numbers without meaning."""


class Health:
    """Accumulates blocks; merges with `+=`, in any order."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._first, self._last = 2**63 - 1, -(2**63)
        """Microseconds of the rows read: of those that are of the span, some may be left out."""
        self.members = Distinct()
        self.certain = 0
        self.on_policy: BucketSums | None = None
        """Rewards of the rows that were not left out, and their number."""
        self._ids = Distinct()
        self._lanes = np.zeros(len(LANES), np.uint64)
        self._certain_elsewhere = 0
        self._occupied = np.zeros(OCCUPIED, bool)
        self._even: BucketSums | None = None
        """Weights of the policy that spreads evenly over what might be shown, and rows."""
        self._counted = Counted()
        self._pmfs = True
        self._least, self._most = math.inf, -math.inf
        """Rewards of the rows that were not left out."""

    def __iadd__(self, other: Health) -> Health:
        self.members += other.members
        self.certain += other.certain
        self.on_policy = plus(self.on_policy, other.on_policy)
        self._ids += other._ids
        self._lanes = self._lanes + other._lanes
        self._certain_elsewhere += other._certain_elsewhere
        self._occupied |= other._occupied
        self._first = min(self._first, other._first)
        self._last = max(self._last, other._last)
        self._even = plus(self._even, other._even)
        self._counted += other._counted
        self._pmfs &= other._pmfs
        self._least, self._most = min(self._least, other._least), max(self._most, other._most)
        return self

    @property
    def rows(self) -> int:
        return self._ids.total

    @property
    def span(self) -> tuple[int, int] | None:
        """Microseconds of the first and the last row; None if there is none."""
        return (self._first, self._last) if self.rows else None

    @property
    def sha256(self) -> str:
        """Hash of the decisions and rewards read, in whatever order."""
        return hashlib.sha256(f"{self.rows}".encode() + self._lanes.tobytes()).hexdigest()

    @property
    def mean_reward(self) -> float | None:
        """Of the rows that were not left out; None if all were."""
        sums = self.on_policy
        return None if sums is None else float(sums.totals[:, 0].sum() / sums.rows)

    def note(self, block: ReplayBlock, members: Hashes, sure: npt.NDArray[np.bool_]) -> None:
        """Look at all rows: their members, hashed, and which were certain."""
        ids = hashed(block.decision_ids)
        self.members.add(members)
        self._ids.add(ids)
        self._occupied[self._span.parts_of(block.occurred_at, OCCUPIED)] = True
        self._first = min(self._first, int(block.occurred_at.min()))
        self._last = max(self._last, int(block.occurred_at.max()))
        self._lanes += _fingerprint(ids, block)
        self.certain += int(sure.sum())
        self._certain_elsewhere += int((sure & ~np.isin(block.cells, CERTAIN_CELLS)).sum())

    def compare(self, block: ReplayBlock, cluster: Ints) -> None:
        """Hold what the rows showed against their propensities."""
        bucket, ones = cluster % MEMBER_BUCKETS, np.ones(len(block))
        logged = block.logging_pmf
        could = None if logged is None or logged.min() > 0 else logged > 0
        shown_to = block.sizes if could is None else total(could.astype(float), block.offsets)
        even = np.stack([1.0 / (shown_to * block.propensity), ones], axis=1)
        self._even = plus(self._even, BucketSums.of(even, bucket))
        self._counted.add(block, could, bucket)
        self._pmfs &= logged is not None
        self._least = min(self._least, float(block.reward.min()))
        self._most = max(self._most, float(block.reward.max()))
        earned = np.stack([block.reward, ones], axis=1)
        self.on_policy = plus(self.on_policy, BucketSums.of(earned, bucket))

    def checks(self) -> list[Check]:
        rows = self.rows
        none = "the log has no row in that time and slot"
        found = [
            Check(
                name="rows", status=Verdict.OK if rows else Verdict.REFUSE, value=float(rows),
                limit=1, message=f"{rows:,} rows" if rows else none,
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
        duplicates = rows - self._ids.distinct
        share = duplicates / max(1, rows)
        found.append(
            Check(
                name="duplicates", value=float(duplicates), limit=MOST_DUPLICATES * max(1, rows),
                status=Verdict.OK if not duplicates
                else Verdict.CAUTION if share <= MOST_DUPLICATES else Verdict.REFUSE,
                message=f"{duplicates:,} rows repeat a decision id",
            )
        )  # fmt: skip
        if self._least == self._most != 0:  # of nothing earned targets say so
            found.append(
                Check(
                    name="rewards", status=Verdict.REFUSE, value=self._most, limit=self._most,
                    message=f"every row earned {self._most:g}: whatever is shown, this log tells "
                    "no policy from another",
                )
            )  # fmt: skip
        found += self._gaps()
        return found + self._counts()

    def _counts(self) -> list[Check]:
        """Return whether variants were shown as often as their propensities promise: all together,
        and each."""
        z = None if self._even is None else mean_weight_z(self._even)
        if z is None:
            return []
        far = Verdict.CAUTION if abs(z) > MEAN_WEIGHT_CAUTION else Verdict.OK
        evidence = self._counted.log_evidence
        if abs(z) > MEAN_WEIGHT_REFUSE:
            far = Verdict.REFUSE
        each = Verdict.REFUSE if evidence > -math.log(SURELY_WRONG) else Verdict.OK
        counts = (
            "some variants, or those in some place of the list, were shown more often, others less "
            "often than their propensities promise"
            if each is Verdict.REFUSE
            else "variants were shown as often as their propensities promise"
        )
        explained = ""
        if not self._pmfs and z < -MEAN_WEIGHT_CAUTION:
            # What the logging policy never shows looks the same as what was lost.
            explained = (
                "; impressions are lost, or some eligible variants were never to be shown: a "
                "column logging_pmf would tell"
            )
            far, each = (min(v, Verdict.CAUTION, key=list(Verdict).index) for v in (far, each))
        return [
            Check(
                name="counts_against_propensities", value=float(z), limit=MEAN_WEIGHT_REFUSE,
                status=far,
                message="variant counts, weighed by their propensities, are "
                f"{abs(z):.1f} standard errors from what those propensities promise{explained}",
            ),
            Check(
                name="counts_of_each_variant", value=math.exp(-max(0.0, evidence)),
                limit=SURELY_WRONG, status=each,
                message=f"{counts} (p = {math.exp(-max(0.0, evidence)):.1g}){explained}",
            ),
        ]  # fmt: skip

    def _gaps(self) -> list[Check]:
        length = self._span.last - self._span.first
        if not self.rows or length < FEWEST_DAYS:
            return []
        share = float(np.diff(np.flatnonzero(self._occupied)).max(initial=1) - 1) / OCCUPIED
        return [
            Check(
                name="gaps", value=share, limit=1.0,
                status=Verdict.CAUTION if share > LONGEST_GAP else Verdict.OK,
                message=f"the longest time without a row is {share * length / 86_400e6:.1f} days, "
                f"{share:.0%} of the log's span",
            )
        ]  # fmt: skip


def _fingerprint(ids: Hashes, block: ReplayBlock) -> npt.NDArray[np.uint64]:
    """Return sums, modulo 2^64, of four hashes of each row: a hash of the rows as a set."""
    row = ids.copy()
    for column in (block.chosen, block.propensity, block.reward):
        row = (row ^ column.view(np.uint64)) * LANES[0]
        row ^= row >> np.uint64(29)
    lanes = np.zeros(len(LANES), np.uint64)
    for i, odd in enumerate(LANES):
        mixed = row * odd
        mixed ^= mixed >> np.uint64(32)
        lanes[i] = (mixed * LANES[1]).sum(dtype=np.uint64)
    return lanes


def imported_checks(rows: Mapping[str, int], rule: str, left_out: int = 0) -> list[Check]:
    """Return how many rows keep the reward they were imported with, of another rule than this one,
    `rows` being those of each rule; and how many were `left_out` for rewards that it cannot give.
    """
    others = {version: count for version, count in rows.items() if version != rule}
    count, named = sum(others.values()), " and ".join(map(repr, sorted(others)))
    found = [
        ("imported_rewards", count,
         f"imported rows keep the reward they came with: by rule {named}, not {rule!r}"),
        ("imported_left_out", left_out,
         f"imported rows are left out: the rule that they came by has rewards that {rule!r} never "
         "gives"),
    ]  # fmt: skip
    return [
        Check(
            name=name, value=float(value), limit=math.inf, status=Verdict.CAUTION,
            message=f"{value:,} {what}",
        )
        for name, value, what in found
        if value
    ]  # fmt: skip


def window_checks(windows: Sequence[tuple[dt.datetime, float]]) -> list[Check]:
    """Return whether outcomes counted for equally long; `windows` are the seconds, and from when
    on."""
    lengths = {seconds for _, seconds in windows}
    if len(lengths) < 2:
        return []
    since, seconds = windows[-1]
    others = " and ".join(f"{each:,.4g}" for each in sorted(lengths - {seconds}))
    return [
        Check(
            name="attribution_windows", value=float(len(lengths)), limit=math.inf,
            status=Verdict.CAUTION,
            message=f"what followed counted for {seconds:,.4g} s of what was shown since "
            f"{since:%Y-%m-%d %H:%M:%S}Z, before that for {others} s: rewards mean different "
            "things (--from and --to keep them apart; attribution_window_seconds is to be the same "
            "everywhere)",
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
