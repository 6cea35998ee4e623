"""Which variant works for whom: corrected rates by segment, and who is shown what."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from artwork_bandit.comparison import drawn
from artwork_bandit.comparison.variants import Estimated, is_running
from artwork_bandit.comparison.verdict import ALPHA
from artwork_bandit.domain import ActionSet, Contexts, Variant
from artwork_bandit.estimators.contrast import contrast
from artwork_bandit.policies.segments import OTHER, Communities, Segments, largest
from artwork_bandit.store import catalog, rewards
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.rewards import SettledUnit
from artwork_bandit.store.rollups import BUCKETS, Rollup, start_of

LATEST = 20_000
"""Decisions that are looked at, the latest."""
CHOOSING = ("live", "challenger")
"""Cells that choose by taste."""
FEWEST_SHOWN = 20
"""Choices in a segment before it is said what is mostly shown there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    """One segment; a rate per variant, whose intervals hold for all shown together."""

    name: str
    units: int
    rates: list[Estimated]
    best: int | None
    """Number of the variant that is surely ahead of all other running ones here."""
    mostly: int | None
    """Number of the variant that policies show most here."""
    mostly_share: float | None

    @property
    def told(self) -> bool:
        """Whether any variant's rate is known well enough to be told."""
        return any(rate.estimate is not None for rate in self.rates)


def of_title(
    connection: Connection, slot: str, title_id: str, variants: Sequence[Variant], by: str,
    explored_share: float, since: int | None = None, until: int | None = None,
    now: dt.datetime | None = None, communities: Communities | None = None,
) -> list[SegmentRow]:  # fmt: skip
    """Return the segments of a title's latest decisions in the days [since, until), counted from
    1970; raises InvalidInput for a field that is unknown."""
    segments = Segments(by, None, communities)  # before anything is read
    units = rewards.latest_of_title(
        connection, slot, title_id, None if since is None else start_of(since),
        None if until is None else start_of(until), LATEST,
    )  # fmt: skip
    sets = request_store.get_action_sets(connection, {u.action_set_id for u in units})
    earlier = catalog.earlier_pictures(connection, variants)
    named, sets = drawn.with_earlier_named(units, sets, earlier)
    return by_segment(named, sets, variants, segments, title_id, explored_share, now)


def by_segment(
    units: Sequence[SettledUnit], sets: Mapping[int, ActionSet], variants: Sequence[Variant],
    segments: Segments, title_id: str, explored_share: float, now: dt.datetime | None = None,
) -> list[SegmentRow]:  # fmt: skip
    """Return the segments of a title's decisions, the largest first.

    `now` tells which variants are running; without it, all that are active.
    """
    names = segments.names(
        Contexts.of([u.context for u in units]), [title_id] * len(units), [u.cell for u in units]
    )
    told = set(largest(Counter(names)))
    variant_ids = [v.variant_id for v in variants]
    running = [i for i, v in enumerate(variants) if is_running(v, now)]
    parts: dict[str, list[SettledUnit]] = {}
    for name, unit in zip(names, units, strict=True):
        parts.setdefault(name if name in told else OTHER, []).append(unit)
    compared = len(parts) * len(variant_ids)
    rows = [
        _row(name, some, sets, variant_ids, running, explored_share, ALPHA / max(compared, 1))
        for name, some in parts.items()
    ]
    return sorted(rows, key=lambda row: (-row.units, row.name))


def _row(
    name: str, units: Sequence[SettledUnit], sets: Mapping[int, ActionSet],
    variant_ids: Sequence[str], running: Sequence[int], explored_share: float, alpha: float,
) -> SegmentRow:  # fmt: skip
    table = drawn.table([_rollup(u) for u in units], sets, variant_ids, explored_share)
    rates = [Estimated(estimate=None, reason="seen too little") for _ in variant_ids]
    best = None
    if len(table.rows):
        found = contrast(table)
        half = found.half_widths(alpha)
        known = np.flatnonzero(found.told[: len(variant_ids)])
        for i in known:
            value, wide = float(found.value[i]), float(half[i])
            rates[i] = Estimated(
                estimate=value, lower=max(value - wide, 0.0), upper=min(value + wide, 1.0)
            )
        ahead = (found.difference - found.difference_half_widths(2 * alpha)) > 0
        if len(running) > 1 and found.enough[np.ix_(running, running)].all():
            rivals = {i: [j for j in running if j != i] for i in running}
            best = next((i for i in running if ahead[i, rivals[i]].all()), None)
    chosen = Counter(u.variant_id for u in units if u.cell in CHOOSING)
    mostly = next(iter(chosen.most_common(1)), None)
    if mostly is None or chosen.total() < FEWEST_SHOWN or mostly[0] not in variant_ids:
        mostly = None
    return SegmentRow(
        name=name, units=len(units), rates=rates, best=best,
        mostly=None if mostly is None else variant_ids.index(mostly[0]),
        mostly_share=None if mostly is None else mostly[1] / chosen.total(),
    )  # fmt: skip


def _rollup(unit: SettledUnit) -> Rollup:
    is_drawn = int(unit.propensity < 1)
    weight = is_drawn / unit.propensity
    return Rollup(
        unit.day, unit.action_set_id, unit.cell, unit.variant_id, unit.member_bucket % BUCKETS, 1,
        1, unit.quality_play, is_drawn, is_drawn * unit.quality_play, weight, weight**2,
        weight * unit.quality_play,
    )  # fmt: skip
