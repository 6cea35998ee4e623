"""Cells side by side: random, one fixed variant, live, challenger; by member."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Literal

from artwork_bandit.estimators.proportion import Proportion, difference, proportion
from artwork_bandit.policies.cells import CELLS
from artwork_bandit.store import aggregates, registry
from artwork_bandit.store.engine import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Relative difference of two cells' take fractions; None where nothing can be said.

    The interval is the difference's (Newcombe), over the other cell's rate: members of different
    cells are different people.
    """

    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None

    @staticmethod
    def of(rate: Proportion, other: Proportion) -> Lift:
        found = difference(rate, other)
        if found is None or not other.rate:
            return Lift()
        estimate, lower, upper = (value / other.rate for value in found)
        return Lift(estimate=estimate, lower=lower, upper=upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One cell's take fraction, and how far it is from the explore cell's."""

    cell: str
    take_fraction: Proportion
    lift: float | None
    """Relative difference from the explore cell in the same span."""
    lift_lower: float | None
    lift_upper: float | None
    since: dt.datetime | None
    """Start of its span."""
    model_version: int | None = None
    """The challenger, whose choices alone are counted in its cell."""
    without_model: int = 0
    """Of the live cell's units, those drawn at random: no model was live, or known to a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellComparison:
    """All cells over one span of time."""

    slot: str
    since: dt.datetime | None
    """Start of the span: by default when the slot's first model went live."""
    until: dt.datetime | None
    cells: list[CellRow]
    over_baseline: Lift
    """The live cell's relative difference from the baseline cell."""


def compare(
    connection: Connection, slot: str, since: dt.datetime | None, until: dt.datetime | None
) -> CellComparison:
    """Return the cells in one span, so that a day when all of them did well favours none.

    Of the challenger's cell only what the present challenger chose is counted, beside the explore
    cell since it is the challenger: before, others chose there.
    """
    since = since or registry.first_promotion(connection, slot)
    rates = _rates(connection, slot, since, until)
    always = [cell for cell in CELLS if cell != "challenger"]
    rows = [_row(cell, rates[cell], rates["explore"], since) for cell in always]
    by_models = _rates(connection, slot, since, until, "any")["live"].count
    rows = [
        replace(row, without_model=row.take_fraction.count - by_models)
        if row.cell == "live" else row
        for row in rows
    ]  # fmt: skip
    if (found := registry.challenged_since(connection, slot)) is not None:
        version, named = found
        begun = named if since is None else max(since, named)
        explore = _rates(connection, slot, begun, until)["explore"]
        rate = _rates(connection, slot, begun, until, version)["challenger"]
        if rate.count:
            rows.append(_row("challenger", rate, explore, begun, version))
    lift = Lift.of(rates["live"], rates["baseline"])
    return CellComparison(slot=slot, since=since, until=until, cells=rows, over_baseline=lift)


def _rates(
    connection: Connection, slot: str, since: dt.datetime | None, until: dt.datetime | None,
    model: int | Literal["any"] | None = None,
) -> dict[str, Proportion]:  # fmt: skip
    counts, none = (
        aggregates.by_cell(connection, slot, since, until, model),
        aggregates.Counts.none(),
    )
    found = ((cell, counts.get(cell, none)) for cell in CELLS)
    return {cell: proportion(each.units, each.quality_plays) for cell, each in found}


def _row(
    cell: str, rate: Proportion, explore: Proportion, since: dt.datetime | None,
    version: int | None = None,
) -> CellRow:  # fmt: skip
    lift = Lift() if cell == "explore" else Lift.of(rate, explore)
    return CellRow(
        cell=cell, take_fraction=rate, lift=lift.estimate, lift_lower=lift.lower,
        lift_upper=lift.upper, since=since, model_version=version,
    )  # fmt: skip
