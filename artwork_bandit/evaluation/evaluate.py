"""Counterfactual evaluation: one pass over the log, any number of targets.

Rows whose choice was certain though others were eligible (the baseline cell) support nothing but
themselves: they leave the evaluation, and their share is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints, ReplayBlock, member_bucket
from artwork_bandit.estimators import ESTIMATORS, BucketSums, Estimate, Rows, estimate
from artwork_bandit.estimators.diagnostics import Support
from artwork_bandit.estimators.dr import DR
from artwork_bandit.estimators.ips import IPS
from artwork_bandit.evaluation.outcome_model import OutcomeModel
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import (
    MEAN_WEIGHT_CAUTION,
    MEAN_WEIGHT_REFUSE,
    Check,
    Verdict,
    overall,
    support_checks,
)
from artwork_bandit.policies.block import Actions, Lookup
from artwork_bandit.policies.segments import first_maximum, total

LOGGING = "logging"
MOST_CERTAIN = 0.01
"""Share of certain choices outside the cells meant for them above which a caution is due."""
CERTAIN_CELLS = ("baseline", "paused")
NEEDS_UNIFORM = "valid only for a uniform log and a target that always shows one variant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A target's verdict, diagnostics and estimates."""

    verdict: Verdict
    checks: list[Check]
    support: Support
    rows_left_out: int
    """Rows that cannot judge it: trained on or before them, or its variant not eligible."""
    estimators: dict[str, Estimate]
    difference: Estimate
    against: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the log says."""

    rows: int
    members: int
    first: int
    """Microseconds of the first and last row."""
    last: int
    mean_reward: float | None
    """Of the rows that were not left out; None if all were."""
    certain_share: float
    """Share of rows left out because their choice was certain."""
    sha256: str
    """Hash of the decisions and rewards read."""
    verdict: Verdict
    checks: list[Check]
    targets: dict[str, Judged]


@dataclass(slots=True)
class _Sums:
    """What one target accumulates."""

    estimators: list[BucketSums | None] = field(default_factory=lambda: [None] * len(ESTIMATORS))
    support: Support | None = None
    difference: BucketSums | None = None
    unsupported: float = 0.0
    has_logging_pmf: bool = True
    always_one: bool = True
    uniform_log: bool = True
    left_out: int = 0

    def add(self, rows: Rows, reference: Floats) -> None:
        for i, estimator in enumerate(ESTIMATORS):
            self.estimators[i] = _plus(
                self.estimators[i], BucketSums.of(estimator.columns(rows), rows.bucket)
            )
        corrected = DR().columns(rows)[:, 0]
        paired = np.stack([corrected - reference, np.ones(len(rows))], axis=1)
        self.difference = _plus(self.difference, BucketSums.of(paired, rows.bucket))
        support = Support.of(rows)
        self.support = support if self.support is None else self.support + support


class Evaluation:
    """Accumulates blocks in time order; `report` may be asked for at any time."""

    def __init__(self, targets: Sequence[Target], lookup: Lookup, against: str = LOGGING) -> None:
        self.targets = list(targets)
        self.lookup = lookup
        self.against = against
        self._sums = {target.name: _Sums() for target in targets}
        self._outcome = OutcomeModel()
        self._uniform: Support | None = None
        self._on_policy: BucketSums | None = None
        self._members: set[str] = set()
        self._ids: list[Ints] = []
        self._certain = 0
        self._certain_elsewhere = 0
        self._span: tuple[int, int] | None = None
        self._hash = hashlib.sha256()
        self._in_order = True

    def add(self, block: ReplayBlock) -> None:
        """Take in the next block of the log."""
        if not len(block):
            return
        self._note(block)
        certain = (block.propensity >= 1) & (block.sizes > 1)
        self._certain += int(certain.sum())
        self._certain_elsewhere += int((certain & ~np.isin(block.cells, CERTAIN_CELLS)).sum())
        block = block.take(~certain)
        if not len(block):
            return
        bucket = np.array([member_bucket(m) for m in block.member_ids], np.int64)
        q = self._outcome.predict(block, bucket) if block.q_hat is None else block.q_hat
        uniform_weight = 1.0 / (block.propensity * block.sizes)
        rows = _rows(block, np.repeat(1.0 / block.sizes, block.sizes), q, bucket)
        support = Support.of(rows)
        self._uniform = support if self._uniform is None else self._uniform + support
        on_policy = np.stack([block.reward, np.ones(len(block))], axis=1)
        self._on_policy = _plus(self._on_policy, BucketSums.of(on_policy, bucket))
        uniform_log = bool(np.allclose(uniform_weight, 1.0, atol=1e-6))
        actions = Actions.of(block, self.lookup)
        pmfs = {t.name: t.pmf(block, actions) for t in self.targets}
        for target in self.targets:
            self._add_target(target, block, pmfs, q, bucket, uniform_log)

    def _add_target(
        self, target: Target, block: ReplayBlock, pmfs: dict[str, Floats], q: Floats,
        bucket: Ints, uniform_log: bool,
    ) -> None:  # fmt: skip
        sums = self._sums[target.name]
        judging = _can_judge(block, target)
        if self.against != LOGGING:
            judging &= _can_judge(block, self._target(self.against))
        sums.left_out += int(len(block) - judging.sum())
        if not judging.any():
            return
        pmf = pmfs[target.name]
        rows = _rows(block, pmf, q, bucket)
        reference = (
            block.reward
            if self.against == LOGGING
            else DR().columns(_rows(block, pmfs[self.against], q, bucket))[:, 0]
        )
        sums.add(_take(rows, judging), reference[judging])
        flat = np.repeat(judging, block.sizes)
        sums.always_one &= bool(np.all(np.isclose(pmf[flat], 0) | np.isclose(pmf[flat], 1)))
        sums.uniform_log &= uniform_log
        if block.logging_pmf is None:
            sums.has_logging_pmf = False
        else:
            sums.unsupported += float(pmf[flat][block.logging_pmf[flat] <= 0].sum())

    def report(self) -> Report:
        """Return verdicts and, where the log supports them, estimates."""
        checks = self._health()
        first, last = self._span or (0, 0)
        sums = self._on_policy
        judged = {t.name: self._judge(t, overall(checks)) for t in self.targets}
        return Report(
            rows=sum(len(ids) for ids in self._ids),
            members=len(self._members),
            first=first,
            last=last,
            mean_reward=None if sums is None else float(sums.totals[:, 0].sum() / sums.rows),
            certain_share=self._certain / max(1, sum(len(ids) for ids in self._ids)),
            sha256=self._hash.hexdigest(),
            verdict=overall(checks),
            checks=checks,
            targets=judged,
        )

    def _judge(self, target: Target, log_verdict: Verdict) -> Judged:
        sums = self._sums[target.name]
        support = sums.support or Support(weights=BucketSums.of(np.empty((0, 2)), _NO_ROWS))
        unsupported = sums.unsupported / support.rows if support.rows else 0.0
        checks = support_checks(support, unsupported if sums.has_logging_pmf else None)
        verdict = overall(checks)
        refusal = None
        if log_verdict is Verdict.REFUSE:
            verdict, refusal = Verdict.REFUSE, "the log itself is refused"
        elif verdict is Verdict.REFUSE:
            refusal = next(c.message for c in checks if c.status is Verdict.REFUSE)
        found = {}
        for estimator, each in zip(ESTIMATORS, sums.estimators, strict=True):
            if refusal is not None or each is None:
                found[estimator.name] = Estimate(estimate=None, reason=f"refused: {refusal}")
            elif estimator.name == "rejection" and not (sums.uniform_log and sums.always_one):
                found[estimator.name] = Estimate(estimate=None, reason=NEEDS_UNIFORM)
            else:
                found[estimator.name] = estimate(estimator, each)
        if refusal is not None or sums.difference is None:
            difference = Estimate(estimate=None, reason=f"refused: {refusal}")
        else:
            difference = estimate(IPS(), sums.difference)  # a mean: any estimator with interval
        return Judged(
            verdict=verdict,
            checks=checks,
            support=support,
            rows_left_out=sums.left_out,
            estimators=found,
            difference=difference,
            against=self.against,
        )

    def _health(self) -> list[Check]:
        rows = sum(len(ids) for ids in self._ids)
        checks = [
            Check(
                name="rows", status=Verdict.OK if rows else Verdict.REFUSE, value=float(rows),
                limit=1, message=f"{rows:,} rows" if rows else "the log is empty",
            )
        ]  # fmt: skip
        elsewhere = self._certain_elsewhere / max(1, rows)
        checks.append(
            Check(
                name="certain_rows", value=elsewhere, limit=1.0,
                status=Verdict.CAUTION if elsewhere > MOST_CERTAIN else Verdict.OK,
                message=f"{elsewhere:.1%} of rows are certain choices outside a baseline cell; "
                "they are left out, so the estimates are of the other contexts only",
            )
        )  # fmt: skip
        ids = np.concatenate(self._ids) if self._ids else _NO_ROWS
        duplicates = len(ids) - len(np.unique(ids))
        share = duplicates / max(1, rows)
        checks.append(
            Check(
                name="duplicates", value=float(duplicates), limit=0.01 * max(1, rows),
                status=Verdict.OK if not duplicates
                else Verdict.CAUTION if share <= 0.01 else Verdict.REFUSE,
                message=f"{duplicates:,} rows repeat a decision id",
            )
        )  # fmt: skip
        checks.append(
            Check(
                name="time_order", value=float(not self._in_order), limit=1,
                status=Verdict.OK if self._in_order else Verdict.CAUTION,
                message="rows are in order of time" if self._in_order
                else "rows are not in order of time: q-hat may have seen later rows",
            )
        )  # fmt: skip
        if self._uniform is not None and (z := self._uniform.mean_weight_z) is not None:
            status = Verdict.OK
            if not abs(z) <= MEAN_WEIGHT_CAUTION:
                status = Verdict.CAUTION if abs(z) <= MEAN_WEIGHT_REFUSE else Verdict.REFUSE
            checks.append(
                Check(
                    name="counts_against_propensities", value=float(z), limit=MEAN_WEIGHT_REFUSE,
                    status=status,
                    message="variant counts, weighed by their propensities, are "
                    f"{abs(z):.1f} standard errors from what those propensities promise",
                )
            )  # fmt: skip
        return checks

    def _note(self, block: ReplayBlock) -> None:
        self._members.update(block.member_ids)
        ids = [hashlib.blake2b(d.encode(), digest_size=8).digest() for d in block.decision_ids]
        self._ids.append(np.frombuffer(b"".join(ids), np.int64))
        first, last = int(block.occurred_at.min()), int(block.occurred_at.max())
        before = self._span
        self._in_order &= bool(np.all(np.diff(block.occurred_at) >= 0))
        self._in_order &= before is None or first >= before[1]
        self._span = (
            (first, last) if before is None else (min(before[0], first), max(before[1], last))
        )
        for part in (self._ids[-1], block.chosen, block.propensity, block.reward):
            self._hash.update(part.tobytes())

    def _target(self, name: str) -> Target:
        return next(t for t in self.targets if t.name == name)


def evaluate(
    blocks: Iterable[ReplayBlock], targets: Sequence[Target], lookup: Lookup,
    against: str = LOGGING,
) -> Report:  # fmt: skip
    """Judge targets on a log whose blocks come in time order."""
    evaluation = Evaluation(targets, lookup, against)
    for block in blocks:
        evaluation.add(block)
    return evaluation.report()


_NO_ROWS = np.empty(0, np.int64)


def _rows(block: ReplayBlock, pmf: Floats, q: Floats, bucket: Ints) -> Rows:
    offsets = block.offsets
    shown = offsets[:-1] + block.chosen
    best = first_maximum(pmf, offsets)
    return Rows(
        weight=pmf[shown] / block.propensity,
        reward=block.reward,
        bucket=bucket,
        target_q=total(pmf * q, offsets),
        shown_q=q[shown],
        matched=(best == shown).astype(np.float64),
    )


def _take(rows: Rows, kept: npt.NDArray[np.bool_]) -> Rows:
    return Rows(
        weight=rows.weight[kept], reward=rows.reward[kept], bucket=rows.bucket[kept],
        target_q=rows.target_q[kept], shown_q=rows.shown_q[kept], matched=rows.matched[kept],
    )  # fmt: skip


def _can_judge(block: ReplayBlock, target: Target) -> npt.NDArray[np.bool_]:
    """Return which rows can judge the target."""
    kept = np.ones(len(block), bool)
    if target.after is not None:
        kept &= block.occurred_at > target.after
    if target.variant_id is not None:
        has = np.array([target.variant_id in s.variant_ids for s in block.action_sets], bool)
        kept &= has[block.set_of_row]
    return kept


def _plus(total_so_far: BucketSums | None, more: BucketSums) -> BucketSums:
    return more if total_so_far is None else total_so_far + more
