"""Cells side by side: random, one fixed variant, live; over the same time, by member."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from artwork_bandit.estimators.proportion import Proportion, difference, proportion
from artwork_bandit.policies.cells import CELLS
from artwork_bandit.store import aggregates, registry
from artwork_bandit.store.engine import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One cell's take fraction, and how far it is from the explore cell's."""

    cell: str
    take_fraction: Proportion
    lift: float | None
    """Relative difference from the explore cell."""
    lift_lower: float | None
    lift_upper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellComparison:
    """All cells over one span of time."""

    slot: str
    since: dt.datetime | None
    """Start of the span: by default when the slot's first model went live."""
    until: dt.datetime | None
    cells: list[CellRow]


def compare(
    connection: Connection, slot: str, since: dt.datetime | None, until: dt.datetime | None
) -> CellComparison:
    """Return the cells in one span, so that a day when all of them did well favours none.

    The lift's interval is the difference's (Newcombe), over the explore cell's rate: members of
    different cells are different people.
    """
    since = since or registry.first_promotion(connection, slot)
    counts = aggregates.by_cell(connection, slot, since, until)
    none = aggregates.Counts.none()
    rates = {
        cell: proportion(found.units, found.quality_plays)
        for cell in CELLS
        for found in [counts.get(cell, none)]
    }
    shown = [cell for cell in CELLS if cell != "challenger" or rates[cell].count]
    rows = [_row(cell, rates[cell], rates["explore"]) for cell in shown]
    return CellComparison(slot=slot, since=since, until=until, cells=rows)


def _row(cell: str, rate: Proportion, explore: Proportion) -> CellRow:
    found = None if cell == "explore" else difference(rate, explore)
    lifts: list[float | None] = [None, None, None]
    if found is not None and explore.rate:
        lifts = [value / explore.rate for value in found]
    return CellRow(
        cell=cell, take_fraction=rate, lift=lifts[0], lift_lower=lifts[1], lift_upper=lifts[2]
    )
