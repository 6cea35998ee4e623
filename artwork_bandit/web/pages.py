"""The product team's pages: an overview of titles, a title's variants, features, history."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

from flask import Blueprint, render_template, request
from markupsafe import Markup

from artwork_bandit.comparison import cells as cell_comparison
from artwork_bandit.comparison import course as courses
from artwork_bandit.comparison import drawn
from artwork_bandit.comparison import features as feature_comparison
from artwork_bandit.comparison import segments as segment_comparison
from artwork_bandit.comparison import variants as variant_comparison
from artwork_bandit.comparison.course import Point
from artwork_bandit.comparison.variants import Comparison, is_running
from artwork_bandit.comparison.verdict import Word
from artwork_bandit.domain import ActionSet, ModelRecord, Title, VariantStatus
from artwork_bandit.policies import segments
from artwork_bandit.settings import LIVE
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import (
    aggregates,
    catalog,
    changes,
    notes,
    profiles,
    registry,
    rollups,
    summaries,
)
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection
from artwork_bandit.store.notes import Note
from artwork_bandit.store.rollups import Rollup
from artwork_bandit.web import charts, views
from artwork_bandit.web.api import communities, communities_for, now, service
from artwork_bandit.web.charts import Line, Mark
from artwork_bandit.web.views import Filters

pages = Blueprint("pages", __name__)
ROWS_SHOWN, TITLES_SHOWN, MEMBERS_SHOWN = 8, 20, 12
CARDS, CHANGED, CHANGES_SHOWN, CHANGES_OF_TITLE = 36, 6, 200, 12
WEEK = dt.timedelta(days=7)
LINES_SHOWN = 6

for each in (
    views.percent, views.worth, views.signed, views.number, views.moment, views.days, views.named,
    views.described, views.is_video, views.shown, views.sentence,
):  # fmt: skip
    pages.add_app_template_filter(each, each.__name__)


@pages.app_context_processor
def everywhere() -> dict[str, Any]:
    """What every page shows."""
    return {
        "now": now(), "slots": tuple(SLOTS), "author": views.known_author(),
        "asks_author": not service().settings.user_header, "words": list(Word),
    }  # fmt: skip


@pages.get("/")
def overview() -> str:
    filters = Filters.of_request()
    slot, search = filters.slot, request.args.get("search", "").strip()[:100]
    verdict, warned = request.args.get("verdict", ""), "warned" in request.args
    sort = summaries.sort_named(request.args.get("sort"))
    page = _page_number()
    with service().store.read() as connection:
        count, listed = summaries.overview(
            connection, slot, search=search, verdict=verdict, warned=warned, sort=sort,
            offset=(page - 1) * CARDS, limit=CARDS,
        )  # fmt: skip
        ids = [each.title_id for each in listed]
        variants = catalog.of_titles(connection, ids)
        known = summaries.in_all_slots(connection, ids)
        verdicts = summaries.by_verdict(connection, slot)
        changed = summaries.changed_since(connection, slot, now() - WEEK, CHANGED)
        compared = cell_comparison.compare(connection, slot, None, None)
        live = registry.live(connection, slot)
        last = registry.last_promotion(connection, slot)
        impressions = aggregates.impressions(connection, slot)
        by_hand = changes.count_since(connection, now() - WEEK)
    cards = [
        {
            "id": each.title_id, "name": each.name,
            "rows": [
                {
                    "slot": name, "variants": of_slot, "known": known.get((each.title_id, name)),
                    "picture": _picture(of_slot, known.get((each.title_id, name))),
                }
                for name in SLOTS
                if (of_slot := [v for v in variants.get(each.title_id, []) if v.slot == name])
            ],
        }
        for each in listed
    ]  # fmt: skip
    wanted = {"slot": slot, "search": search, "verdict": verdict, "sort": sort}
    if warned:
        wanted["warned"] = "on"
    return render_template(
        "overview.html", slot=slot, cards=cards, count=count, page=page,
        pages=max(-(-count // CARDS), 1), verdicts=verdicts, verdict=verdict, warned=warned,
        sort=sort, sorts=summaries.SORTS, search=search, changed=changed, compared=compared,
        live=live, last_promotion=last, impressions=impressions, by_hand=by_hand, week=now() - WEEK,
        wanted={k: v for k, v in wanted.items() if v},
    )  # fmt: skip


def _picture(variants: Sequence[Any], known: summaries.Summary | None) -> Any:
    """Return the variant that stands for a title: its leader, its default, or the first."""
    leader = known.leader if known is not None else None
    ranked = sorted(variants, key=lambda v: (v.variant_id != leader, not v.is_default))
    running = [v for v in ranked if is_running(v, now())]
    return (running or ranked)[0]


@pages.get("/titles/<title_id>")
def title(title_id: str) -> str:
    filters = Filters.of_request()
    with service().store.read() as connection:
        found = catalog.get_title(connection, title_id)
        rows, sets, compared = shown(connection, title_id, filters)
        slots = sorted({v.slot for v in catalog.list_variants(connection, title_id)})
        marks = registry.promoted(connection, filters.slot)
        live = registry.live(connection, filters.slot)
        written = notes.of_title(connection, filters.slot, title_id)
        history = changes.latest(connection, title_id=title_id, limit=CHANGES_OF_TITLE + 1)
        done = views.done(connection, title_id, now())
        segmented = segments_of(connection, title_id, filters, compared) if filters.by else None
    fields = list(segments.FIELDS)
    if communities(filters.slot) is not None:
        fields.insert(1, segments.COMMUNITY)
    order = _order(compared)
    points = course_of(rows, sets, compared)
    bounds = [r.raw.upper for r in compared.rows] + [r.corrected.upper for r in compared.rows]
    scale = max((b for b in bounds if b is not None), default=1.0) * 1.05
    charted = {
        name: [Markup(draw(points, compared, marks, written, width)) for width in charts.NAMES]
        for name, draw in CHARTS.items()
    }
    return render_template(
        "title.html", title=found, slot=filters.slot, title_slots=slots, compared=compared,
        order=order, scale=scale, filters=filters, charts=charted, points=points, notes=written,
        history=history[:CHANGES_OF_TITLE], more_history=len(history) > CHANGES_OF_TITLE,
        segmented=segmented, fields=fields, statuses=list(VariantStatus), done=done,
        lines_shown=LINES_SHOWN, live=live, misleading=_misleading(live),
        latest=segment_comparison.LATEST, started=rollups.start_of,
    )  # fmt: skip


def _misleading(live: ModelRecord | None) -> Collection[str]:
    """Return the variants that the model that serves took for misleading."""
    return () if live is None else live.settings.get("misleading") or ()


def _order(compared: Comparison) -> list[int]:
    """Return the variants in the order of the page: running ones first, the leader, then by lift,
    which is of common decisions; rates may be of other days."""

    def key(i: int) -> tuple[bool, bool, float, int]:
        row = compared.rows[i]
        is_baseline = row.variant.variant_id == compared.baseline
        lift = 0.0 if is_baseline else row.lift.estimate
        running = is_running(row.variant, now())
        return (
            not running, i != compared.verdict.leader, -(lift if lift is not None else -1.0), i,
        )  # fmt: skip

    return sorted(range(len(compared.rows)), key=key)


def shown(
    connection: Connection, title_id: str, filters: Filters
) -> tuple[list[Rollup], dict[int, ActionSet], Comparison]:
    """Return a title's roll-ups and comparison, as the filters ask."""
    variants = catalog.list_variants(connection, title_id, filters.slot)
    rows = rollups.of_title(connection, filters.slot, title_id, filters.first_day, filters.end_day)
    sets = request_store.get_action_sets(connection, {row.action_set_id for row in rows})
    earlier = catalog.earlier_pictures(connection, variants)
    rows, sets = drawn.with_earlier_named(rows, sets, earlier)
    share = registry.least_explored(connection, filters.slot, service().settings.explored_share)
    return rows, sets, variant_comparison.of_rows(
        title_id, filters.slot, variants, rows, sets, share, now()
    )  # fmt: skip


def course_of(rows: list[Rollup], sets: dict[int, ActionSet], compared: Comparison) -> list[Point]:
    """Return a title's variants over time."""
    ids = [row.variant.variant_id for row in compared.rows]
    return courses.course(rows, sets, ids, compared.explored_share)


def segments_of(
    connection: Connection, title_id: str, filters: Filters, compared: Comparison
) -> list[segment_comparison.SegmentRow]:
    """Return a title's segments; raises InvalidInput for a field that is unknown."""
    variants = [row.variant for row in compared.rows]
    return segment_comparison.of_title(
        connection, filters.slot, title_id, variants, filters.by,
        compared.explored_share, filters.first_day, filters.end_day, now(),
        communities_for(filters.by, filters.slot),
    )  # fmt: skip


def rates_chart(
    points: list[Point], compared: Comparison, promoted: list[tuple[dt.datetime, int | None]],
    written: list[Note], width: int = charts.WIDE,
) -> str:  # fmt: skip
    lines = [
        Line(
            name=_numbered(compared, i),
            values=[p.rates[i] for p in points], halves=[p.halves[i] for p in points],
        )
        for i in _busiest(compared)
    ]  # fmt: skip
    return charts.lines(
        "Corrected take fraction over time, with 95% bands", _days(points), lines,
        _marks(points, promoted, written), width=width,
    )  # fmt: skip


def shares_chart(
    points: list[Point], compared: Comparison, promoted: list[tuple[dt.datetime, int | None]],
    written: list[Note], width: int = charts.WIDE,
) -> str:  # fmt: skip
    lines = [
        Line(name=_numbered(compared, i), values=[p.shares[i] for p in points])
        for i in _busiest(compared)
    ]
    return charts.lines(
        "Share of impressions over time", _days(points), lines,
        _marks(points, promoted, written), percent_digits=0, width=width,
    )  # fmt: skip


CHARTS = {"rates": rates_chart, "shares": shares_chart}
"""A title's charts, by the name of their file."""


def _numbered(compared: Comparison, i: int) -> str:
    return f"#{i + 1} {views.named(compared.rows[i].variant)}"


def _busiest(compared: Comparison) -> list[int]:
    """Return the numbers of the variants that charts show."""
    busy = sorted(range(len(compared.rows)), key=lambda i: -compared.rows[i].impressions)
    return sorted(busy[:LINES_SHOWN])


def _days(points: list[Point]) -> list[str]:
    return [p.first_day.isoformat() for p in points]


def _marks(
    points: list[Point], promoted: list[tuple[dt.datetime, int | None]], written: list[Note]
) -> list[Mark]:
    if len(points) < 2:
        return []
    first, last = points[0].first_day, points[-1].last_day
    width = (points[1].first_day - first).days or 1
    told = [
        (when.date(), "no model" if version is None else f"model {version}")
        for when, version in promoted
    ]
    told += [(rollups.start_of(n.day).date(), n.text) for n in written]
    return [
        # The days of the last point are beyond its place.
        Mark(at=min((day - first).days / width, len(points) - 1), text=text)
        for day, text in told
        if first <= day <= last
    ]


@pages.get("/features")
def features() -> str:
    """What features of pictures work across titles."""
    filters = Filters.of_request()
    with service().store.read() as connection:
        rows = feature_rows(connection, filters.slot)
    top = max((max(abs(r.lower), abs(r.upper)) for r in rows), default=1.0)
    return render_template(
        "features.html", slot=filters.slot, rows=rows, top=top,
        fewest=feature_comparison.FEWEST_TITLES,
    )  # fmt: skip


def feature_rows(connection: Connection, slot: str) -> list[feature_comparison.FeatureRow]:
    """Return what features of a slot's variants are worth, across titles."""
    effects = summaries.effects(connection, slot)
    described = {
        v.variant_id: v.features
        for of_title in catalog.of_titles(connection, effects).values()
        for v in of_title
        if v.slot == slot
    }
    pairs = {
        t: {v: (lift, n) for v, (lift, n) in of_variant.items()}
        for t, of_variant in effects.items()
    }
    return feature_comparison.across_titles(pairs, described)


@pages.get("/changes")
def history() -> str:
    """Who changed what, and when."""
    title_id, before = request.args.get("title_id") or None, views.change_of("before")
    with service().store.read() as connection:
        latest = changes.latest(
            connection, title_id=title_id, before=before, limit=CHANGES_SHOWN + 1
        )
    more = len(latest) > CHANGES_SHOWN
    return render_template(
        "changes.html", slot=None, history=latest[:CHANGES_SHOWN], more=more, title_id=title_id,
        before=before,
    )  # fmt: skip


@pages.get("/demo")
def homepage() -> str:
    """A page as a member sees it, filled in by the browser."""
    preview = service().settings.demo_homepage != LIVE
    with service().store.read() as connection:
        variants = catalog.list_variants(connection, slot="artwork")
        titles = catalog.list_titles(connection)
        known = {} if preview else profiles.first(connection, MEMBERS_SHOWN)
    active = {v.title_id for v in variants if v.status is VariantStatus.ACTIVE}
    by_genre: dict[str, list[Title]] = {}
    for each in titles:
        if each.title_id in active:
            for genre in each.genres or ("Other",):
                by_genre.setdefault(genre, []).append(each)
    rows = sorted(by_genre.items(), key=lambda row: -len(row[1]))[:ROWS_SHOWN]
    members = [
        (member, sorted(p.genres, key=lambda g: -p.genres[g])[:2]) for member, p in known.items()
    ]
    return render_template(
        "homepage.html", rows=[(genre, some[:TITLES_SHOWN]) for genre, some in rows],
        members=[*members, ("a-new-visitor", [])], slot=None, preview=preview,
    )  # fmt: skip


def _page_number() -> int:
    text = request.args.get("page", "1")[:9]
    return min(int(text), 100_000) if text.isascii() and text.isdigit() and int(text) else 1
