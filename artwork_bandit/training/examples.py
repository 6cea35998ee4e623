"""The second pass over the log: Vowpal Wabbit's text, one example per row, of what was shown, and
what those rows tell of each effect.

Rows with one eligible variant teach nothing about choosing and are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO, NamedTuple

import numpy as np

from artwork_bandit.domain import Context, Floats, Ints, ReplayBlock
from artwork_bandit.policies import vowpal_text
from artwork_bandit.policies.block import ActionTable, Log, Lookup
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.policies.precision import Information
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.policies.vowpal import Form
from artwork_bandit.slots import Slot
from artwork_bandit.store.ahead import ahead
from artwork_bandit.training import information, surrogates
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.survey import Survey, member_numbers, shares, teaches


class Rows(NamedTuple):
    """What examples come from, row by row, where they are labelled later."""

    occurred_at: Ints
    """Microseconds."""
    members: Ints
    """A number of the row's member."""
    titles: Ints
    """Number of the row's title."""
    weights: Floats
    """What rows weigh by their age."""
    rewards: Floats
    """On [0, 1]."""
    numbers: Ints
    """Number of the variant shown."""
    clicked: Floats
    """1 or 0; NaN where that stands for nothing."""
    bases: Floats
    """Logits that the examples start from."""


class Written(NamedTuple):
    """Examples, on their way or in the file."""

    text: str
    told: Information | None
    rows: Rows | None = None
    """If the examples are without labels."""
    weight: float = 0.0
    """Sum of the rows' weights, and of their squares."""
    squared: float = 0.0


def write(
    out: IO[str], log: Log, lookup: Lookup, found: Survey, form: Form, slot: Slot,
    ageing: Ageing, since: int | None = None, *, labelled: bool = True,
) -> Written:  # fmt: skip
    """Write every row that can teach, from microsecond `since` on if that is given; return what
    they tell. Those that are not `labelled` are one line each, and what labels are made of is
    returned beside them."""
    told = None
    weight = squared = 0.0
    rows: list[Rows] = []
    found = replace(found, members=[], shown=[])  # a cluster need not be sent them
    bounds = slot.reward.bounds
    made_of = log.map(_texts, lookup, found, form, bounds, ageing, since, labelled)
    for made in ahead(made_of):  # whoever reads what is written need not be waited for
        out.write(made.text)
        weight, squared = weight + made.weight, squared + made.squared
        rows += [made.rows] if made.rows is not None else []
        if made.told is not None:
            told = made.told if told is None else told + made.told
    together = Rows(*map(np.concatenate, zip(*rows, strict=True))) if rows else None
    return Written("", told, together, weight, squared)


def _texts(
    blocks: Iterable[ReplayBlock], lookup: Lookup, found: Survey, form: Form,
    bounds: tuple[float, float], ageing: Ageing, since: int | None, labelled: bool,
) -> Iterator[Written]:  # fmt: skip
    """Yield each block's text, and at the end what all blocks tell."""
    assert found.last is not None, "an empty log is refused before"
    base = found.base_logits()
    features = _Features(lookup, found, form)
    for whole in blocks:
        wanted = teaches(whole) if since is None else teaches(whole) & (whole.occurred_at >= since)
        block = whole.take(wanted)
        if not len(block):
            continue
        weight = ageing.weights(block.occurred_at, found.last)
        share = shares(block.reward, bounds)
        title = np.array([found.title_numbers[s.title_id] for s in block.action_sets])
        at = base[title][block.set_of_row]
        texts, numbers, start = features.of(block, weight / (2 + 2 * np.cosh(at)))  # w p (1 - p)
        clicked = found.expected.clicked(block, numbers)
        begin = [form.title_text(t) for t in title]
        of_rows = zip(block.set_of_row.tolist(), texts, strict=True)
        lines = [f"{begin[of]} {text}\n" for of, text in of_rows]
        rows = None
        if labelled:
            by_clicks = found.expected.by_clicks(share, clicked, numbers)
            earned = surrogates.labels(share, by_clicks, form.priors)
            lines = [*vowpal_text.labelled(vowpal_text.labels(earned, weight, at + start), lines)]
        else:
            titles = title[block.set_of_row]
            rows = Rows(
                block.occurred_at, member_numbers(block), titles, weight, share, numbers,
                clicked, at + start,
            )  # fmt: skip
        summed = float(weight.sum()), float(np.square(weight).sum())
        yield Written("".join(lines), None, rows, *summed)
    yield Written("", features.told)


class _Features:
    """The texts of what rows showed; those of variants are made once they are met."""

    def __init__(self, lookup: Lookup, found: Survey, form: Form) -> None:
        self._found, self._form = found, form
        self._table = ActionTable(lookup)
        self._columns: VariantColumns | None = None
        self._variants = np.empty((0, 0))
        self._numbers = np.empty(0, np.int64)
        self._variant_texts: list[str] = []
        self._start: BoundScorer | None = None
        emphasis = len(found.variants.emphasis)
        self.told = information.nothing(form, len(found.variant_numbers), emphasis)

    def of(self, block: ReplayBlock, curvature: Floats) -> tuple[list[str], Ints, Floats]:
        """Return the features of what each row showed, its variant's number, and the logit it
        starts from beside its title's level; count what rows tell, each weighing its `curvature`.
        """
        found, form = self._found, self._form
        actions = self._table.of(block)
        if actions.columns is not self._columns:
            self._columns = actions.columns
            self._variants = found.variants.encode(actions.columns.features)
            owns = [found.variant_numbers[int(key)] for key in actions.columns.keys]
            self._numbers = np.array(owns, np.int64)
            self._variant_texts = form.variant_texts(self._variants, owns)
            if found.start is not None:
                self._start = BoundScorer.of(found.start.model, actions.columns)
        distinct, place = block.contexts.used()
        contexts = found.contexts.encode(distinct)
        shown = actions.rows[actions.offsets[:-1] + block.chosen]
        context_texts = form.context_texts(contexts)
        affinities = form.affinities(contexts[place], self._variants[shown])
        titles = [s.title_id for s in block.action_sets]
        at = zip(place.tolist(), block.set_of_row.tolist(), strict=True)
        # Of each row's own title only: members have watched a hundred others.
        shares = np.array([distinct[c].played.get(titles[t], 0.0) for c, t in at])
        shares = np.clip(shares, 0.0, 1.0)
        if form.watched is None:
            shares[:] = 0.0
        information.count(
            self.told, form, contexts, self._variants, self._numbers, place, shown, affinities,
            shares, curvature,
        )  # fmt: skip
        parts = (place.tolist(), shown.tolist(), form.watched_texts(shares))
        genres = form.own_genre_texts(contexts[place], self._numbers[shown])
        crosses = form.cross_texts(contexts[place], self._variants[shown])
        more = (form.affinity_texts(affinities), genres, crosses)
        texts = [
            f"{context_texts[c]}{w} {self._variant_texts[v]} {a}{g}{x}"
            for c, v, w, a, g, x in zip(*parts, *more, strict=True)
        ]
        return texts, self._numbers[shown], self._starts(distinct, place, shown)

    def _starts(self, distinct: Sequence[Context], place: Ints, shown: Ints) -> Floats:
        if self._start is None:
            return self._found.expected.own_means[self._numbers[shown]]
        return self._start.scores(distinct, place, shown, np.arange(len(place) + 1))
