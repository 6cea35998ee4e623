"""What the log says of one target, or of a part of it: mergeable sums, and estimates from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from artwork_bandit.domain import CLUSTERS, MEMBER_BUCKETS, Floats, Ints
from artwork_bandit.estimators import (
    ESTIMATORS,
    BucketSums,
    Estimate,
    Estimator,
    Rows,
    bootstrap,
    cressie_read,
    estimate,
    sequence,
)
from artwork_bandit.estimators.cressie_read import Corner
from artwork_bandit.estimators.diagnostics import Support
from artwork_bandit.estimators.dr import DR
from artwork_bandit.estimators.ips import IPS
from artwork_bandit.evaluation.reach import Odds, Range, Reach, Rival

Interval = Literal["cressie-read", "delta", "bootstrap", "anytime"]
NEEDS_UNIFORM = (
    "valid only for a uniform log of action sets of one size and a target that always shows one "
    "variant"
)
DAY = 24 * 3600 * 1_000_000
TIGHTEST = 20_000
"""Rows at which an anytime-valid interval is tightest: said before anything is looked at."""
MOST_TIMES = 1_000
"""A difference that so many times the log would not show is none that can be waited for."""
WEIGHT, REWARD, CORRECTED, DIFFERENCE, APART = range(5)
"""Columns of the clusters' sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How intervals are made."""

    interval: Interval = "cressie-read"
    level: float = 0.95
    bounds: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest reward there can be."""
    seed: int = 1
    """Of the bootstrap."""


@dataclass(slots=True)
class Evidence:
    """Sums over the rows that can judge a target."""

    clusters: int = CLUSTERS
    estimators: list[BucketSums | None] = field(default_factory=lambda: [None] * len(ESTIMATORS))
    support: Support | None = None
    terms: BucketSums | None = None
    """Per cluster of members: w, w r, the corrected reward, its difference to the rival's, and that
    of their weights, plus 1."""
    by_day: dict[int, BucketSums] = field(default_factory=dict)
    """UTC day -> the corrected reward and the number of rows."""
    means: Floats = field(default_factory=lambda: np.zeros(4))
    """Sums of the reward, and of the target's, the shown one's and the rival's prediction."""
    predictions: Range = field(default_factory=Range)
    gap: Range = field(default_factory=Range)
    """Of the target's prediction less the rival's."""
    either: Range = field(default_factory=Range)
    """Of all three predictions."""
    odds: Odds = field(default_factory=Odds)
    ahead: Odds = field(default_factory=Odds)
    """What bounds how far the target's weight is above the rival's."""
    behind: Odds | None = None
    """And below; None for the logging policy, whose weight is 1."""
    unsupported: float | None = 0.0
    """Target probability of what was never shown, summed; None if some rows do not tell."""

    @property
    def unsupported_share(self) -> float | None:
        """Share of the target's probability on what was never shown, None if nobody knows."""
        rows = 0 if self.support is None else self.support.rows
        return None if self.unsupported is None or not rows else self.unsupported / rows

    @property
    def heaviest(self) -> float:
        """Largest weight that the logging policy's floor permits."""
        return max(1.0, self.odds.bound)

    @property
    def apart(self) -> tuple[float, float]:
        """Return how far the target's weight may be below and above the rival's in a row."""
        if self.behind is None:
            return -1.0, self.heaviest - 1.0
        return -self.behind.bound, self.ahead.bound

    @property
    def effective_clusters(self) -> float:
        """Number of equally rewarded clusters (members) that would be as informative."""
        if self.terms is None:
            return 0.0
        earned = np.abs(self.terms.totals[:, REWARD])
        squares = float(np.sum(earned**2))
        return float(earned.sum()) ** 2 / squares if squares else 0.0

    def add(self, rows: Rows, rival: Rival, reach: Reach, day: Ints | None = None) -> None:
        """Take in rows; `day` is the UTC day of each if a course over time is wanted."""
        for i, estimator in enumerate(ESTIMATORS):
            sums = BucketSums.of(estimator.columns(rows), rows.bucket)
            self.estimators[i] = plus(self.estimators[i], sums)
        corrected = DR().columns(rows)[:, 0]
        of_rival = rival.predicted + rival.weight * (rows.reward - rows.shown_q)
        terms = (
            rows.weight, rows.weight * rows.reward, corrected, corrected - of_rival,
            rows.weight - rival.weight + 1.0,
        )  # fmt: skip
        cluster = rows.cluster % self.clusters
        more = BucketSums.of(np.stack(terms, axis=1), cluster, self.clusters)
        self.terms = plus(self.terms, more)
        support = Support.of(rows)
        self.support = plus(self.support, support)
        q = (rows.target_q, rows.shown_q, rival.predicted)
        self.means += [rows.reward.sum(), *(each.sum() for each in q)]
        self.predictions.see(rows.target_q, rows.shown_q)
        self.gap.see(rows.target_q - rival.predicted)
        self.either.see(*q)
        self.odds |= reach.odds
        if rival.ahead is not None and rival.behind is not None:
            self.ahead |= rival.ahead.odds
            self.behind = rival.behind.odds | (self.behind or Odds())
        if reach.unsupported is None:
            self.unsupported = None
        elif self.unsupported is not None:
            self.unsupported += float(reach.unsupported.sum())
        for each in [] if day is None else np.unique(day).tolist():
            on = day == each
            columns = np.stack([corrected[on], np.ones(int(on.sum()))], axis=1)
            sums = BucketSums.of(columns, rows.bucket[on])
            self.by_day[each] = added(self.by_day.get(each), sums)

    def __iadd__(self, other: Evidence) -> Evidence:
        for i, sums in enumerate(other.estimators):
            self.estimators[i] = plus(self.estimators[i], sums)
        self.terms = plus(self.terms, other.terms)
        self.support = plus(self.support, other.support)
        self.means = self.means + other.means
        self.predictions += other.predictions
        self.gap += other.gap
        self.either += other.either
        self.odds |= other.odds
        self.ahead |= other.ahead
        if other.behind is not None:
            self.behind = other.behind | (self.behind or Odds())
        both = (self.unsupported, other.unsupported)
        self.unsupported = None if None in both else sum(x for x in both if x is not None)
        for day, sums in other.by_day.items():
            self.by_day[day] = added(self.by_day.get(day), sums)
        return self

    def estimates(self, method: Method, *, with_rejection: bool) -> dict[str, Estimate]:
        """Return every estimator's estimate, and the Cressie-Read one."""
        found = {"cressie_read": self._cressie_read(REWARD, method)}
        for estimator, sums in zip(ESTIMATORS, self.estimators, strict=True):
            if estimator.name == "rejection" and not with_rejection:
                found[estimator.name] = Estimate(
                    estimate=None, level=method.level, reason=NEEDS_UNIFORM
                )
            elif sums is not None:
                found[estimator.name] = _possible(
                    self._estimate(estimator, sums, method), method.bounds
                )
        return found

    def difference(self, method: Method) -> Estimate:
        """Return the mean difference between the target's corrected reward and the rival's."""
        assert self.terms is not None, "asked for where there are rows"
        paired = np.stack([self.terms.totals[:, DIFFERENCE], self.terms.counts], axis=1)
        sums = folded(BucketSums(paired, self.terms.counts))
        return self._with_interval(IPS(), estimate(IPS(), sums, method.level), sums, DIFFERENCE,
                                   method)  # fmt: skip

    def _estimate(self, estimator: Estimator, sums: BucketSums, method: Method) -> Estimate:
        plain = estimate(estimator, sums, method.level)
        if plain.lower is None:
            return plain
        term = None if estimator.predicted is None else REWARD + estimator.predicted
        return self._with_interval(estimator, plain, sums, term, method)

    def _with_interval(
        self, estimator: Estimator, plain: Estimate, sums: BucketSums, term: int | None,
        method: Method,
    ) -> Estimate:  # fmt: skip
        """Return the estimate with the interval asked for, where it applies."""
        value, error = plain.estimate, plain.standard_error
        if value is None or error is None:
            return plain
        match method.interval:
            case "cressie-read" if term is not None:
                wide = self._cressie_read(term, method)
                assert wide.lower is not None, "more than one bucket: more than one cluster"
                assert wide.upper is not None, "more than one bucket: more than one cluster"
                return replace(
                    plain, lower=min(wide.lower, value), upper=max(wide.upper, value),
                    interval=wide.interval,
                )  # fmt: skip
            case "bootstrap":
                rng = np.random.default_rng(method.seed)
                lower, upper = bootstrap.interval(sums, method.level, rng)
                name = "bootstrap, by groups of members"
                return replace(plain, lower=lower, upper=upper, interval=name)
            case "anytime":
                half = sequence.half_width(error, sums.rows, 1 - method.level, TIGHTEST)
                name = "anytime-valid, clustered by member"
                return replace(plain, lower=value - half, upper=value + half, interval=name)
        return plain

    def _cressie_read(self, term: int, method: Method) -> Estimate:
        assert self.terms is not None, "asked for where there are rows"
        low, high = method.bounds
        if term == DIFFERENCE:
            corners = [self._corner_apart(each, method) for each in self.apart]
            bounds, weight = (low - high, high - low), APART
        else:
            corners = [self._corner(each, term, method) for each in (0.0, self.heaviest)]
            bounds, weight = (low, high), WEIGHT
        sums = BucketSums(self.terms.totals[:, [weight, term]], self.terms.counts)
        return cressie_read.estimate(sums, corners, bounds, method.level)

    def _corner(self, weight: float, term: int, method: Method) -> Corner:
        """Return the worst rows of a weight; see `estimators.cressie_read`."""
        low, high = method.bounds
        reward, target_q, shown_q, _ = self._mean
        if term == REWARD:
            return Corner(
                weight=weight, lowest=weight * low, likely=weight * reward, highest=weight * high
            )
        q = self.predictions
        return Corner(
            weight=weight,
            lowest=q.low + weight * (low - q.high),
            likely=target_q + weight * (reward - shown_q),
            highest=q.high + weight * (high - q.low),
        )

    def _corner_apart(self, apart: float, method: Method) -> Corner:
        """Return the worst rows in which the weights of target and rival are so far apart: their
        difference is that of the predictions, and so many times what the reward is beyond the
        prediction of what was shown. Whatever is subtracted from which, it is the same."""
        (low, high), q = method.bounds, self.either
        reward, target_q, shown_q, rival_q = self._mean
        ends = [apart * (low - q.high), apart * (high - q.low)]
        return Corner(
            weight=1.0 + apart,
            lowest=self.gap.low + min(ends),
            likely=target_q - rival_q + apart * (reward - shown_q),
            highest=self.gap.high + max(ends),
        )

    @property
    def _mean(self) -> Floats:
        """The means of a row."""
        found: Floats = self.means / max(1, self.support.rows if self.support else 0)
        return found


def _possible(found: Estimate, bounds: tuple[float, float]) -> Estimate:
    """Return an estimate that can be a mean reward, None with the reason instead of another."""
    low, high = bounds
    value = found.estimate
    slack = 1e-9 * (high - low)
    if value is None or low - slack <= value <= high + slack:
        return found
    return Estimate(
        estimate=None, level=found.level,
        reason=f"it comes to {value:.4f}, and a mean reward lies in {low:g} to {high:g}: its "
        "weights, or its predictions, are too far off for so few rows",
    )  # fmt: skip


Sums = TypeVar("Sums", BucketSums, Support)


def added(so_far: Sums | None, more: Sums) -> Sums:
    """Return the sum where there may be nothing yet."""
    return more if so_far is None else so_far + more


def plus(so_far: Sums | None, more: Sums | None) -> Sums | None:
    """Return the sum of what there is of both."""
    return so_far if more is None else added(so_far, more)


def folded(sums: BucketSums) -> BucketSums:
    """Return the sums of clusters as sums of buckets."""
    bucket = np.arange(len(sums.counts)) % MEMBER_BUCKETS
    counts = np.bincount(bucket, sums.counts, MEMBER_BUCKETS).astype(np.float64)
    return BucketSums(BucketSums.of(sums.totals, bucket).totals, counts)


def rows_to_decide(difference: Estimate, rows: int) -> int | None:
    """Return how many rows like these would make the interval exclude 0, if the estimate is true.

    The distance from the estimate to the end beyond 0 falls with the root of the number of rows.
    """
    if difference.estimate is None or difference.lower is None or difference.upper is None:
        return None
    if not difference.lower < 0 < difference.upper or difference.estimate == 0:
        return None
    if difference.estimate in (difference.lower, difference.upper):
        return None
    value = difference.estimate
    half = value - difference.lower if value > 0 else difference.upper - value
    times = (half / difference.estimate) ** 2
    return round(rows * times) if times <= MOST_TIMES else None
