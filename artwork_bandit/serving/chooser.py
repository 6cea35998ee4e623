"""Choosing a page: context -> action sets -> pmf -> floor -> draw. The request path of a choice.

Everything per variant is vectorised over the page; Python loops once per title, which the answer's
JSON needs anyway.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import ActionSet, Choice, Context, Decisions, Ints
from artwork_bandit.policies import exploration
from artwork_bandit.policies.rendezvous import draw, gumbel_noise, member_key, period_start
from artwork_bandit.serving.catalog import Catalog, View
from artwork_bandit.serving.state import State
from artwork_bandit.slots import Slot

log = logging.getLogger(__name__)

UNKNOWN_TITLE = "unknown_title"
NOTHING_ELIGIBLE = "nothing_eligible"
CHOOSING_FAILED = "choosing_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a client asks: one slot, many titles."""

    request_id: str
    member_id: str
    slot: Slot
    title_ids: tuple[str, ...]
    context: Context
    confirm: str = "client"
    only: Collection[str] | None = None
    excluded: Collection[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The choosable titles of a question, flat: title i has `rows[offsets[i]:offsets[i + 1]]`."""

    title_ids: list[str]
    rows: Ints
    offsets: Ints
    action_sets: list[ActionSet]


def choose(
    question: Question, state: State, draw_key: bytes, period_seconds: float, now: dt.datetime
) -> tuple[Decisions, list[ActionSet]]:
    """Return the decisions, in the order asked, and the action sets they were made from."""
    catalog = state.catalogs[question.slot.name]
    view = catalog.view(question.context, now)
    cell = state.cell(question.member_id)
    policy, bound = state.policies[question.slot.name, cell]
    period = period_start(draw_key, question.member_id, now, period_seconds)
    page = assemble(question, catalog, view)
    made: dict[str, Choice] = {}
    if page.title_ids:
        try:
            one_context = np.zeros(len(page.title_ids), np.int64)
            pmf = bound.pmf([question.context], one_context, page.rows, page.offsets)
            exploration.check(pmf, page.offsets, bound.floor_share)
            member = member_key(draw_key, question.member_id, period)
            drawn = draw(pmf, gumbel_noise(member, catalog.columns.keys[page.rows]), page.offsets)
            made = _drawn(page, catalog, drawn, pmf)
        except Exception:  # the one broad catch: whatever fails here must not fail the client
            log.exception("choosing_failed", extra={"request_id": question.request_id})
            made = _fallbacks(page, catalog, question.slot)
    return Decisions(
        request_id=question.request_id,
        member_id=question.member_id,
        slot=question.slot.name,
        occurred_at=now,
        period=period,
        cell=cell,
        policy=policy.name,
        model_version=policy.model_version,
        confirm=question.confirm,
        context=question.context,
        choices=tuple(made.get(t) or _nothing(t, catalog) for t in question.title_ids),
    ), page.action_sets


def assemble(question: Question, catalog: Catalog, view: View) -> Page:
    """Return the titles that have something eligible, with their rows and action sets."""
    titles = [t for t in question.title_ids if t in view.rows_of]
    if question.only is None and question.excluded is None:
        rows = [view.rows_of[t] for t in titles]
        sets = [view.action_set(t) for t in titles]
    else:
        allowed = catalog.allowed(question.only, question.excluded)
        kept = [(t, r[allowed[r]]) for t in titles if allowed[r := view.rows_of[t]].any()]
        titles, rows = [t for t, _ in kept], [r for _, r in kept]
        sets = [catalog.action_set(t, r) for t, r in kept]
    return Page(
        title_ids=titles,
        rows=np.concatenate(rows) if rows else np.empty(0, np.int64),
        offsets=np.cumsum([0, *(len(r) for r in rows)]),
        action_sets=sets,
    )


def _drawn(page: Page, catalog: Catalog, drawn: Ints, pmf: np.ndarray) -> dict[str, Choice]:
    made = {}
    variants = [catalog.variants[row] for row in page.rows[drawn].tolist()]
    index = (drawn - page.offsets[:-1]).tolist()
    probability = pmf[drawn].tolist()
    for i, title_id in enumerate(page.title_ids):
        made[title_id] = Choice(
            title_id=title_id,
            variant_id=variants[i].variant_id,
            uri=variants[i].uri,
            propensity=min(1.0, probability[i]),
            action_set_id=page.action_sets[i].action_set_id,
            index=index[i],
        )
    return made


def _fallbacks(page: Page, catalog: Catalog, slot: Slot) -> dict[str, Choice]:
    made = {}
    for i, title_id in enumerate(page.title_ids):
        rows = page.rows[page.offsets[i] : page.offsets[i + 1]].tolist()
        at = slot.fallback([catalog.variants[row].is_default for row in rows])
        shown = None if at is None else catalog.variants[rows[at]]
        made[title_id] = Choice(
            title_id=title_id,
            variant_id=None if shown is None else shown.variant_id,
            uri=None if shown is None else shown.uri,
            propensity=None,
            fallback=True,
            reason=CHOOSING_FAILED,
        )
    return made


def _nothing(title_id: str, catalog: Catalog) -> Choice:
    reason = NOTHING_ELIGIBLE if title_id in catalog.titles else UNKNOWN_TITLE
    return Choice(
        title_id=title_id, variant_id=None, uri=None, propensity=None, fallback=True, reason=reason
    )
