"""What an evaluation finds, as values."""

from __future__ import annotations

from dataclasses import dataclass

from artwork_bandit.estimators import BucketSums, Estimate
from artwork_bandit.estimators.diagnostics import Support
from artwork_bandit.evaluation.evidence import Method
from artwork_bandit.evaluation.verdict import Check, Verdict

LOGGING = "logging"
"""What a target is compared with unless another is named: what was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A target's value in a part of the log."""

    name: str
    verdict: Verdict
    rows: int
    effective_sample_size: float
    value: Estimate
    """At a level that makes all segments' intervals cover together."""
    difference: Estimate
    reason: str | None
    """Why it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A target's verdict, diagnostics and estimates."""

    verdict: Verdict
    checks: list[Check]
    support: Support
    heaviest: float
    """Largest weight that the logging policy's floor permits."""
    rows_left_out: int
    """Rows that cannot judge it: trained on or before them, or its variant not eligible."""
    estimators: dict[str, Estimate]
    difference: Estimate
    against: str
    rows_to_decide: int | None
    """Rows like these after which the difference would probably show; None if it does, or if
    even a thousand times the log would not show it."""
    segments: list[Segment]
    by_day: dict[int, BucketSums]
    """UTC day -> sums of the corrected reward and of rows; empty if refused."""


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
    method: Method
    cluster: str
    """`member_id`, or what else tells which rows are not independent."""
    segments_by: str | None
    reward_rule: str | None = None
    """The version of the rule that its rewards are of; None where the log does not say."""
    apart: int | None = None
    """Rows left out as their cell, or their time, cannot be told together with others; None where
    each row was weighed by its own propensity."""

    of_today: bool = False
    """Whether models were told the features variants have today, as the log does not say which
    they had."""

    @property
    def notes(self) -> list[str]:
        """Return what a reader of several numbers should know, in sentences."""
        told = [j for j in self.targets.values() if j.verdict is not Verdict.REFUSE]
        found = []
        if self.of_today:
            found.append(
                "models chose by the features that variants have in the catalogue today: a file "
                "does not say which they had"
            )
        if self.apart is not None:
            found.append(
                "the explore, the live and the challenger cell were weighed as one policy's log; "
                f"{self.apart:,} rows, of the baseline or while these changed, are left out"
            )
        if len({(j.support.rows, j.rows_left_out) for j in told}) > 1:
            found.append(
                "Targets are judged on different rows (a model only on those after its training): "
                "their values are not for comparing; --against compares two on the rows of both."
            )
        if told and self.method.interval == "cressie-read":
            found.append(
                "ips and snips have the interval of cressie_read: all three are the mean of the "
                "same weighted rewards, and that interval knows both weights and rewards."
            )
        return found
