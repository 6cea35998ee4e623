"""A title's variants side by side.

Each has two rates. The raw one is of the members it was shown to: a personalised variant was shown
to those expected to like it, so raw rates of two variants are of two audiences and do not rank
them. The corrected one is what it would earn if everybody saw it (`estimators.contrast`). Times on
screen and rates are of impressions whose attribution window has closed, by whole UTC days.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from artwork_bandit.comparison import drawn, sample_ratio, verdict
from artwork_bandit.comparison.verdict import ALPHA, Verdict
from artwork_bandit.domain import ActionSet, Ints, Variant, VariantStatus
from artwork_bandit.estimators.contrast import Contrast, Drawn, chance_to_be_best, contrast
from artwork_bandit.estimators.proportion import Proportion, proportion
from artwork_bandit.store import catalog, rollups
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.rollups import Rollup

WEEK_DAYS = 7
UNSOUND = (
    "nothing can be said with weeks in it whose rates are not to be trusted; choose days without"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """A number with its interval, which may be looked at any day; None where too little is
    known, with the reason."""

    estimate: float | None
    lower: float | None = None
    upper: float | None = None
    reason: str | None = None


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
    corrected: Estimated
    """Take fraction if everybody saw it."""
    lift: Estimated
    """Relative to the baseline variant, on decisions where both were eligible; None for itself."""
    effect: float | None
    """Relative to the mean of the title's variants, on decisions that they have in common; for
    comparing features across titles."""
    effective_rows: float
    """Equally weighted decisions the corrected rate is worth."""
    earlier: int
    """Times on screen with another picture, from before this one took its place: left out."""
    chance_to_be_best: float | None
    """Among running variants; a hint, not a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that is known of a title's variants in one slot."""

    title_id: str
    slot: str
    first_day: dt.date | None
    last_day: dt.date | None
    baseline: str | None
    """The variant that others are measured against: the default, or the oldest running one."""
    verdict: Verdict
    warning: str | None
    rows: list[VariantRow]
    impressions: int
    impressions_week: int
    """In the last seven days."""
    units: int
    plays: int
    explored_share: float
    """What policies spread evenly at least, as it was taken to be."""


def compare(
    connection: Connection, title_id: str, slot: str, explored_share: float,
    since: int | None = None, until: int | None = None, now: dt.datetime | None = None,
) -> Comparison:  # fmt: skip
    """Return the variants of a title over the days in [since, until), counted from 1970.

    `explored_share` is what policies spread evenly at least. `now` tells which variants are
    running; without it, all that are active.
    """
    variants = catalog.list_variants(connection, title_id, slot)
    rows = rollups.of_title(connection, slot, title_id, since, until)
    sets = request_store.get_action_sets(connection, {row.action_set_id for row in rows})
    earlier = catalog.earlier_pictures(connection, variants)
    rows, sets = drawn.with_earlier_named(rows, sets, earlier)
    return of_rows(title_id, slot, variants, rows, sets, explored_share, now)


def of_rows(
    title_id: str, slot: str, variants: Sequence[Variant], rows: Sequence[Rollup],
    sets: dict[int, ActionSet], explored_share: float, now: dt.datetime | None,
) -> Comparison:  # fmt: skip
    """Return the comparison from what the store holds of a title, earlier pictures named apart
    (`drawn.with_earlier_named`)."""
    ids = [v.variant_id for v in variants]
    table = drawn.table(rows, sets, ids, explored_share)
    found = contrast(table) if len(table.rows) else None
    running = np.array([i for i, v in enumerate(variants) if is_running(v, now)], np.int64)
    baseline = _baseline(variants, running)
    impressions = dict.fromkeys(ids, 0)
    last = max((row.day for row in rows), default=0)
    today = last if now is None else rollups.day_of(now)
    before = dict.fromkeys(ids, 0)
    for row in rows:
        if row.variant_id in impressions:
            impressions[row.variant_id] += row.impressions
        elif (name := row.variant_id.partition(drawn.EARLIER)[0]) in before:
            before[name] += row.impressions
    week = [row for row in rows if row.day > today - WEEK_DAYS]
    # A title that is younger than a week has had fewer days.
    days = min(WEEK_DAYS, today - rows[0].day + 1) if rows else 1
    a_day = sum(row.drawn for row in week) / max(days, 1)
    decided = _decided(found, running, baseline, variants, a_day, sum(row.units for row in rows))
    warning = _warning(rows, sets, explored_share)
    if warning is not None and decided.word in verdict.SAID:
        decided = Verdict(word=verdict.Word.WAIT, reason=UNSOUND)
    chances = _chances(table, found, running, len(variants))
    total = sum(impressions.values())
    lifts = _lifts(found, baseline, len(variants))
    told = [] if found is None else found.effects()[: len(variants)].tolist()
    effects = [None if math.isnan(effect) else effect for effect in told] or [None] * len(variants)
    raw = _rates(rows, ids)
    even = _rates((row for row in rows if row.cell == drawn.EVEN and row.drawn), ids)
    return Comparison(
        title_id=title_id, slot=slot,
        first_day=rollups.start_of(rows[0].day).date() if rows else None,
        last_day=rollups.start_of(last).date() if rows else None,
        baseline=None if baseline is None else ids[baseline],
        verdict=decided,
        warning=warning,
        rows=[
            VariantRow(
                variant=variant,
                impressions=impressions[variant.variant_id],
                share_of_traffic=impressions[variant.variant_id] / total if total else None,
                raw=raw[variant.variant_id],
                random=even[variant.variant_id],
                corrected=_value(found, i, raw[variant.variant_id].count),
                lift=lifts[i],
                effect=effects[i],
                effective_rows=0.0 if found is None else float(found.effective_rows[i]),
                earlier=before[variant.variant_id],
                chance_to_be_best=chances[i],
            )
            for i, variant in enumerate(variants)
        ],
        impressions=sum(row.impressions for row in rows),
        impressions_week=sum(row.impressions for row in week),
        units=sum(row.units for row in rows),
        plays=sum(row.plays for row in rows),
        explored_share=explored_share,
    )  # fmt: skip


def is_running(variant: Variant, now: dt.datetime | None) -> bool:
    """Tell whether a variant may be shown to anybody now."""
    if variant.status is not VariantStatus.ACTIVE:
        return False
    begun = now is None or variant.starts_at is None or variant.starts_at <= now
    return begun and (now is None or variant.ends_at is None or now < variant.ends_at)


def _baseline(variants: Sequence[Variant], running: Ints) -> int | None:
    default = next((i for i in running if variants[i].is_default), None)
    return int(default) if default is not None else int(running[0]) if len(running) else None


def _decided(
    found: Contrast | None, running: Ints, baseline: int | None, variants: Sequence[Variant],
    rows_a_day: float, counted: int,
) -> Verdict:  # fmt: skip
    if baseline is None or len(running) < 2:
        return Verdict(word=verdict.Word.SINGLE, reason=f"{len(running) or 'no'} running variant")
    if found is None:
        nothing = "nothing has been drawn: exploration is paused, or one variant was eligible"
        reason = nothing if counted else "no decision has been counted yet"
        return Verdict(word=verdict.Word.WAIT, reason=reason)
    names = [v.name or v.variant_id for v in variants]
    names += [""] * (len(found.value) - len(names))
    return verdict.decide(found, running, baseline, names, rows_a_day)


def _rates(rows: Iterable[Rollup], ids: Sequence[str]) -> dict[str, Proportion]:
    """Return each variant's take fraction in some rows."""
    sums = {each: ([0] * rollups.BUCKETS, [0] * rollups.BUCKETS) for each in ids}
    for row in rows:
        if (of := sums.get(row.variant_id)) is not None:
            of[0][row.bucket] += row.units
            of[1][row.bucket] += row.plays
    return {
        each: proportion(np.array(counts, np.float64), np.array(plays, np.float64))
        for each, (counts, plays) in sums.items()
    }


def _value(found: Contrast | None, i: int, counted: float) -> Estimated:
    if found is None or not found.rows[i, i]:
        reason = "never drawn beside another variant" if counted else "not shown yet"
        return Estimated(estimate=None, reason=reason)
    if not found.told[i]:
        return Estimated(estimate=None, reason="seen too little to tell")
    half = float(found.half_widths(ALPHA)[i])
    value = float(found.value[i])
    return Estimated(estimate=value, lower=max(value - half, 0.0), upper=min(value + half, 1.0))


def _lifts(found: Contrast | None, baseline: int | None, count: int) -> list[Estimated]:
    """Return each variant's lift over the baseline; intervals hold for all of them together."""
    if found is None or baseline is None or not found.told[baseline]:
        unknown = Estimated(estimate=None, reason="the baseline has been seen too little")
        return [Estimated(estimate=None) if i == baseline else unknown for i in range(count)]
    alpha = ALPHA / max(count - 1, 1)
    return [_lift(found, i, baseline, alpha) for i in range(count)]


def _lift(found: Contrast, i: int, baseline: int, alpha: float) -> Estimated:
    if i == baseline:
        return Estimated(estimate=None, reason="the baseline itself")
    if not found.told[i]:
        return Estimated(estimate=None, reason="seen too little to tell")
    if not found.rows[i, baseline]:
        return Estimated(estimate=None, reason="never shown to the same members as the baseline")
    if not found.enough[i, baseline]:
        return Estimated(estimate=None, reason="seen too little beside the baseline")
    lift, lower, upper = found.lift(i, baseline, alpha)
    if math.isnan(lift) or math.isnan(upper):
        return Estimated(estimate=None, reason="one of the two is hardly ever played")
    return Estimated(estimate=lift, lower=lower, upper=upper)


def _chances(table: Drawn, found: Contrast | None, running: Ints, count: int) -> list[float | None]:
    """Return the hints, from decisions where all running variants might be shown."""
    chances: list[float | None] = [None] * count
    if found is None or len(running) < 2 or not found.told[running].all():
        return chances
    if not table.eligible[:, running].all():
        common = drawn.where_all(table, running)
        found = contrast(common) if len(common.rows) else None
    if found is not None and found.told[running].all():
        for i, chance in zip(running, chance_to_be_best(found, running), strict=True):
            chances[i] = float(chance)
    return chances


def _warning(
    rows: Sequence[Rollup], sets: dict[int, ActionSet], explored_share: float
) -> str | None:
    weeks = sample_ratio.by_week(rows, sets, explored_share)
    broken = [week for week, found in sorted(weeks.items()) if found.broken]
    if not broken:
        return None
    named = ", ".join(rollups.start_of(week).date().isoformat() for week in broken[:3])
    more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    return (
        f"variants were not shown as often as logged in the week of {named}{more}: rates of those "
        "weeks are not to be trusted"
    )
