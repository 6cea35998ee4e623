"""A title's roll-ups as the arrays that the mathematics takes."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np

from artwork_bandit.domain import ActionSet, Floats, Ints
from artwork_bandit.estimators.contrast import Drawn
from artwork_bandit.store.rewards import SettledUnit
from artwork_bandit.store.rollups import BUCKETS, IMPORTED, Rollup

EVEN = "explore"
"""The cell that spreads everything evenly."""


EARLIER = "\x00"
"""Joins a variant's id and a number to name a picture that it had before."""
Row = TypeVar("Row", Rollup, SettledUnit)


def with_earlier_named(
    rows: Sequence[Row], sets: Mapping[int, ActionSet], earlier: Container[int]
) -> tuple[list[Row], dict[int, ActionSet]]:
    """Return rows and action sets in which variants that had another picture go by another name.

    `earlier` are the revisions with another picture than the variant has now: what was earned with
    it says nothing of this one.
    """
    renamed: dict[int, dict[str, str]] = {}
    for set_id, known in sets.items():
        pairs = zip(known.variant_ids, known.revision_ids, strict=False)
        names = {v: f"{v}{EARLIER}{r}" for v, r in pairs if r in earlier}
        if names:
            renamed[set_id] = names
    if not renamed:
        return list(rows), dict(sets)
    changed = {
        set_id: replace(sets[set_id], variant_ids=tuple(
            names.get(v, v) for v in sets[set_id].variant_ids
        ))
        for set_id, names in renamed.items()
    }  # fmt: skip
    none: dict[str, str] = {}
    named = [
        row._replace(
            variant_id=renamed.get(row.action_set_id, none).get(row.variant_id, row.variant_id)
        )
        for row in rows
    ]
    return named, dict(sets) | changed


def where_all(table: Drawn, variants: Ints) -> Drawn:
    """Return the sums of the decisions where all of these variants might be shown."""
    has_all = np.asarray(table.eligible[:, variants].all(axis=1))
    kept = has_all[table.action_set]
    names = [f.name for f in fields(Drawn) if f.name not in ("eligible", "even_share", "buckets")]
    return replace(table, **{name: getattr(table, name)[kept] for name in names})


def table(
    rows: Sequence[Rollup], sets: Mapping[int, ActionSet], variant_ids: Sequence[str],
    explored_share: float,
) -> Drawn:  # fmt: skip
    """Return the sums of what was drawn, variants numbered as in `variant_ids`.

    Variants that the catalogue does not know any more are numbered after them.
    """
    drawn = [row for row in rows if row.drawn]
    number = {variant_id: i for i, variant_id in enumerate(variant_ids)}
    used = sorted({row.action_set_id for row in drawn})
    for set_id in used:
        for variant_id in sets[set_id].variant_ids:
            number.setdefault(variant_id, len(number))
    cells = sorted({row.cell for row in drawn})
    even = {EVEN: 1.0, IMPORTED: _spread_evenly(drawn, sets, explored_share)}
    eligible = np.zeros((len(used), len(number)), bool)
    for i, set_id in enumerate(used):
        eligible[i, [number[v] for v in sets[set_id].variant_ids]] = True
    set_number = {set_id: i for i, set_id in enumerate(used)}
    cell_number = {cell: i for i, cell in enumerate(cells)}

    def whole(values: list[int]) -> Ints:
        return np.array(values, np.int64)

    def real(values: Sequence[float]) -> Floats:
        return np.array(values, np.float64)

    return Drawn(
        day=whole([row.day for row in drawn]),
        action_set=whole([set_number[row.action_set_id] for row in drawn]),
        cell=whole([cell_number[row.cell] for row in drawn]),
        bucket=whole([row.bucket for row in drawn]),
        variant=whole([number[row.variant_id] for row in drawn]),
        rows=real([row.drawn for row in drawn]),
        plays=real([row.drawn_plays for row in drawn]),
        weight=real([row.weight for row in drawn]),
        weight2=real([row.weight2 for row in drawn]),
        weighted_plays=real([row.weighted_plays for row in drawn]),
        eligible=eligible,
        even_share=real([even.get(cell, explored_share) for cell in cells]),
        buckets=BUCKETS,
    )


def _spread_evenly(
    drawn: Sequence[Rollup], sets: Mapping[int, ActionSet], explored_share: float
) -> float:
    """Return what another system spread evenly at least, as far as its log says: all, if it drew
    evenly; else what its smallest propensities come to."""
    imported = [row for row in drawn if row.cell == IMPORTED]
    sizes = [len(sets[row.action_set_id].variant_ids) for row in imported]
    shares = [size * row.weight / row.weight2 for size, row in zip(sizes, imported, strict=True)]
    least = min(shares, default=1.0)
    return 1.0 if least > 1 - 1e-9 else min(least, explored_share)
