"""A title's variants over time: what was shown, and what it would have earned shown to all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from artwork_bandit.comparison import drawn
from artwork_bandit.comparison.verdict import ALPHA
from artwork_bandit.domain import ActionSet
from artwork_bandit.estimators.contrast import contrast
from artwork_bandit.store import rollups
from artwork_bandit.store.rollups import Rollup

MOST_POINTS = 28
ROWS_A_VARIANT = 250
"""Decisions per variant that a point in time should rest on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Some days; one entry per variant in the lists, None where too little is known."""

    first_day: dt.date
    last_day: dt.date
    impressions: list[int]
    shares: list[float | None]
    """Of the impressions of these days."""
    rates: list[float | None]
    """Corrected take fractions."""
    halves: list[float | None]
    """Half widths of their 95% intervals."""


def course(
    rows: Sequence[Rollup], sets: Mapping[int, ActionSet], variant_ids: Sequence[str],
    explored_share: float,
) -> list[Point]:  # fmt: skip
    """Return points in time; days are joined where there are many or little was shown."""
    if not rows:
        return []
    first, last = rows[0].day, max(row.day for row in rows)
    total = sum(row.drawn for row in rows)
    points = min(
        MOST_POINTS, max(total // (ROWS_A_VARIANT * max(len(variant_ids), 1)), 1), last - first + 1
    )
    width = -(-(last - first + 1) // points)
    parts: dict[int, list[Rollup]] = {}
    for row in rows:
        parts.setdefault((row.day - first) // width, []).append(row)
    return [
        _point(
            parts.get(i, []), sets, variant_ids, explored_share, start,
            min(start + width - 1, last),
        )
        for i, start in enumerate(range(first, last + 1, width))
    ]  # fmt: skip


def _point(
    rows: Sequence[Rollup], sets: Mapping[int, ActionSet], variant_ids: Sequence[str],
    explored_share: float, first: int, last: int,
) -> Point:  # fmt: skip
    shown = dict.fromkeys(variant_ids, 0)
    for row in rows:
        if row.variant_id in shown:
            shown[row.variant_id] += row.impressions
    total = sum(shown.values())
    rates: list[float | None] = [None] * len(variant_ids)
    halves: list[float | None] = [None] * len(variant_ids)
    table = drawn.table(rows, sets, variant_ids, explored_share)
    if len(table.rows):
        found = contrast(table)
        half = found.half_widths(ALPHA)
        for i in np.flatnonzero(found.told[: len(variant_ids)]):
            rates[i], halves[i] = float(found.value[i]), float(half[i])
    return Point(
        first_day=rollups.start_of(first).date(), last_day=rollups.start_of(last).date(),
        impressions=list(shown.values()),
        shares=[n / total if total else None for n in shown.values()],
        rates=rates, halves=halves,
    )  # fmt: skip
