"""What each variant of a title would earn if everybody saw it, and their differences.

Under a contextual policy each variant was shown to another audience, so raw rates do not rank
variants. Here each row is worth 1 / propensity, on top of a prediction q that was known before the
row's day (augmented inverse propensity weighting, AIPW; Robins, Rotnitzky and Zhao 1994; for logs
of a policy that learns, Hadad, Hirshberg, Zhan, Wager and Athey 2021):

    V_v = mean(q) + sum w (r - q) / sum w,         w = 1{v shown} / propensity

over decisions where v was eligible; a difference is taken over decisions where both were. Cells
log with very different propensities, so each gives an estimate of its own, and they are joined by
weights that do not know rewards, N^2 / sum w^2 (the variance of w's sum).

Where a policy hardly ever shows a variant, the few rows that would carry its weight may not have
come yet: sum w falls short of N. The missing weight is counted in those variances as rows of the
largest weight the cell's floor permits.

Variances are sums over member buckets. A variant with next to no plays has none to vary: it gets
the variance of the plays that are missing to eight. Ratios of two variants are of the same
decisions, with intervals on the log scale (delta method). Not valid with few rows or few buckets:
`Contrast.enough`, of a value and of each difference by the decisions that it rests on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.estimators import sequence
from artwork_bandit.estimators.tails import t_quantile, t_quantiles

SHRINKAGE = 20.0
"""Rows by which a variant's q is drawn towards its title's."""
FEWEST_ROWS = 100.0
"""Effective rows of a variant before anything is said of it."""
FEWEST_PLAYS = 8.0
"""Plays that a variant's variance is that of, at least."""
FEWEST_BUCKETS = 20
"""Member buckets in which a variant was shown, before anything is said of it."""
PATTERNS_AT_ONCE = 64
WIDEST = 10.0
"""Half width of a log ratio beyond which it says nothing."""
TIGHTEST = 5_000
"""Rows at which intervals are tightest."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """Sums over the decisions of one title that were drawn, one row per (day, action set, cell,
    member bucket, variant); n rows."""

    day: Ints
    action_set: Ints
    """n, number of the action set, in [0, sets)."""
    cell: Ints
    """n, number of the cell, in [0, cells)."""
    bucket: Ints
    """n, in [0, buckets)."""
    variant: Ints
    """n, number of the variant shown, in [0, variants)."""
    rows: Floats
    plays: Floats
    weight: Floats
    """n, sum of 1 / propensity."""
    weight2: Floats
    """n, sum of 1 / propensity^2."""
    weighted_plays: Floats
    """n, sum of play / propensity."""
    eligible: npt.NDArray[np.bool_]
    """[sets, variants]."""
    even_share: Floats
    """[cells], probability that the cell spreads evenly over eligible variants, in (0, 1]."""
    buckets: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """k variants: values, and differences of row minus column; NaN where nothing is known."""

    value: Floats
    """k, expected plays per decision."""
    value_error: Floats
    """k, standard errors."""
    common: Floats
    """[k, k], value of the row's variant on decisions where the column's might be shown too."""
    difference: Floats
    """[k, k], value of the row's minus the column's variant, on decisions where both might be."""
    difference_error: Floats
    log_ratio_error: Floats
    """[k, k], standard errors of log(common / common.T); NaN where a value is not above 0."""
    rows: Floats
    """[k, k], decisions where both were eligible."""
    effective_rows: Floats
    """k, effective sample size of the variant's rows."""
    plays: Floats
    """k, plays that the variant's value rests on."""
    enough: npt.NDArray[np.bool_]
    """[k, k], whether there are enough rows and buckets for an interval: of the difference, of
    decisions where both were eligible; in the diagonal, of the value."""
    covariance: Floats
    """[k, k], of the values."""

    @property
    def told(self) -> npt.NDArray[np.bool_]:
        """k, whether there is enough for an interval of the variant's value."""
        return np.diagonal(self.enough)

    def half_widths(self, alpha: float) -> Floats:
        """Return k half widths of (1 - alpha) confidence sequences of the values."""
        return _half_widths(self.value_error, np.diagonal(self.rows), alpha)

    def difference_half_widths(self, alpha: float) -> Floats:
        """Return [k, k] half widths of (1 - alpha) confidence sequences of the differences."""
        return _half_widths(self.difference_error, self.rows, alpha)

    def lift(self, variant: int, baseline: int, alpha: float) -> tuple[float, float, float]:
        """Return (estimate, lower, upper) of the relative difference on common decisions, a
        (1 - alpha) confidence sequence; NaN where a value is not surely above 0."""
        a, b = self.common[variant, baseline], self.common[baseline, variant]
        if not (a > 0 and b > 0):
            return math.nan, math.nan, math.nan
        rows = float(self.rows[variant, baseline])
        unit = sequence.half_width(1.0, max(rows, 1.0), alpha, TIGHTEST)
        half = unit * float(self.log_ratio_error[variant, baseline])
        if not half < WIDEST:
            return math.nan, math.nan, math.nan
        return tuple(float(a / b * math.exp(x)) - 1 for x in (0.0, -half, half))  # type: ignore[return-value]

    def effects(self) -> Floats:
        """Return k relative effects: how far a variant is above the mean of those that it can be
        compared with, by least squares of differences on the decisions that each two have in
        common; NaN where that cannot be told.

        A difference is set against the mean of both, each with its weight: that has nothing to do
        with the difference of two that are alike, where a ratio's chance, in whichever is below the
        line, makes what is above it look good. Weights do not know rewards.
        """
        n = np.where(self.told, self.effective_rows, 0.0)
        both = n + n[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = (n[:, None] * self.common + n * self.common.T) / both
            relative = self.difference / mean
            weight = np.outer(n, n) / both
        known = self.enough & np.isfinite(relative) & (mean > 0)
        np.fill_diagonal(known, False)
        weight = np.where(known, weight, 0.0)
        joined = _joined_most(known, n)
        toward = np.where(known, weight * relative, 0.0).sum(axis=1)
        laplacian = np.diag(weight.sum(axis=1)) - weight
        found = np.full(len(n), np.nan)
        if joined.sum() > 1:
            apart = np.linalg.pinv(laplacian[np.ix_(joined, joined)], hermitian=True)
            effect = apart @ toward[joined]
            found[joined] = effect - np.average(effect, weights=n[joined])
        return found


def _joined_most(known: npt.NDArray[np.bool_], n: Floats) -> npt.NDArray[np.bool_]:
    """Return which are joined by known pairs to the one of most rows."""
    found: npt.NDArray[np.bool_] = np.arange(len(n)) == n.argmax()
    for _ in n:
        found = found | known[found].any(axis=0)
    return found


def _half_widths(error: Floats, rows: Floats, alpha: float) -> Floats:
    counts = np.maximum(rows, 1.0).ravel()
    unit = np.array([sequence.half_width(1.0, float(n), alpha, TIGHTEST) for n in counts])
    half: Floats = error * unit.reshape(rows.shape)
    return half


def contrast(drawn: Drawn) -> Contrast:
    """Return the comparison of a title's variants."""
    s = _sums(drawn)
    n, predicted, surprise, weight = s.rows, s.predicted, s.surprise, s.weight
    weight2, largest, plays = s.weight2, s.largest, s.plays
    total, weighed = n.sum(axis=3), weight.sum(axis=3)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_q = predicted.sum(axis=3) / total
        correction = surprise.sum(axis=3) / weighed
        value = mean_q + correction
        largest = largest / total
        influence = (predicted - mean_q[..., None] * n) / total[..., None]
        influence += (surprise - correction[..., None] * weight) / weighed[..., None]
        missing = np.maximum(total - weighed, 0.0) * largest
        spread = (weight2 + missing) / total**2
        chance = np.clip(value, 0.0, 1.0)
        unseen = missing * chance * (1 - chance) / total**2
    known = (weighed > 0) & np.isfinite(value)
    value, spread, unseen = (np.where(known, x, 0.0) for x in (value, spread, unseen))
    influence = np.where(known[..., None], influence, 0.0)

    own = _joined(np.einsum("vvc->vc", spread), np.einsum("vvc->vc", known))
    values = _total(own, np.einsum("vvc->vc", value))
    of_bucket = np.einsum("vc,vvcb->vb", own, influence)
    covariance = _clustered(of_bucket)
    covariance += np.diag(np.einsum("vc,vvc->v", own**2, unseen))

    with np.errstate(divide="ignore", invalid="ignore"):
        effective = 1 / np.einsum("vc,vvc->v", own**2, spread)
    short = np.maximum(FEWEST_PLAYS - plays, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance += np.diag(np.nan_to_num(np.diagonal(short) / effective**2))

    flipped = (1, 0, 2)
    pair = _joined(spread + spread.transpose(flipped), known & known.transpose(flipped))
    common = _total(pair, value)
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = 1 / np.einsum("vuc,vuc->vu", pair**2, spread)
        few = short / worth**2
    unseen = np.einsum("vuc,vuc->vu", pair**2, unseen) + few
    of_pair = np.einsum("vuc,vucb->vub", pair, influence)
    apart = _summed(of_pair - of_pair.transpose(flipped)) + unseen + unseen.T
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(common > 0, 1 / common, np.nan)
        of_log = of_pair * relative[..., None]
        log_ratio = _summed(of_log - of_log.transpose(flipped))
        log_ratio += unseen * relative**2 + unseen.T * relative.T**2

    used = np.count_nonzero(weight.sum(axis=2), axis=2)
    inflated = t_quantiles(0.975, np.maximum(used - 1, 1)) / t_quantile(0.975, 1e9)
    both_inflated = np.maximum(inflated, inflated.T)
    with np.errstate(invalid="ignore"):
        enough = (worth >= FEWEST_ROWS) & (used >= FEWEST_BUCKETS)
    np.fill_diagonal(enough, (effective >= FEWEST_ROWS) & (np.diagonal(used) >= FEWEST_BUCKETS))
    alone = np.diagonal(enough)
    return Contrast(
        value=values,
        value_error=np.sqrt(np.diagonal(covariance)) * np.diagonal(inflated),
        common=common,
        difference=common - common.T,
        difference_error=np.sqrt(apart) * both_inflated,
        log_ratio_error=np.sqrt(log_ratio) * both_inflated,
        rows=np.einsum("vuc->vu", total),
        effective_rows=np.where(np.isfinite(effective), effective, 0.0),
        plays=np.diagonal(plays),
        enough=enough & enough.T & alone & alone[:, None],
        covariance=covariance,
    )


def chance_to_be_best(found: Contrast, among: Ints, seed: int = 1, draws: int = 4_000) -> Floats:
    """Return, for each of the variants, how often it is best when all are drawn as estimated;
    `found` is of decisions where all of them might be shown.

    A hint only: looked at day after day it crosses any bound sooner or later by chance.
    """
    mean, covariance = found.value[among], found.covariance[np.ix_(among, among)]
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_normal(mean, covariance, draws, method="eigh", check_valid="ignore")
    best = np.argmax(drawn, axis=1)
    share = np.bincount(best, np.full(draws, 1 / draws), len(among))
    return share.astype(np.float64)


class _Sums(NamedTuple):
    """Totals of variant v over the decisions where variant u was eligible too, by cell c and bucket
    b."""

    rows: Floats
    """[v, u, c, b]."""
    predicted: Floats
    """[v, u, c, b], sum of q over the rows where v was eligible."""
    surprise: Floats
    """[v, u, c, b], sum of w (r - q)."""
    weight: Floats
    """[v, u, c, b]."""
    weight2: Floats
    """[v, u, c]."""
    largest: Floats
    """[v, u, c], the largest weight that may come, times the rows."""
    plays: Floats
    """[v, u]."""


def _sums(drawn: Drawn) -> _Sums:
    """Return the sums, of some patterns of eligible variants at a time: clients that leave some
    out make thousands of action sets."""
    days, day = np.unique(drawn.day, return_inverse=True)
    q = _predictions(day, len(days), drawn, drawn.eligible.shape[1])
    patterns, pattern_of = np.unique(drawn.eligible, axis=0, return_inverse=True)
    pattern = pattern_of.ravel()[drawn.action_set]
    order = np.argsort(pattern, kind="stable")
    found: _Sums | None = None
    for first in range(0, len(patterns), PATTERNS_AT_ONCE):
        some = patterns[first : first + PATTERNS_AT_ONCE]
        ends = np.searchsorted(pattern[order], [first, first + len(some)])
        kept = order[slice(*ends)]
        more = _sums_of(drawn, kept, pattern[kept] - first, some, q, day[kept])
        found = more if found is None else _Sums(*(a + b for a, b in zip(found, more, strict=True)))
    assert found is not None, "something was drawn"
    return found


def _sums_of(
    drawn: Drawn, kept: Ints, pattern: Ints, eligible: npt.NDArray[np.bool_], q: Floats, day: Ints
) -> _Sums:
    """Return the sums of some rows, whose patterns of `eligible` [patterns, variants] are given."""
    sets, variants = eligible.shape
    cells, buckets = len(drawn.even_share), drawn.buckets
    rows, variant = drawn.rows[kept], drawn.variant[kept]
    in_cell = pattern * cells + drawn.cell[kept]
    place = in_cell * buckets + drawn.bucket[kept]
    size = sets * cells * buckets

    def total(values: Floats, at: Ints, length: int) -> Floats:
        return np.bincount(at, values, length).astype(np.float64)

    # Every row's day predicts for all variants, not only for the one shown.
    predicted = np.stack([total(rows * q[day, v], place, size) for v in range(variants)], axis=-1)
    shape = (sets, cells, buckets)
    at = place * variants + variant
    surprise = drawn.weighted_plays[kept] - q[day, variant] * drawn.weight[kept]
    of_cell, in_cells = in_cell * variants + variant, sets * cells * variants

    def of_variant(values: Floats) -> Floats:
        return total(values, at, size * variants).reshape(*shape, variants)

    def by_cell(values: Floats) -> Floats:
        return total(values, of_cell, in_cells).reshape(sets, cells, variants)

    summed = total(rows, place, size).reshape(shape)
    largest = summed.sum(axis=2) * eligible.sum(axis=1)[:, None] / drawn.even_share
    both = (eligible[:, :, None] & eligible[:, None, :]).astype(np.float64)
    return _Sums(
        rows=np.einsum("scb,svu->vucb", summed, both),
        predicted=np.einsum("scbv,svu->vucb", predicted.reshape(*shape, variants), both),
        surprise=np.einsum("scbv,svu->vucb", of_variant(surprise), both),
        weight=np.einsum("scbv,svu->vucb", of_variant(drawn.weight[kept]), both),
        weight2=np.einsum("scv,svu->vuc", by_cell(drawn.weight2[kept]), both),
        largest=np.einsum("sc,svu->vuc", largest, both),
        plays=np.einsum("scv,svu->vu", by_cell(drawn.plays[kept]), both),
    )


def _predictions(day: Ints, days: int, drawn: Drawn, variants: int) -> Floats:
    """Return q [day, variant], from the days before; 0 while there is none."""
    at = day * variants + drawn.variant
    counts = np.bincount(at, drawn.rows, days * variants).reshape(days, variants)
    plays = np.bincount(at, drawn.plays, days * variants).reshape(days, variants)
    n, s = (np.vstack([np.zeros(variants), np.cumsum(x, axis=0)[:-1]]) for x in (counts, plays))
    mean = s.sum(axis=1, keepdims=True) / np.maximum(n.sum(axis=1, keepdims=True), 1.0)
    found: Floats = (s + SHRINKAGE * mean) / (n + SHRINKAGE)
    return found


def _joined(spread: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Return the weights of the cells (last axis), by precision; NaN where none knows anything."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(known & (spread > 0), 1 / spread, 0.0)
        weights: Floats = precision / precision.sum(axis=-1, keepdims=True)
    return weights


def _total(weights: Floats, values: Floats) -> Floats:
    found: Floats = np.sum(weights * values, axis=-1)
    return found


def _summed(influence: Floats) -> Floats:
    """Return variances from influences [..., buckets]."""
    buckets = influence.shape[-1]
    found: Floats = buckets / (buckets - 1) * np.sum(influence**2, axis=-1)
    return found


def _clustered(influence: Floats) -> Floats:
    """Return the covariance [v, v] from influences [v, buckets]."""
    buckets = influence.shape[1]
    found: Floats = buckets / (buckets - 1) * influence @ influence.T
    return found
