"""Do the title page's numbers tell the truth? Logs of known truth, a policy that learns.

    python -m simulations.comparison [--logs 2000] [--same]

A title with six variants, the last of which is added after a third of four weeks. A tenth of the
members see variants at random, the others what a policy that learns every night thinks best for
their taste; tastes differ in how much they play at all. Printed, for several sizes of traffic:

    ranked wrongly   pairs of variants that raw and corrected rates put in the wrong order, of
                     those that truly differ by a tenth or more
    pointwise        share of 95% intervals of corrected rates and of differences that hold the
                     truth on the last day
    jointly          share that hold it on all of 28 daily looks together
    called           logs in which some variant is ever called Winner or Likely at a daily look;
                     with --same all variants are equally good, and each such call is an error

Flagged is what is below .95 (with --same: above .05) by more than chance, one-sided 1 in 1,000.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from artwork_bandit.comparison.verdict import Word, decide
from artwork_bandit.domain import Floats
from artwork_bandit.estimators.contrast import Drawn, contrast
from artwork_bandit.store.rollups import BUCKETS

DAYS, VARIANTS, TASTES, ADDED = 28, 6, 4, 9
"""The last variant is added on this day."""
FLOOR, EXPLORE = 0.05, 0.1
BASE = -2.2
MATTERS = 0.1
LINES = {
    "told": ("variants told of on the last day", ""),
    "raw": ("pairs ranked wrongly by raw rates", ""),
    "corrected": ("pairs ranked wrongly by corrected rates", ""),
    "value": ("rates covered, last day", "cover"),
    "difference": ("differences covered, last day", "cover"),
    "values": ("rates covered, all looks", "cover"),
    "differences": ("differences covered, all looks", "cover"),
    "winner": ("logs ever called Winner", "if same"),
    "likely": ("logs ever called Winner or Likely", "if same"),
    "wrong winner": ("logs ever called the wrong Winner", "never"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Columns of n decisions, and what variants are truly worth."""

    day: np.ndarray
    explores: np.ndarray
    bucket: np.ndarray
    shown: np.ndarray
    propensity: np.ndarray
    played: np.ndarray
    truth: Floats


def simulate(rng: np.random.Generator, rows_a_day: int, same: bool) -> Log:
    """Return four weeks of one title; members come twice on average."""
    members = rows_a_day * DAYS // 2
    taste, bucket = rng.integers(TASTES, size=members), rng.integers(BUCKETS, size=members)
    eager = rng.normal(0, 0.5, members)
    explores = rng.random(members) < EXPLORE
    spread = 0.0 if same else 1.0
    effect = spread * (rng.normal(0, 0.25, VARIANTS) + rng.normal(0, 0.6, (TASTES, VARIANTS)))
    level = rng.normal(0, 0.8, TASTES)
    logit = BASE + level[:, None] + effect
    chance = 1 / (1 + np.exp(-(logit[taste] + eager[:, None])))
    seen, plays = np.zeros((TASTES, VARIANTS)), np.zeros((TASTES, VARIANTS))
    days = []
    for day in range(DAYS):
        there = VARIANTS if day >= ADDED else VARIANTS - 1
        best = rng.beta(1 + plays, 9 + seen - plays)[:, :there].argmax(axis=1)
        pmf = np.zeros((TASTES, VARIANTS))
        pmf[:, :there] = FLOOR / there
        pmf[np.arange(TASTES), best] += 1 - FLOOR
        even = np.where(np.arange(VARIANTS) < there, 1 / there, 0.0)
        who = rng.integers(members, size=rows_a_day)
        of_row = np.where(explores[who][:, None], even, pmf[taste[who]])
        drawn = (rng.random(rows_a_day)[:, None] > of_row.cumsum(axis=1)).sum(axis=1)
        shown = np.minimum(drawn, there - 1)
        played = rng.random(rows_a_day) < chance[who, shown]
        np.add.at(seen, (taste[who], shown), 1)
        np.add.at(plays, (taste[who], shown), played)
        propensity = of_row[np.arange(rows_a_day), shown]
        days.append((np.full(rows_a_day, day), explores[who], bucket[who], shown, propensity,
                     played))  # fmt: skip
    columns = [np.concatenate(column) for column in zip(*days, strict=True)]
    return Log(*columns, truth=chance.mean(axis=0))


def rolled(log: Log, until: int) -> Drawn:
    """Return the sums of the days before `until`, as the roll-ups hold them."""
    kept = log.day < until
    day, cell, bucket, shown = (
        x[kept].astype(np.int64) for x in (log.day, log.explores, log.bucket, log.shown)
    )
    key = ((day * 2 + cell) * BUCKETS + bucket) * VARIANTS + shown
    keys, place = np.unique(key, return_inverse=True)
    weight, played = 1 / log.propensity[kept], log.played[kept].astype(np.float64)

    def total(values: Floats) -> Floats:
        return np.bincount(place, values, len(keys))

    days = keys // (2 * BUCKETS * VARIANTS)
    eligible = np.ones((2, VARIANTS), bool)
    eligible[0, -1] = False
    return Drawn(
        day=days, action_set=(days >= ADDED).astype(np.int64),
        cell=keys // (BUCKETS * VARIANTS) % 2, bucket=keys // VARIANTS % BUCKETS,
        variant=keys % VARIANTS, rows=total(np.ones(len(day))), plays=total(played),
        weight=total(weight), weight2=total(weight**2), weighted_plays=total(weight * played),
        eligible=eligible, even_share=np.array([FLOOR, 1.0]), buckets=BUCKETS,
    )  # fmt: skip


def measure(rows_a_day: int, same: bool, logs: int) -> dict[str, list[float]]:
    """Return lists of what was seen, a value per log where it applies."""
    seen: dict[str, list[float]] = {
        name: [] for name in ("raw", "corrected", "value", "difference", "values", "differences",
                              "winner", "likely", "wrong winner", "told")
    }  # fmt: skip
    apart = ~np.eye(VARIANTS, dtype=bool)
    for number in track(range(logs), description=f"{rows_a_day:,} a day"):
        log = simulate(np.random.default_rng([rows_a_day, number]), rows_a_day, same)
        true = log.truth[:, None] - log.truth
        held, held_apart = np.ones(VARIANTS, bool), apart.copy()
        words: set[Word] = set()
        wrong = False
        for look in range(1, DAYS + 1):
            found = contrast(rolled(log, look))
            known, pairs = found.told, found.enough & apart
            inside = np.abs(found.value - log.truth) <= found.half_widths(0.05)
            inside_apart = np.abs(found.difference - true) <= found.difference_half_widths(0.05)
            held &= inside | ~known
            held_apart &= inside_apart | ~pairs
            running = np.arange(VARIANTS if look > ADDED else VARIANTS - 1)
            names = [str(v) for v in range(VARIANTS)]
            said = decide(found, running, 0, names, rows_a_day)
            words.add(said.word)
            if said.word is Word.WINNER:
                wrong |= log.truth[said.leader] < log.truth[running].max()
        counts = np.bincount(log.shown, minlength=VARIANTS)
        raw = np.bincount(log.shown, log.played, VARIANTS) / np.maximum(counts, 1)
        differ = pairs & (np.abs(true) >= MATTERS * log.truth.mean())
        if differ.any():
            seen["raw"].append(float(np.mean((raw[:, None] - raw)[differ] * true[differ] < 0)))
            order = found.difference[differ] * true[differ]
            seen["corrected"].append(float(np.mean(order < 0)))
        seen["told"].append(float(known.mean()))
        if known.any():
            seen["value"].append(float(inside[known].mean()))
            seen["values"].append(float(held[known].mean()))
        if pairs.any():
            seen["difference"].append(float(inside_apart[pairs].mean()))
            seen["differences"].append(float(held_apart[pairs].mean()))
        seen["winner"].append(float(Word.WINNER in words))
        seen["likely"].append(float(Word.WINNER in words or Word.LIKELY in words))
        seen["wrong winner"].append(float(wrong))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=2000)
    parser.add_argument("--rows-a-day", type=int, nargs="*", default=[200, 600, 2000])
    parser.add_argument("--same", action="store_true", help="all variants are equally good")
    options = parser.parse_args()
    table = Table(title=f"{options.logs:,} logs of {DAYS} days, {VARIANTS} variants")
    table.add_column("decisions a day")
    columns = []
    for rows_a_day in options.rows_a_day:
        table.add_column(f"{rows_a_day:,}", justify="right")
        columns.append(measure(rows_a_day, options.same, options.logs))
    for name, (label, kind) in LINES.items():
        table.add_row(label, *(_cell(np.array(seen[name]), kind, options) for seen in columns))
    Console().print(table)


def _cell(values: Floats, kind: str, options: argparse.Namespace) -> str:
    if not len(values):
        return "-"
    mean = values.mean()
    if kind == "cover" and mean + 3.09 * values.std() / math.sqrt(len(values)) < 0.95:
        return f"{mean:.3f} LOW"
    slack = 3.09 * math.sqrt(0.05 * 0.95 / options.logs)
    if mean > 0.05 + slack and (kind == "never" or (kind == "if same" and options.same)):
        return f"{mean:.3f} HIGH"
    return f"{mean:.3f}"


if __name__ == "__main__":
    main()
