"""The second pass over the log: Vowpal Wabbit's text, one example per row, of what was shown.

Rows with one eligible variant teach nothing about choosing and are left out, and counted. Recent
behaviour weighs more: a row that is h half-lives older than the newest weighs 2^-h.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import IO

import numpy as np

from artwork_bandit.domain import ReplayBlock
from artwork_bandit.policies import vowpal
from artwork_bandit.policies.block import ActionTable, Log, Lookup
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.policies.vowpal import Form
from artwork_bandit.slots import Slot
from artwork_bandit.training.survey import Survey, shares, teaches

SMALLEST_WEIGHT = 1e-6


def write(
    out: IO[str], log: Log, lookup: Lookup, found: Survey, form: Form, slot: Slot,
    half_life: dt.timedelta, since: int = 0,
) -> int:  # fmt: skip
    """Write every row that can teach, from microsecond `since` on; return the number of lines."""
    lines = 0
    found = replace(found, members=[], shown=[])  # a cluster need not be sent them
    for text, count in log.map(_texts, lookup, found, form, slot.reward.bounds, half_life, since):
        out.write(text)
        lines += count
    return lines


def _texts(
    blocks: Iterable[ReplayBlock], lookup: Lookup, found: Survey, form: Form,
    bounds: tuple[float, float], half_life: dt.timedelta, since: int,
) -> Iterator[tuple[str, int]]:  # fmt: skip
    """Yield each block's text and the number of its lines."""
    assert found.last is not None, "an empty log is refused before"
    base = found.base_logits()
    features = _Features(lookup, found, form)
    for whole in blocks:
        block = whole.take(teaches(whole) & (whole.occurred_at >= since))
        if not len(block):
            continue
        age = (found.last - block.occurred_at) / (half_life / dt.timedelta(microseconds=1))
        weight = np.maximum(np.exp2(-age), SMALLEST_WEIGHT)
        share = shares(block.reward, bounds)
        texts = features.texts(block)
        title = [found.title_numbers[s.title_id] for s in block.action_sets]
        begin = [(form.title_text(t), float(base[t])) for t in title]
        lines: list[str] = []
        for i, row in enumerate(zip(block.set_of_row.tolist(), share, weight, strict=True)):
            at, reward, heavy = row
            text, logit = begin[at]
            lines += [f"{la} {text} {texts[i]}\n" for la in vowpal.labels(reward, heavy, logit)]
        yield "".join(lines), len(lines)


class _Features:
    """The texts of what rows showed; those of variants are made once they are met."""

    def __init__(self, lookup: Lookup, found: Survey, form: Form) -> None:
        self._found, self._form = found, form
        self._table = ActionTable(lookup)
        self._columns: VariantColumns | None = None
        self._variants = np.empty((0, 0))
        self._variant_texts: list[str] = []

    def texts(self, block: ReplayBlock) -> list[str]:
        """Return the features of what each row showed."""
        found, form = self._found, self._form
        actions = self._table.of(block)
        if actions.columns is not self._columns:
            self._columns = actions.columns
            self._variants = found.variants.encode(actions.columns.features)
            owns = [found.variant_numbers[int(key)] for key in actions.columns.keys]
            self._variant_texts = form.variant_texts(self._variants, owns)
        distinct, place = block.contexts.used()
        contexts = found.contexts.encode(distinct)
        shown = actions.rows[actions.offsets[:-1] + block.chosen]
        context_texts = form.context_texts(contexts)
        affinities = form.affinities(contexts[place], self._variants[shown])
        titles = [s.title_id for s in block.action_sets]
        at = zip(place.tolist(), block.set_of_row.tolist(), strict=True)
        # Of each row's own title only: members have watched fifty others.
        shares = np.array([max(distinct[c].played.get(titles[t], 0.0), 0.0) for c, t in at])
        if form.watched is None:
            shares[:] = 0.0
        parts = (place.tolist(), shown.tolist(), form.watched_texts(shares))
        return [
            f"{context_texts[c]}{w} {self._variant_texts[v]} {a}"
            for c, v, w, a in zip(*parts, form.affinity_texts(affinities), strict=True)
        ]
