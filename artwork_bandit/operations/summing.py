"""Sums up titles for the overview: what the worker does after each join."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from artwork_bandit.comparison import drawn
from artwork_bandit.comparison import variants as comparison
from artwork_bandit.comparison.verdict import Word
from artwork_bandit.settings import Settings
from artwork_bandit.store import catalog, registry, rollups, summaries
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Store
from artwork_bandit.store.summaries import Summary

log = logging.getLogger(__name__)

TITLES_AT_ONCE = 100
MOST_ROWS = 100_000
"""Sums by day of some titles that are held in memory at once, or those of one."""
CALLED = (Word.WINNER, Word.LIKELY)


def sum_up(
    store: Store, slot: str, settings: Settings, now: dt.datetime, most_seconds: float = 10.0
) -> int:
    """Sum up titles that rewards came for, the longest waiting first; return how many.

    Stops after `most_seconds`: with very many titles each is a little behind, and none is left.
    """
    begun, done = time.monotonic(), 0
    counts: dict[str, int] = {}
    while True:
        with store.read() as connection:
            stale = summaries.stale(connection, slot, TITLES_AT_ONCE, now)
            counts |= rollups.count(connection, slot, stale.keys() - counts.keys())
            waiting = _first(stale, counts)
            before = summaries.get(connection, slot, list(waiting))
            rows = dict(rollups.of_titles(connection, slot, waiting))
            ids = {row.action_set_id for some in rows.values() for row in some}
            sets = request_store.get_action_sets(connection, ids)
            known = {title: catalog.list_variants(connection, title, slot) for title in waiting}
            earlier = catalog.earlier_pictures(connection, itertools.chain(*known.values()))
            share = registry.least_explored(connection, slot, settings.explored_share)
        made = []
        for title in waiting:
            try:
                some, named = drawn.with_earlier_named(rows.get(title, []), sets, earlier)
                found = comparison.of_rows(title, slot, known[title], some, named, share, now)
                made.append(_summary(found, before.get(title), now))
            except Exception:  # one title must not keep all others, and training, from their turn
                log.exception("title_not_summed", extra={"slot": slot, "title_id": title})
                known_so_far = before.get(title) or Summary(slot=slot, title_id=title)
                made.append(replace(known_so_far, made_at=now))
        if made:
            with store.write() as connection:
                summaries.put(connection, made, waiting)
        done += len(made)
        if len(waiting) == len(stale) < TITLES_AT_ONCE or time.monotonic() - begun > most_seconds:
            return done


def _first(stale: Mapping[str, int], rows: Mapping[str, int]) -> dict[str, int]:
    """Return the first titles, as many as have together few enough rows, at least one."""
    first: dict[str, int] = {}
    left = MOST_ROWS
    for title, mark in stale.items():
        left -= rows.get(title, 0)
        if first and left < 0:
            break
        first[title] = mark
    return first


def effects_of(found: comparison.Comparison) -> dict[str, list[float]] | None:
    """Return variant -> (effect relative to the title's mean, effective decisions), for the
    designers."""
    told = {
        row.variant.variant_id: [row.effect, row.effective_rows]
        for row in found.rows
        if row.effect is not None
    }
    return told if len(told) > 1 else None


def _summary(found: comparison.Comparison, before: Summary | None, now: dt.datetime) -> Summary:
    said, leader, gain = found.verdict, None, None
    if said.word in CALLED and said.leader is not None:  # else it may lead by chance
        leader, gain = found.rows[said.leader].variant.variant_id, said.gain
    made = Summary(
        slot=found.slot, title_id=found.title_id, made_at=now, impressions=found.impressions,
        impressions_week=found.impressions_week, units=found.units, plays=found.plays,
        verdict=said.word.value, verdict_since=now, leader=leader, gain=gain,
        days_left=said.days_left, reason=said.reason, warning=found.warning,
        effects=effects_of(found),
    )  # fmt: skip
    if before is None or before.verdict is None:
        return made
    same_leader = said.word not in CALLED or before.leader == made.leader
    if before.verdict == made.verdict and same_leader:
        return replace(
            made, verdict_since=before.verdict_since, verdict_before=before.verdict_before
        )
    return replace(made, verdict_before=before.verdict)
