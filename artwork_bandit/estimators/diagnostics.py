"""How far a log supports a target: effective sample size and the shape of the weights.

    ESS = (sum w)^2 / sum w^2                 (Kong 1992)

and the same of w r, the number of equally weighted rewarded rows the estimate rests on. A mean
weight away from 1 says that propensities are wrong or that the target shows what the log never
did: the expected mean is the share of the target's probability the log supports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import BucketSums, Rows, standard_error, value

PER_OCTAVE, BINS, LIGHTEST = 8, 192, -10
"""Bins of weights: so many for each doubling, from 2^-10 (and 0) on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Support:
    """Mergeable sums about the weights."""

    weights: BucketSums
    """Columns w, 1."""
    squares: float = 0.0
    rewarded: float = 0.0
    rewarded_squares: float = 0.0
    largest: float = 0.0
    tail: Floats = field(default_factory=lambda: np.zeros((BINS, 2)))
    """Per bin of the weight's logarithm: rows, and the sum of their weights."""

    @staticmethod
    def of(rows: Rows) -> Support:
        earned = rows.weight * np.abs(rows.reward)
        columns = np.stack([rows.weight, np.ones(len(rows))], axis=1)
        return Support(
            weights=BucketSums.of(columns, rows.bucket),
            squares=float(np.sum(rows.weight**2)),
            rewarded=float(np.sum(earned)),
            rewarded_squares=float(np.sum(earned**2)),
            largest=float(np.max(rows.weight, initial=0.0)),
            tail=_tail(rows.weight),
        )

    def __add__(self, other: Support) -> Support:
        return Support(
            weights=self.weights + other.weights,
            squares=self.squares + other.squares,
            rewarded=self.rewarded + other.rewarded,
            rewarded_squares=self.rewarded_squares + other.rewarded_squares,
            largest=max(self.largest, other.largest),
            tail=self.tail + other.tail,
        )

    @property
    def rows(self) -> int:
        return self.weights.rows

    @property
    def total(self) -> float:
        return float(self.weights.totals[:, 0].sum())

    @property
    def effective_sample_size(self) -> float:
        return self.total**2 / self.squares if self.squares else 0.0

    @property
    def effective_rewarded(self) -> float:
        """Number of equally weighted rewarded rows that would be as informative."""
        return self.rewarded**2 / self.rewarded_squares if self.rewarded_squares else 0.0

    @property
    def mean_weight(self) -> float | None:
        return self.total / self.rows if self.rows else None

    @property
    def mean_weight_z(self) -> float | None:
        """Standard errors between the mean weight and 1; None if it cannot be told."""
        return mean_weight_z(self.weights)

    @property
    def largest_share(self) -> float:
        """The largest weight's share of all weight."""
        return self.largest / self.total if self.total else 0.0

    @property
    def top_percent_share(self) -> float:
        """About the share of all weight that the heaviest hundredth of the rows carries."""
        rows, weight = self.tail[::-1].T
        wanted = rows.sum() / 100
        if not wanted or not self.total:
            return 0.0
        before = np.cumsum(rows) - rows
        taken = np.clip(wanted - before, 0, rows)
        return float(np.sum(weight * taken / np.maximum(rows, 1)) / self.total)

    @property
    def groups(self) -> int:
        """Number of member buckets seen."""
        return self.weights.used


def mean_weight_z(weights: BucketSums) -> float | None:
    """Return the standard errors between the mean weight and 1; None if it cannot be told.

    `weights` has the columns w, 1.
    """
    mean, error = value(weights), standard_error(weights)
    if mean is None or error is None:
        return None
    if error < 1e-12:
        return 0.0 if math.isclose(mean, 1.0, abs_tol=1e-9) else math.copysign(math.inf, mean - 1)
    return (mean - 1.0) / error


def bin_edges() -> Floats:
    """Return where each bin of weights begins; the first holds all below its end."""
    edges: Floats = 2.0 ** (LIGHTEST + np.arange(BINS) / PER_OCTAVE)
    return edges


def _tail(weight: Floats) -> Floats:
    place = np.log2(np.maximum(weight, 2.0**LIGHTEST)) - LIGHTEST
    at = np.minimum((place * PER_OCTAVE).astype(np.int64), BINS - 1)
    counts = np.bincount(at, minlength=BINS).astype(np.float64)
    return np.stack([counts, np.bincount(at, weight, BINS)], axis=1)
