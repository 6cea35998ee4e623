"""A title's variants side by side.

Two rates are given. Over all cells the rate is raw: a personalised variant was shown to the
members expected to like it, so raw rates of two variants are of two audiences and do not rank
them. In the explore cell everybody gets a variant at random: those rates compare like with like,
on fewer members.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from artwork_bandit.domain import Variant
from artwork_bandit.estimators.proportion import Proportion, proportion
from artwork_bandit.store import aggregates, catalog
from artwork_bandit.store.engine import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRow:
    """One variant's traffic and rates."""

    variant: Variant
    impressions: int
    """Times on screen, repeated views by the same member included."""
    share_of_traffic: float | None
    """Of the title's impressions in this slot."""
    raw: Proportion
    """Take fraction over all cells."""
    random: Proportion
    """Take fraction in the explore cell."""


def compare(
    connection: Connection, title_id: str, slot: str,
    since: dt.datetime | None = None, until: dt.datetime | None = None,
) -> list[VariantRow]:  # fmt: skip
    """Return the variants of a title, the oldest first."""
    shown = aggregates.impressions_by_variant(connection, title_id, slot, since, until)
    counts = aggregates.by_variant(connection, title_id, slot, since, until)
    total = sum(shown.values())
    rows = []
    for variant in catalog.list_variants(connection, title_id, slot):
        cells = {c: found for (v, c), found in counts.items() if v == variant.variant_id}
        everywhere = sum(cells.values(), aggregates.Counts.none())
        random = cells.get("explore", aggregates.Counts.none())
        times = shown.get(variant.variant_id, 0)
        rows.append(
            VariantRow(
                variant=variant,
                impressions=times,
                share_of_traffic=times / total if total else None,
                raw=proportion(everywhere.units, everywhere.quality_plays),
                random=proportion(random.units, random.quality_plays),
            )
        )
    return rows
