"""The policies page: is choosing by taste worth it, who chooses now, and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flask import Blueprint, Response, render_template
from markupsafe import Markup

from artwork_bandit.comparison import cells as cell_comparison
from artwork_bandit.domain import CellShare
from artwork_bandit.estimators.proportion import proportion
from artwork_bandit.estimators.tails import chi_square_tail
from artwork_bandit.evaluation.verdict import Verdict
from artwork_bandit.operations.model_editing import CELLS_SET
from artwork_bandit.operations.reporting import AUTHOR
from artwork_bandit.operations.rules import slot_of
from artwork_bandit.policies.cells import CELLS, shares_of
from artwork_bandit.slots import RewardRule, slot_named
from artwork_bandit.store import (
    aggregates,
    changes,
    notes,
    pauses,
    registry,
    reports,
    rollups,
    summaries,
)
from artwork_bandit.store import cells as cell_store
from artwork_bandit.store.engine import Connection
from artwork_bandit.web import charts, views
from artwork_bandit.web.api import now, service
from artwork_bandit.web.charts import Line, Mark
from artwork_bandit.web.views import Filters

policies = Blueprint("policies", __name__)
DAYS_SHOWN = 56
MODELS_SHOWN = 30
FEWEST_MEMBERS = 500
"""Members below which their counts are not judged."""
ALARM = 0.001
REPORTS_SHOWN, REPORTS_DRAWN = 12, 60
SHARES = (0.0, 1.0)
"""Bounds of rewards that are shares of what there is."""
JUDGED = ("uniform", "best-single", "live", "challenger")
"""What a worker's report judges."""
REPORT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
)
FEWEST_PLAYS = 5
"""Plays of a cell on a day, for a point of its line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """How many members of the cells were seen, against their shares."""

    rows: list[tuple[str, int, float]]
    """(cell, members seen, share that the cell is configured to have)."""
    p_value: float | None
    """Of a chi-square test; None with too few members."""

    @property
    def broken(self) -> bool:
        return self.p_value is not None and self.p_value < ALARM


@policies.get("/policies")
def page() -> str:
    filters = Filters.of_request()
    slot = filters.slot
    with service().store.read() as connection:
        compared = cell_comparison.compare(connection, slot, None, None)
        by_day = aggregates.by_day(connection, slot, first_day())
        promoted = registry.promoted(connection, slot)
        marked = marks(connection, slot)
        models = registry.recent(connection, slot, MODELS_SHOWN)
        challenger, serving = registry.challenger(connection, slot), registry.live(connection, slot)
        # Who was seen under the shares before says nothing of these.
        moved = changes.last(connection, CELLS_SET)
        since = None if moved is None else moved.changed_at
        seen = aggregates.members_by_cell(connection, slot, since)
        shares = cell_store.read(connection)
        warned, _ = summaries.overview(connection, slot, warned=True, limit=0)
        paused = pauses.read(connection)
        kept = reports.latest(connection, slot, REPORTS_DRAWN)
        last = registry.last_promotion(connection, slot)
        done = views.done(connection, None, now())
    rule = slot_of(service().settings, slot).reward
    drawn = [Markup(cells_chart(by_day, marked, width)) for width in charts.NAMES]
    expected = [Markup(reports_chart(kept, width)) for width in charts.NAMES]
    return render_template(
        "policies.html", slot=slot, compared=compared, chart=drawn, models=models,
        challenger=challenger, serving=serving, last_promotion=last,
        members=members(seen, shares), warned=warned,
        paused=slot in paused, reports=kept[:REPORTS_SHOWN], expected=expected, done=done,
        rule=rule, bounds=bounds_of(slot, rule),
        can_roll_back=any(version is not None for _, version in promoted),
    )  # fmt: skip


def bounds_of(slot: str, rule: RewardRule) -> dict[str, tuple[float, float]]:
    """Return the bounds of the rules that are known, by version."""
    of = slot_named(slot)
    return {each.version: each.bounds for each in (of.reward, *of.other_rules, rule)}


@policies.get("/reports/<int(max=9007199254740991):report_id>")
def report(report_id: int) -> Response:
    """A kept report: one page with its own style, and nothing from elsewhere."""
    with service().store.read() as connection:
        answer = Response(reports.page(connection, report_id), mimetype="text/html")
    answer.headers["Content-Security-Policy"] = REPORT_SECURITY_POLICY
    return answer


@policies.get("/reports/<int(max=9007199254740991):report_id>.json")
def report_json(report_id: int) -> Response:
    with service().store.read() as connection:
        return Response(reports.json(connection, report_id), mimetype="application/json")


def cells_chart(
    by_day: dict[tuple[int, str], aggregates.Counts], marks: list[tuple[dt.datetime, str]],
    width: int = charts.WIDE,
) -> str:  # fmt: skip
    """Return each cell's take fraction, day by day."""
    if not by_day:
        return ""
    days = range(min(d for d, _ in by_day), max(d for d, _ in by_day) + 1)
    lines = []
    for cell in CELLS:
        values: list[float | None] = []
        halves: list[float | None] = []
        for day in days:
            counts = by_day.get((day, cell), aggregates.Counts.none())
            found = proportion(counts.units, counts.quality_plays)
            told = found.successes >= FEWEST_PLAYS
            values.append(found.rate if told else None)
            wide = told and found.upper is not None and found.lower is not None
            halves.append((found.upper - found.lower) / 2 if wide else None)  # type: ignore[operator]
        if any(v is not None for v in values):
            lines.append(Line(name=cell, values=values, halves=halves))
    names = [rollups.start_of(day).date().isoformat() for day in days]
    placed = [Mark(at=rollups.day_of(when) - days[0], text=text) for when, text in marks]
    return charts.lines("Take fraction of each cell, by day", names, lines, placed, width=width)


def reports_chart(kept: Sequence[reports.Kept], width: int = charts.WIDE) -> str:
    """Return what the workers' reports expected of each policy, report by report."""
    made = [each for each in reversed(kept) if each.author == AUTHOR]
    within = _bounds(made[-1]) if made else SHARES
    made = [each for each in made if _bounds(each) == within]  # others are of another rule
    lines = []
    for name in JUDGED:
        told = [_told(each.summary["targets"].get(name)) for each in made]
        if any(value is not None for value, _ in told):
            lines.append(
                Line(name=name, values=[v for v, _ in told], halves=[half for _, half in told])
            )
    days = [each.made_at.date().isoformat() for each in made]
    title = "Expected reward per impression of each policy, by report"
    return charts.lines(title, days, lines, width=width, shares=within == SHARES)


def _bounds(kept: reports.Kept) -> tuple[float, float]:
    low, high = kept.summary.get("bounds", SHARES)
    return float(low), float(high)


def _told(target: Mapping[str, Any] | None) -> tuple[float | None, float | None]:
    """Return a target's estimate and half the width of its interval, None if it was refused."""
    if target is None or target["verdict"] == Verdict.REFUSE or target["estimate"] is None:
        return None, None
    lower, upper = target["lower"], target["upper"]
    return target["estimate"], None if lower is None or upper is None else (upper - lower) / 2


def first_day() -> int:
    """Return the first day that is shown, counted from 1970."""
    return rollups.day_of(now()) - DAYS_SHOWN


def marks(connection: Connection, slot: str) -> list[tuple[dt.datetime, str]]:
    """Return what is marked in charts of a slot: models that went live, notes for all titles."""
    found = [
        (when, "no model" if version is None else f"model {version}")
        for when, version in registry.promoted(connection, slot)
    ]
    written = notes.of_title(connection, slot, None)
    return found + [(rollups.start_of(n.day), n.text) for n in written]


def members(seen: dict[str, int], shares: tuple[CellShare, ...]) -> Members:
    """Return the counts of members against the cells' shares."""
    share_of = shares_of(shares)
    rows = [(cell, seen.get(cell, 0), share_of.get(cell, 0.0)) for cell in CELLS]
    counts = np.array([n for _, n, share in rows if share > 0], np.float64)
    expected = np.array([share for _, _, share in rows if share > 0]) * counts.sum()
    if counts.sum() < FEWEST_MEMBERS or len(counts) < 2 or expected.min() < 5:
        return Members(rows=rows, p_value=None)
    statistic = float(np.sum((counts - expected) ** 2 / expected))
    return Members(rows=rows, p_value=chi_square_tail(statistic, len(counts) - 1))
