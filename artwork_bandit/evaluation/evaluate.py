"""Counterfactual evaluation: sums over the log's rows for any number of targets, and what they say.

The log is read twice, in any order and in any pieces: once for what must be known of all of it
(`question.Survey`), once to judge. Evaluations of pieces add up to that of the whole.

Rows whose choice was certain though others were eligible (the baseline cell) support nothing but
themselves: they leave the evaluation, and their share is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints, ReplayBlock
from artwork_bandit.errors import InvalidInput
from artwork_bandit.estimators import ESTIMATORS, BucketSums, Estimate, Rows
from artwork_bandit.estimators.diagnostics import Support
from artwork_bandit.evaluation.distinct import hashed
from artwork_bandit.evaluation.evidence import DAY, Evidence, Method, rows_to_decide
from artwork_bandit.evaluation.health import Health
from artwork_bandit.evaluation.question import Cluster, Question, Survey
from artwork_bandit.evaluation.reach import Rival, apart, reach_of
from artwork_bandit.evaluation.results import LOGGING, Judged, Report, Segment
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import (
    BOUNDED,
    NO_ROW,
    NORMAL,
    Check,
    Limits,
    Verdict,
    agreement,
    outside,
    overall,
    support_checks,
)
from artwork_bandit.policies.block import ActionTable, InMemory, Log, Lookup
from artwork_bandit.policies.ragged import first_maximum, total

SEGMENT_CLUSTERS = 4_096
"""Clusters within a segment, of which there may be many."""
NO_SUPPORT = Support(weights=BucketSums.of(np.empty((0, 2)), np.empty(0, np.int64)))
VALUE = "dr"
"""The estimator of segments and of the course over time."""


@dataclass(slots=True)
class _Sums:
    """What one target accumulates."""

    evidence: Evidence = field(default_factory=Evidence)
    segments: dict[str, Evidence] = field(default_factory=dict)
    always_one: bool = True
    uniform_log: bool = True
    smallest: int = 2**62
    largest: int = 0
    """Sizes of the action sets: of smaller ones uniform choices match more often."""
    left_out: int = 0

    def __iadd__(self, other: _Sums) -> _Sums:
        self.evidence += other.evidence
        for name, evidence in other.segments.items():
            mine = self.segments.setdefault(name, Evidence(SEGMENT_CLUSTERS))
            mine += evidence
        self.always_one &= other.always_one
        self.uniform_log &= other.uniform_log
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)
        self.left_out += other.left_out
        return self


class Evaluation:
    """Takes in blocks; merges with `+=`; `report` may be asked for at any time."""

    def __init__(self, question: Question, span: Span, survey: Survey) -> None:
        self.question = question
        self._segments = survey.segments(question)
        self._outcome = survey.outcome_model(question)
        self._sums = {target.name: _Sums() for target in question.targets}
        self._health = Health(span)

    def add(self, block: ReplayBlock, table: ActionTable) -> None:
        """Take in the next block, whose variants are found in `table`; raises InvalidInput for a
        reward outside the bounds."""
        if not len(block):
            return
        question = self.question
        require_within(block.reward, question.method.bounds)
        members, sure = hashed(block.member_ids), block.certain
        self._health.note(block, members, sure)
        if sure.all():
            return
        if sure.any():
            block, members = block.take(~sure), members[~sure]
        cluster = question.clusters_of(block, members)
        q = self._outcome.predict(block, members) if block.q_hat is None else block.q_hat
        self._health.compare(block, cluster)
        uniform_log = bool(np.abs(block.sizes * block.propensity - 1.0).max() <= 1e-5)
        pmfs = {t.name: t.pmf(block, table) for t in question.targets}
        part = None if self._segments is None else np.array(self._segments.of(block), object)
        for target in question.targets:
            self._add_target(target, block, pmfs, q, cluster, uniform_log, part)

    def __iadd__(self, other: Evaluation) -> Evaluation:
        self._health += other._health
        for name, sums in self._sums.items():
            sums += other._sums[name]
        return self

    def _add_target(
        self, target: Target, block: ReplayBlock, pmfs: dict[str, Floats], q: Floats,
        cluster: Ints, uniform_log: bool, part: npt.NDArray[np.object_] | None,
    ) -> None:  # fmt: skip
        sums = self._sums[target.name]
        judging = can_judge(block, target)
        against = self.question.against
        if against != LOGGING:
            judging &= can_judge(block, self.question.target(against))
        sums.left_out += int(len(block) - judging.sum())
        if not judging.any():
            return
        pmf = pmfs[target.name]
        rows = _rows(block, pmf, q, cluster)
        rival = Rival.logging(rows)
        if against not in (LOGGING, target.name):  # nothing differs from itself
            other = _rows(block, pmfs[against], q, cluster)
            ahead, behind = apart(pmf - pmfs[against], block)
            rival = Rival(weight=other.weight, predicted=other.target_q, ahead=ahead, behind=behind)
        whole = bool(judging.all())
        reach = reach_of(pmf, block)
        day = block.occurred_at // DAY
        sums.evidence.add(
            rows if whole else _take(rows, judging), rival.take(judging), reach.take(judging),
            day[judging],
        )  # fmt: skip
        for name in () if part is None else np.unique(part[judging].astype(str)).tolist():
            inside = judging & (part == name)
            evidence = sums.segments.setdefault(name, Evidence(SEGMENT_CLUSTERS))
            evidence.add(_take(rows, inside), rival.take(inside), reach.take(inside))
        if sums.always_one:
            flat = np.repeat(judging, block.sizes)
            sums.always_one = bool(np.all(np.minimum(pmf, 1 - pmf)[flat] <= 1e-5))
        sums.uniform_log &= uniform_log
        sizes = block.sizes[judging]
        sums.smallest = min(sums.smallest, int(sizes.min()))
        sums.largest = max(sums.largest, int(sizes.max()))

    def report(self, known: Sequence[Check] = ()) -> Report:
        """Return verdicts and, where the log supports them, estimates; `known` is what has been
        found out about the log elsewhere."""
        health, question = self._health, self.question
        checks = [*health.checks(), *known]
        first, last = health.span or (0, 0)
        judged = {t.name: self._judge(t, overall(checks)) for t in question.targets}
        return Report(
            rows=health.rows,
            members=health.members.distinct,
            first=first,
            last=last,
            mean_reward=health.mean_reward,
            certain_share=health.certain / max(1, health.rows),
            sha256=health.sha256,
            verdict=overall(checks),
            checks=checks,
            targets=judged,
            method=question.method,
            cluster=question.cluster,
            segments_by=question.by,
        )

    def _judge(self, target: Target, log_verdict: Verdict) -> Judged:
        sums, method = self._sums[target.name], self.question.method
        evidence = sums.evidence
        support = evidence.support or NO_SUPPORT
        checks = self._support_checks(evidence, target)
        refusal = _refusal(checks, log_verdict)
        names = ("cressie_read", *(e.name for e in ESTIMATORS))
        found = {name: Estimate(estimate=None, reason=f"refused: {refusal}") for name in names}
        difference = Estimate(estimate=None, reason=f"refused: {refusal}")
        if refusal is None:
            rejection = sums.uniform_log and sums.always_one and sums.smallest == sums.largest
            found = evidence.estimates(method, with_rejection=rejection)
            if target.name == self.question.against:
                difference = Estimate(
                    estimate=0.0, standard_error=0.0, lower=0.0, upper=0.0,
                    level=method.level, interval="itself",
                )  # fmt: skip
            else:
                difference = self._difference(
                    evidence, self._against_refusal(), self.question.method
                )
            checks += [*agreement(found), *outside(found | {"difference": difference})]
        return Judged(
            verdict=Verdict.REFUSE if refusal is not None else overall(checks),
            checks=checks,
            support=support,
            heaviest=evidence.heaviest,
            rows_left_out=sums.left_out,
            estimators={name: self._named(e) for name, e in found.items()},
            difference=self._named(difference),
            against=self.question.against,
            rows_to_decide=rows_to_decide(difference, support.rows),
            segments=self._judge_segments(sums, log_verdict),
            by_day={} if refusal is not None else evidence.by_day,
        )

    @property
    def _limits(self) -> Limits:
        return BOUNDED if self.question.method.interval == "cressie-read" else NORMAL

    def _support_checks(self, evidence: Evidence, target: Target | None = None) -> list[Check]:
        support = evidence.support or NO_SUPPORT
        none = NO_ROW
        if target is not None and target.variant_id is not None:
            none = f"variant {target.variant_id!r} could be shown in no row of the log"
        elif target is not None and target.after is not None:
            none = (
                "the log has no row after those that it was trained or chosen on, or only rows "
                "whose choice was certain"
            )
        return support_checks(
            support, evidence.unsupported_share, self._limits, evidence.effective_clusters,
            f"{self.question.cluster.removesuffix('_id')}s", none,
        )  # fmt: skip

    def _against_refusal(self, segment: str | None = None) -> str | None:
        """Return why nothing can be compared with what is subtracted, or None."""
        if self.question.against == LOGGING:
            return None
        sums = self._sums[self.question.against]
        evidence = sums.evidence if segment is None else sums.segments.get(segment)
        if evidence is None or evidence.support is None:
            return "no row can judge it"
        return _refusal(self._support_checks(evidence), Verdict.OK)

    def _difference(self, evidence: Evidence, refusal: str | None, method: Method) -> Estimate:
        if refusal is not None:
            reason = f"refused: {self.question.against}: {refusal}"
            return Estimate(estimate=None, level=method.level, reason=reason)
        return evidence.difference(method)

    def _named(self, found: Estimate) -> Estimate:
        """Return an estimate whose interval says what its rows are clustered by."""
        by = self.question.cluster.removesuffix("_id")
        return replace(found, interval=found.interval and found.interval.replace("member", by))

    def _judge_segments(self, sums: _Sums, log_verdict: Verdict) -> list[Segment]:
        """Return the segments, the largest first, at a level that holds for all (Bonferroni)."""
        checks = {
            name: self._support_checks(e)
            for name, e in sums.segments.items()
            if e.support is not None
        }
        refusals = {name: _refusal(each, log_verdict) for name, each in checks.items()}
        judged = sum(refusal is None for refusal in refusals.values())
        level = 1 - (1 - self.question.method.level) / max(1, judged)
        method = replace(self.question.method, level=level)
        found = []
        for name, refusal in refusals.items():
            evidence = sums.segments[name]
            support = evidence.support
            assert support is not None, "a segment has rows"
            value = difference = Estimate(estimate=None, level=level, reason=f"refused: {refusal}")
            if refusal is None:
                value = evidence.estimates(method, with_rejection=False)[VALUE]
                difference = self._difference(evidence, self._against_refusal(name), method)
            found.append(
                Segment(
                    name=name,
                    verdict=overall(checks[name]) if refusal is None else Verdict.REFUSE,
                    rows=support.rows,
                    effective_sample_size=support.effective_sample_size,
                    value=self._named(value), difference=self._named(difference),
                    reason=refusal,
                )
            )  # fmt: skip
        return sorted(found, key=lambda s: (-s.rows, s.name))


def evaluate(
    blocks: Iterable[ReplayBlock], targets: Sequence[Target], lookup: Lookup,
    against: str = LOGGING, method: Method | None = None, cluster: Cluster = "member_id",
    by: str | None = None,
) -> Report:  # fmt: skip
    """Judge targets on a log that is in memory."""
    kept = list(blocks)
    question = Question(
        targets=tuple(targets), lookup=lookup, against=against, method=method or Method(),
        cluster=cluster, by=by,
    )  # fmt: skip
    times = [block.occurred_at for block in kept]
    span = Span.of(np.concatenate(times) if times else np.empty(0, np.int64))
    return evaluated(InMemory(kept), question, span)


def evaluated(
    log: Log, question: Question, span: Span, known: Sequence[Check] = (), *,
    surveyed: bool = True,
) -> Report:  # fmt: skip
    """Read the log and return what it says; `span` is its own, `known` what has been found out
    about it elsewhere. Without `surveyed` the first pass is left out: all rows bring their q-hat,
    and no segments are asked for."""
    survey = Survey(question, span)
    if surveyed:
        for part in log.map(_survey, question, span, detail=question.detail("plain")):
            survey += part
    evaluation = Evaluation(question, span, survey)
    detail = question.detail("no contexts")
    for each in log.map(_evaluation, question, span, survey, detail=detail):
        evaluation += each
    return evaluation.report(known)


def _survey(blocks: Iterable[ReplayBlock], question: Question, span: Span) -> Iterator[Survey]:
    survey = Survey(question, span)
    for block in blocks:
        survey.add(block)
    yield survey


def _evaluation(
    blocks: Iterable[ReplayBlock], question: Question, span: Span, survey: Survey
) -> Iterator[Evaluation]:
    evaluation, table = Evaluation(question, span, survey), ActionTable(question.lookup)
    for block in blocks:
        evaluation.add(block, table)
    yield evaluation


def _rows(block: ReplayBlock, pmf: Floats, q: Floats, cluster: Ints) -> Rows:
    offsets = block.offsets
    shown = offsets[:-1] + block.chosen
    best = first_maximum(pmf, offsets)
    return Rows(
        weight=pmf[shown] / block.propensity,
        reward=block.reward,
        cluster=cluster,
        target_q=total(pmf * q, offsets),
        shown_q=q[shown],
        matched=(best == shown).astype(np.float64),
    )


def _take(rows: Rows, kept: npt.NDArray[np.bool_]) -> Rows:
    return Rows(
        weight=rows.weight[kept], reward=rows.reward[kept], cluster=rows.cluster[kept],
        target_q=rows.target_q[kept], shown_q=rows.shown_q[kept], matched=rows.matched[kept],
    )  # fmt: skip


def require_within(reward: Floats, bounds: tuple[float, float]) -> None:
    """Raise InvalidInput if a reward is outside the bounds."""
    low, high = bounds
    if np.any((reward < low) | (reward > high)):
        raise InvalidInput(
            f"the log has rewards from {reward.min():g} to {reward.max():g}, outside {low:g} to "
            f"{high:g}; say `--reward-bounds` of the rule that made them"
        )


def can_judge(block: ReplayBlock, target: Target) -> npt.NDArray[np.bool_]:
    """Return which rows can judge the target. What was eligible alone says nothing of one variant:
    where a title's exploration is paused, that is what a model likes for this very member in logs
    of earlier releases."""
    kept = np.ones(len(block), bool)
    if target.after is not None:
        kept &= block.occurred_at > target.after
    if target.variant_id is not None:
        of = target.variant_id
        has = np.array(
            [of in s.variant_ids and len(s.variant_ids) > 1 for s in block.action_sets], bool
        )
        kept &= has[block.set_of_row]
    return kept


def _refusal(checks: list[Check], log_verdict: Verdict) -> str | None:
    """Return why nothing is estimated, or None."""
    if log_verdict is Verdict.REFUSE:
        return "the log itself is refused"
    return next((c.message for c in checks if c.status is Verdict.REFUSE), None)
