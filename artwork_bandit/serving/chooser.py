"""Choosing: context -> action sets -> pmf -> floor -> draw. The request path of a choice.

Questions that wait at the same time are answered together: those of one slot and cell become one
flat page, so that a page of 800 titles and 30 questions for one title each cost about the same.
Everything per variant is vectorised; Python loops once per title, which the answer's JSON needs
anyway. Scores and draws are computed pair by pair, so company changes nothing.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from artwork_bandit.domain import ActionSet, Choice, Context, Decisions, Floats, Ints
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies import exploration, ragged
from artwork_bandit.policies.exploration import likeliest
from artwork_bandit.policies.policy import BoundPolicy, Policy
from artwork_bandit.policies.rendezvous import draw, gumbel_noise, member_key, period_start
from artwork_bandit.serving.catalog import Catalog, Eligible, View
from artwork_bandit.serving.state import State
from artwork_bandit.slots import Slot

log = logging.getLogger(__name__)

UNKNOWN_TITLE = "unknown_title"
NOTHING_ELIGIBLE = "nothing_eligible"
CHOOSING_FAILED = "choosing_failed"
NOT_LOGGED = "not_logged"
FORCED = "forced"


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
    preview: bool = False
    """For a tester: answered like any other, logged as nothing."""
    force: Collection[str] = ()
    """Variant ids a preview shows whatever the policy and eligibility say."""
    explain: bool = False
    """Say with each choice why it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question, when it is answered, and how long its draws last."""

    question: Question
    now: dt.datetime
    period_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A question's decisions, ready to be logged."""

    decisions: Decisions
    action_sets: list[ActionSet]
    """The sets that were chosen from."""
    entropy: float | None = None
    """Mean entropy of the pmfs, nats; None where nothing was drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The titles of a question that can be chosen for."""

    title_ids: list[str]
    eligible: list[Eligible]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Draws for many titles of many pages, in one list."""

    pmf: Floats
    offsets: Ints
    rows: list[int]
    """Per title, the catalogue's row of the variant drawn."""
    index: list[int]
    """Per title, its place in the action set."""
    propensity: list[float]
    entropy: list[float]
    """Per title, nats."""


def choose(
    question: Question, state: State, draw_key: bytes, period_seconds: float, now: dt.datetime
) -> tuple[Decisions, list[ActionSet]]:
    """Return one question's decisions and the action sets they were made from."""
    asked = Asked(question=question, now=now, period_seconds=period_seconds)
    made = choose_all([asked], state, draw_key)[0]
    return made.decisions, made.action_sets


def choose_all(asked: Sequence[Asked], state: State, draw_key: bytes) -> list[Made]:
    """Return every question's decisions, in order. A question that fails gets fallbacks alone."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, each in enumerate(asked):
        slot = each.question.slot.name
        groups.setdefault((slot, state.cell(slot, each.question.member_id)), []).append(i)
    made: dict[int, Made] = {}
    for (slot, cell), members in groups.items():
        some = [asked[i] for i in members]
        made.update(zip(members, _choose_group(some, state, slot, cell, draw_key), strict=True))
    return [made[i] for i in range(len(asked))]


def _choose_group(
    asked: Sequence[Asked], state: State, slot: str, cell: str, draw_key: bytes
) -> list[Made]:
    catalog = state.catalogs[slot]
    try:
        return _drawn_group(asked, state, slot, cell, draw_key)
    except Exception:  # the one broad catch: whatever fails here must not fail the client
        if len(asked) > 1:  # one of them; the others must not pay for it
            return [_choose_group([each], state, slot, cell, draw_key)[0] for each in asked]
        log.exception("choosing_failed", extra={"request_id": asked[0].question.request_id})
    policy, _ = state.policies[slot, cell]
    question = asked[0].question
    page = assemble(question, catalog, catalog.view(question.context, asked[0].now))
    made = _fallbacks(page, catalog, question.slot, CHOOSING_FAILED)
    return [_made(asked[0], catalog, _period(asked[0], draw_key), cell, policy, made, [])]


def _drawn_group(
    asked: Sequence[Asked], state: State, slot: str, cell: str, draw_key: bytes
) -> list[Made]:
    catalog = state.catalogs[slot]
    policy, bound = state.policies[slot, cell]
    pages = [assemble(a.question, catalog, catalog.view(a.question.context, a.now)) for a in asked]
    periods = [_period(a, draw_key) for a in asked]
    members = [
        member_key(draw_key, a.question.member_id, period)
        for a, period in zip(asked, periods, strict=True)
    ]
    contexts = [a.question.context for a in asked]
    drawn = _draw_all(pages, contexts, members, bound, catalog)
    found = []
    begin = 0
    for a, page, period in zip(asked, pages, periods, strict=True):
        choices, sets = _choices(page, drawn, begin, catalog, state.still_titles)
        end = begin + len(page.title_ids)
        entropy = sum(drawn.entropy[begin:end]) / (end - begin) if end > begin else None
        found.append(_made(a, catalog, period, cell, policy, choices, sets, entropy))
        begin = end
    return found


def _draw_all(
    pages: Sequence[Page], contexts: Sequence[Context], members: Sequence[int],
    bound: BoundPolicy, catalog: Catalog,
) -> Drawn:  # fmt: skip
    """Draw for all titles of all pages at once; page i is seen by `members[i]`."""
    titles = [e.rows for page in pages for e in page.eligible]
    offsets = np.cumsum([0, *map(len, titles)])
    if not titles:
        return Drawn(pmf=np.empty(0), offsets=offsets, rows=[], index=[], propensity=[], entropy=[])
    rows = np.concatenate(titles)
    context_of = np.arange(len(pages)).repeat([len(page.eligible) for page in pages])
    pmf = bound.pmf(contexts, context_of, rows, offsets)
    exploration.check(pmf, offsets, bound.floor_share)
    member = np.array(members, np.uint64)[context_of].repeat(ragged.sizes(offsets))
    at = draw(pmf, gumbel_noise(member, catalog.columns.keys[rows]), offsets)
    return Drawn(
        pmf=pmf,
        offsets=offsets,
        rows=rows[at].tolist(),
        index=(at - offsets[:-1]).tolist(),
        propensity=np.minimum(pmf[at], 1.0).tolist(),
        entropy=ragged.entropy(pmf, offsets).tolist(),
    )


def assemble(question: Question, catalog: Catalog, view: View) -> Page:
    """Return the titles that have something eligible, with their rows and action sets."""
    found = view.known(question.title_ids)
    if question.only is not None or question.excluded is not None:
        allowed = catalog.allowed(question.only, question.excluded)
        found = [
            (t, e if allowed[e.rows].all() else catalog.narrowed(t, e.rows[allowed[e.rows]]))
            for t, e in found
            if allowed[e.rows].any()
        ]
    return Page(title_ids=[t for t, _ in found], eligible=[e for _, e in found])


def fallen_back(made: Made, question: Question, catalog: Catalog, reason: str) -> Made:
    """Return the same request answered with defaults: nothing was drawn, nothing is learned."""
    view = catalog.view(made.decisions.context, made.decisions.occurred_at)
    choices = _fallbacks(assemble(question, catalog, view), catalog, question.slot, reason)
    decisions = replace(made.decisions, choices=_in_order(question, catalog, choices))
    return Made(decisions=decisions, action_sets=[])


def _made(
    asked: Asked, catalog: Catalog, period: int, cell: str, policy: Policy,
    choices: dict[str, Choice], sets: list[ActionSet], entropy: float | None = None,
) -> Made:  # fmt: skip
    question = asked.question
    decisions = Decisions(
        request_id=question.request_id,
        member_id=question.member_id,
        slot=question.slot.name,
        occurred_at=asked.now,
        period=period,
        cell=cell,
        policy=policy.name,
        model_version=policy.model_version,
        confirm=question.confirm,
        context=question.context,
        choices=_in_order(question, catalog, choices),
    )
    return Made(decisions=decisions, action_sets=sets, entropy=entropy)


def _period(asked: Asked, draw_key: bytes) -> int:
    return period_start(draw_key, asked.question.member_id, asked.now, asked.period_seconds)


def _in_order(
    question: Question, catalog: Catalog, choices: dict[str, Choice]
) -> tuple[Choice, ...]:
    if question.force:
        choices = choices | _forced(question, catalog)
    elif len(choices) == len(question.title_ids):  # each in the order asked
        return tuple(choices.values())
    return tuple(choices.get(t) or _nothing(t, catalog) for t in question.title_ids)


def _choices(
    page: Page, drawn: Drawn, begin: int, catalog: Catalog, still: frozenset[str]
) -> tuple[dict[str, Choice], list[ActionSet]]:
    """Return a choice per title and the action sets; the page's draws start at `begin`."""
    variants = catalog.variants
    choices = {}
    sets = []
    for i, (title_id, eligible) in enumerate(
        zip(page.title_ids, page.eligible, strict=True), start=begin
    ):
        row, action_set = drawn.rows[i], eligible.action_set
        index, propensity = drawn.index[i], drawn.propensity[i]
        if title_id in still:  # certain, though others were eligible: it tells nothing of them
            pmf = drawn.pmf[drawn.offsets[i] : drawn.offsets[i + 1]]
            index = likeliest(pmf, catalog.columns.is_default[eligible.rows])
            row, propensity = int(eligible.rows[index]), 1.0
        variant = variants[row]
        sets.append(action_set)
        # By position: names would take as long as all else of a title.
        choices[title_id] = Choice(
            title_id, variant.variant_id, variant.uri, propensity, action_set.action_set_id, index
        )
    return choices, sets


def require_forced(question: Question, catalog: Catalog) -> None:
    """Raise InvalidInput if a preview forces a variant that no title it asks for has: it would look
    like one that was not forced."""
    asked = set(question.title_ids)
    for variant_id in question.force:
        row = catalog.row_of.get(variant_id)
        if row is None or catalog.variants[row].title_id not in asked:
            raise InvalidInput(
                f"force: no title asked for has {variant_id[:60]!r} in slot {question.slot.name!r}"
            )


def _forced(question: Question, catalog: Catalog) -> dict[str, Choice]:
    wanted = [catalog.variants[catalog.row_of[v]] for v in question.force if v in catalog.row_of]
    return {
        v.title_id: Choice(
            title_id=v.title_id, variant_id=v.variant_id, uri=v.uri, propensity=None, reason=FORCED
        )
        for v in wanted
    }


def _fallbacks(page: Page, catalog: Catalog, slot: Slot, reason: str) -> dict[str, Choice]:
    made = {}
    for title_id, eligible in zip(page.title_ids, page.eligible, strict=True):
        rows = eligible.rows.tolist()
        at = slot.fallback([catalog.variants[row].is_default for row in rows])
        shown = None if at is None else catalog.variants[rows[at]]
        made[title_id] = Choice(
            title_id=title_id,
            variant_id=None if shown is None else shown.variant_id,
            uri=None if shown is None else shown.uri,
            propensity=None,
            fallback=True,
            reason=reason,
        )
    return made


def _nothing(title_id: str, catalog: Catalog) -> Choice:
    reason = NOTHING_ELIGIBLE if title_id in catalog.rows_of else UNKNOWN_TITLE
    return Choice(
        title_id=title_id, variant_id=None, uri=None, propensity=None, fallback=True, reason=reason
    )
