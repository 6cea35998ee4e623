"""What is seen on the pages, to take away: CSV, Parquet, JSON, SVG."""

from __future__ import annotations

import io
from typing import Any

from flask import Blueprint, Response, request

from artwork_bandit.comparison import features as feature_comparison
from artwork_bandit.domain import Variant
from artwork_bandit.errors import InvalidInput, NotFound
from artwork_bandit.estimators.proportion import proportion
from artwork_bandit.store import aggregates, catalog, notes, registry, rollups, summaries
from artwork_bandit.web import bodies, views
from artwork_bandit.web import pages as shown_pages
from artwork_bandit.web import policies as policy_pages
from artwork_bandit.web.api import service
from artwork_bandit.web.views import Filters

exports = Blueprint("exports", __name__)
FORMATS = {
    "csv": "text/csv", "parquet": "application/vnd.apache.parquet", "json": "application/json",
}  # fmt: skip
MOST_TITLES = 100_000
COMPARISON = [
    "variant_id", "name", "uri", "status", "is_default", "features", "impressions",
    "share_of_traffic", "units", "plays", "raw_rate", "raw_lower", "raw_upper", "corrected_rate",
    "corrected_lower", "corrected_upper", "lift", "lift_lower", "lift_upper", "effective_rows",
    "chance_to_be_best",
]  # fmt: skip
COURSE = [
    "first_day", "last_day", "variant_id", "impressions", "share", "corrected_rate", "half_width",
]  # fmt: skip
SEGMENTS = [
    "segment", "units", "variant_id", "corrected_rate", "lower", "upper", "surely_best",
    "mostly_shown",
]  # fmt: skip
CELLS = ["day", "cell", "units", "plays", "take_fraction", "lower", "upper"]
Rows = list[dict[str, Any]]


@exports.get("/overview.<kind>")
def overview(kind: str) -> Response:
    """The overview's titles, all pages of them."""
    filters = Filters.of_request()
    with service().store.read() as connection:
        _, listed = summaries.overview(
            connection, filters.slot, search=request.args.get("search", "")[:100],
            verdict=request.args.get("verdict", ""), warned="warned" in request.args,
            sort=summaries.sort_named(request.args.get("sort")), limit=MOST_TITLES,
        )  # fmt: skip
    names = [n for n in summaries.Summary.__dataclass_fields__ if n not in ("title_id", "effects")]
    rows = [
        {"title_id": each.title_id, "name": each.name}
        | {n: None if each.summary is None else getattr(each.summary, n) for n in names}
        for each in listed
    ]
    return _file(rows, kind, f"titles-{filters.slot}", ["title_id", "name", *names])


@exports.get("/titles/<title_id>/comparison.<kind>")
def comparison(title_id: str, kind: str) -> Response:
    """A title's variants side by side."""
    filters = Filters.of_request()
    with service().store.read() as connection:
        catalog.get_title(connection, title_id)
        _, _, compared = shown_pages.shown(connection, title_id, filters)
    rows = [
        _variant(row.variant)
        | {
            "impressions": row.impressions, "share_of_traffic": row.share_of_traffic,
            "units": row.raw.count, "plays": row.raw.successes, "raw_rate": row.raw.rate,
            "raw_lower": row.raw.lower, "raw_upper": row.raw.upper,
            "corrected_rate": row.corrected.estimate, "corrected_lower": row.corrected.lower,
            "corrected_upper": row.corrected.upper, "lift": row.lift.estimate,
            "lift_lower": row.lift.lower, "lift_upper": row.lift.upper,
            "effective_rows": row.effective_rows, "chance_to_be_best": row.chance_to_be_best,
        }
        for row in compared.rows
    ]  # fmt: skip
    return _file(rows, kind, f"{title_id}-{filters.slot}", COMPARISON)


@exports.get("/titles/<title_id>/course.<kind>")
def course(title_id: str, kind: str) -> Response:
    """A title's variants over time."""
    filters = Filters.of_request()
    with service().store.read() as connection:
        catalog.get_title(connection, title_id)
        some, sets, compared = shown_pages.shown(connection, title_id, filters)
    rows = [
        {
            "first_day": p.first_day, "last_day": p.last_day,
            "variant_id": row.variant.variant_id, "impressions": p.impressions[i],
            "share": p.shares[i], "corrected_rate": p.rates[i], "half_width": p.halves[i],
        }
        for p in shown_pages.course_of(some, sets, compared)
        for i, row in enumerate(compared.rows)
    ]  # fmt: skip
    return _file(rows, kind, f"{title_id}-{filters.slot}-over-time", COURSE)


@exports.get("/titles/<title_id>/segments.<kind>")
def segments(title_id: str, kind: str) -> Response:
    """A title's variants by segment."""
    filters = Filters.of_request()
    with service().store.read() as connection:
        catalog.get_title(connection, title_id)
        _, _, compared = shown_pages.shown(connection, title_id, filters)
        found = shown_pages.segments_of(connection, title_id, filters, compared)
    rows = [
        {
            "segment": row.name, "units": row.units, "variant_id": of.variant.variant_id,
            "corrected_rate": rate.estimate, "lower": rate.lower, "upper": rate.upper,
            "surely_best": row.best == i, "mostly_shown": row.mostly == i,
        }
        for row in found
        for i, (of, rate) in enumerate(zip(compared.rows, row.rates, strict=True))
    ]  # fmt: skip
    return _file(rows, kind, f"{title_id}-{filters.slot}-by-{filters.by}", SEGMENTS)


@exports.get("/titles/<title_id>/charts/<name>.svg")
def chart(title_id: str, name: str) -> Response:
    """One of a title's charts as a file."""
    filters = Filters.of_request()
    if name not in shown_pages.CHARTS:
        raise NotFound(f"there is no chart of that name; there are {list(shown_pages.CHARTS)}")
    with service().store.read() as connection:
        catalog.get_title(connection, title_id)
        rows, sets, compared = shown_pages.shown(connection, title_id, filters)
        marks = registry.promoted(connection, filters.slot)
        written = notes.of_title(connection, filters.slot, title_id)
    points = shown_pages.course_of(rows, sets, compared)
    drawn = shown_pages.CHARTS[name](points, compared, marks, written)
    if not drawn:
        raise NotFound("there is nothing to draw yet: it takes two days of decisions")
    return Response(drawn, mimetype="image/svg+xml")


@exports.get("/features.<kind>")
def features(kind: str) -> Response:
    """What features of pictures work across titles."""
    filters = Filters.of_request()
    with service().store.read() as connection:
        found = shown_pages.feature_rows(connection, filters.slot)
    names = feature_comparison.FeatureRow.__dataclass_fields__
    rows = [{name: getattr(row, name) for name in names} for row in found]
    return _file(rows, kind, f"features-{filters.slot}", list(names))


@exports.get("/policies.<kind>")
def policies(kind: str) -> Response:
    """The cells side by side, day by day."""
    slot = Filters.of_request().slot
    with service().store.read() as connection:
        by_day = aggregates.by_day(connection, slot, policy_pages.first_day())
    rows = [
        {
            "day": rollups.start_of(day).date(), "cell": cell, "units": rate.count,
            "plays": rate.successes, "take_fraction": rate.rate, "lower": rate.lower,
            "upper": rate.upper,
        }
        for (day, cell), counts in by_day.items()
        for rate in [proportion(counts.units, counts.quality_plays)]
    ]  # fmt: skip
    return _file(rows, kind, f"policies-{slot}", CELLS)


@exports.get("/policies/cells.svg")
def cells_chart() -> Response:
    """The policies page's chart as a file."""
    slot = Filters.of_request().slot
    with service().store.read() as connection:
        by_day = aggregates.by_day(connection, slot, policy_pages.first_day())
        marks = policy_pages.marks(connection, slot)
    drawn = policy_pages.cells_chart(by_day, marks)
    if not drawn:
        raise NotFound("there is nothing to draw yet: it takes two days of decisions")
    return Response(drawn, mimetype="image/svg+xml")


def _variant(variant: Variant) -> dict[str, Any]:
    return {
        "variant_id": variant.variant_id, "name": variant.name, "uri": variant.uri,
        "status": variant.status.value, "is_default": variant.is_default,
        "features": "; ".join(f"{n}: {v}" for n, v in views.described(variant.features)),
    }  # fmt: skip


def _file(rows: Rows, kind: str, name: str, columns: list[str]) -> Response:
    """Return rows, or none, of these columns as a file; raises InvalidInput for a format that is
    not made."""
    if kind not in FORMATS:
        raise InvalidInput(f"there is no {kind[:10]!r}; use one of {list(FORMATS)}")
    if kind == "json":
        return bodies.write({"rows": rows})
    import pandas as pd  # slow to import, and most servers are never asked

    frame = pd.DataFrame(rows, columns=columns)
    if kind == "csv":
        # A spreadsheet must not take a name for a formula.
        frame = frame.map(lambda x: f"'{x}" if isinstance(x, str) and x[:1] in "=+-@" and x else x)
        data = frame.to_csv(index=False).encode()
    else:
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        data = buffer.getvalue()
    answer = Response(data, mimetype=FORMATS[kind])
    answer.headers.set("Content-Disposition", "attachment", filename=f"{name}.{kind}")
    return answer
