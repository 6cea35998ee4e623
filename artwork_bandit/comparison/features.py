"""What features of pictures work, across titles: for those who make the next ones.

Within each title, the corrected rate of the variants that have a feature is set against that of
those that have not, as a share of the title's mean. Titles are averaged by how well they tell
(effective decisions, never the rates themselves), and the error is what titles differ by. A
feature that goes with another one (all close-ups have faces) cannot be told from it here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from artwork_bandit.estimators.tails import t_quantile

FEWEST_TITLES = 8
"""Titles with and without a feature, before anything is said of it."""
ALPHA = 0.05
MOST_VALUES = 40
"""Values of one feature that are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRow:
    """A feature's lift; the intervals of all rows hold together."""

    feature: str
    value: str
    titles: int
    lift: float
    lower: float
    upper: float


def across_titles(
    effects: Mapping[str, Mapping[str, tuple[float, float]]],
    described: Mapping[str, Mapping[str, Any]],
) -> list[FeatureRow]:
    """Return what is known of each feature, the largest lift first.

    `effects` are title id -> variant id -> (lift over the title's mean, effective decisions);
    `described` are variant id -> features.
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for of_variant in effects.values():
        having: dict[tuple[str, str], list[str]] = {}
        for variant_id in of_variant:
            for each in set(_named(described.get(variant_id, {}))):
                having.setdefault(each, []).append(variant_id)
        for each, with_it in having.items():
            without = [v for v in of_variant if v not in with_it]
            if without:
                a, b = (_mean(of_variant, some) for some in (with_it, without))
                weight = a[1] * b[1] / (a[1] + b[1])
                found.setdefault(each, []).append((a[0] - b[0], weight))
    told = {each: some for each, some in found.items() if len(some) >= FEWEST_TITLES}
    rows = [_row(each, some, ALPHA / len(told)) for each, some in told.items()]
    return sorted(rows, key=lambda row: -row.lift)


def _mean(
    effects: Mapping[str, tuple[float, float]], variants: Iterable[str]
) -> tuple[float, float]:
    """Return the weighted mean of some variants' lifts, and their effective decisions."""
    some = [effects[v] for v in variants]
    total = sum(n for _, n in some)
    return sum(lift * n for lift, n in some) / total, total


def _row(each: tuple[str, str], lifts: list[tuple[float, float]], alpha: float) -> FeatureRow:
    total = sum(weight for _, weight in lifts)
    mean = sum(lift * weight for lift, weight in lifts) / total
    n = len(lifts)
    squares = sum((weight * (lift - mean)) ** 2 for lift, weight in lifts)
    half = t_quantile(1 - alpha / 2, n - 1) * math.sqrt(squares * n / (n - 1)) / total
    feature, value = each
    return FeatureRow(
        feature=feature, value=value, titles=n, lift=mean, lower=mean - half, upper=mean + half
    )


def _named(features: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        if len(values) <= MOST_VALUES:
            for each in values:
                yield name, str(each).lower() if isinstance(each, bool) else f"{each}"
