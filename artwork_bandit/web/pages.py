"""The product team's pages: an overview of titles, and a title's variants."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from artwork_bandit.comparison import cells as cell_comparison
from artwork_bandit.comparison import variants as variant_comparison
from artwork_bandit.domain import Title, VariantStatus
from artwork_bandit.slots import SLOTS, slot_named
from artwork_bandit.store import aggregates, catalog, profiles, registry
from artwork_bandit.web.api import now, service

pages = Blueprint("pages", __name__)
ROWS_SHOWN, TITLES_SHOWN, MEMBERS_SHOWN = 8, 20, 12


@pages.app_template_filter("percent")
def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as people read it; no data is a dash, not zero."""
    return "–" if value is None else f"{value:.{digits}%}"


@pages.get("/")
def overview() -> str:
    slot = slot_named(request.args.get("slot", "artwork")).name
    with service().store.read() as connection:
        titles = catalog.list_titles(connection)
        variants = catalog.list_variants(connection, slot=slot)
        counts = aggregates.by_title(connection, slot)
        compared = cell_comparison.compare(connection, slot, None, None)
        live = registry.live(connection, slot)
        impressions = aggregates.sizes(connection)["impressions"]
    by_title: dict[str, list[object]] = {}
    for variant in variants:
        by_title.setdefault(variant.title_id, []).append(variant)
    cards = [
        {"title": t, "variants": by_title[t.title_id], "counted": n, "rate": s / n if n else None}
        for t in titles
        if t.title_id in by_title
        for n, s in [counts.get(t.title_id, (0, 0))]
    ]
    cards.sort(key=lambda card: -card["counted"])  # type: ignore[operator]
    return render_template(
        "overview.html", slot=slot, slots=list(SLOTS), cards=cards, compared=compared,
        live=live, impressions=impressions, now=now(),
    )  # fmt: skip


@pages.get("/titles/<title_id>")
def title(title_id: str) -> str:
    slot = slot_named(request.args.get("slot", "artwork")).name
    with service().store.read() as connection:
        found = catalog.get_title(connection, title_id)
        rows = variant_comparison.compare(connection, title_id, slot)
        slots = sorted({v.slot for v in catalog.list_variants(connection, title_id)})
    bounds = [r.raw.upper for r in rows] + [r.random.upper for r in rows]
    scale = max((b for b in bounds if b is not None), default=1.0) * 1.05
    return render_template(
        "title.html", title=found, slot=slot, slots=slots, rows=rows, scale=scale, now=now()
    )


@pages.get("/demo")
def homepage() -> str:
    """A page as a member sees it, filled in by the browser."""
    with service().store.read() as connection:
        variants = catalog.list_variants(connection, slot="artwork")
        titles = catalog.list_titles(connection)
        known = profiles.first(connection, MEMBERS_SHOWN)
    shown = {v.title_id for v in variants if v.status is VariantStatus.ACTIVE}
    by_genre: dict[str, list[Title]] = {}
    for each in titles:
        if each.title_id in shown:
            for genre in each.genres or ("Other",):
                by_genre.setdefault(genre, []).append(each)
    rows = sorted(by_genre.items(), key=lambda row: -len(row[1]))[:ROWS_SHOWN]
    members = [
        (member, sorted(p.genres, key=lambda g: -p.genres[g])[:2]) for member, p in known.items()
    ]
    return render_template(
        "homepage.html", rows=[(genre, some[:TITLES_SHOWN]) for genre, some in rows],
        members=[*members, ("a-new-visitor", [])], slots=(), slot=None, now=now(),
    )  # fmt: skip
