"""The first pass: what it learns does not hang on how the log is cut, and it keeps few members."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from artwork_bandit.domain import ActionSet, Context, Contexts, ReplayBlock, Variant
from artwork_bandit.policies.block import InMemory, names_only
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import survey
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.survey import Counts
from tests.taught import log, variants

BOUNDS = SLOTS["artwork"].reward.bounds


def counted(*blocks: ReplayBlock) -> Counts:
    counts = Counts()
    for block in blocks:
        counts.add(block, names_only, BOUNDS)
    return counts


@pytest.mark.parametrize("most", [7, 300, 10_000])
def test_the_members_kept_are_the_same_however_the_log_is_cut(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(survey, "MOST_MEMBERS", most)
    block = log(1_000)
    # Members come back, with other contexts.
    block.member_ids[500:] = block.member_ids[:500]
    cuts = [np.arange(0, 300), np.arange(300, 450), np.arange(450, 1_000)]
    whole = counted(block).sampled()
    assert len(whole) == min(most, 500)
    assert counted(*(block.take(rows) for rows in cuts)).sampled() == whole
    parts = counted()
    for rows in cuts:
        parts += counted(block.take(rows))
    assert parts.sampled() == whole
    assert len(parts.members) <= 2 * most


def test_a_variant_is_known_as_it_was_shown_last_however_the_log_is_cut() -> None:
    block = log(1_000, titles=1)
    (first,) = block.action_sets
    block = replace(
        block, action_sets=(first, replace(first, action_set_id=1)),
        set_of_row=(np.arange(1_000) >= 600).astype(np.int64),
    )  # fmt: skip

    def lookup(sets: Sequence[ActionSet]) -> list[list[Variant]]:
        return [
            [replace(v, revision=1 + s.action_set_id, uri=f"/{s.action_set_id}") for v in shown]
            for s in sets
            for shown in variants(1)
        ]

    pieces = [block.take(np.arange(i, i + 200)) for i in range(0, 1_000, 200)]
    for blocks in ([block], pieces, pieces[::-1]):
        found = survey.survey(InMemory(blocks), lookup, BOUNDS).shown
        assert [(v.revision, v.uri) for v in found] == [(2, "/1")] * 4
    counts = Counts()
    for piece in pieces[::-1]:
        more = Counts()
        more.add(piece, lookup, BOUNDS)
        counts += more
    assert {shown.revision for shown in counts.variants.values()} == {2}


def test_clicks_before_a_change_weigh_the_same_however_the_log_is_cut() -> None:
    block = log(1_000)
    block = replace(block, clicked=(np.arange(1_000) % 3 == 0).astype(float))
    ageing = Ageing(half_life=dt.timedelta(days=30), changed_at=int(block.occurred_at[700]))

    def clicks(pieces: Iterable[ReplayBlock]) -> dict[int, list[float]]:
        counts = Counts(ageing=ageing)
        for piece in pieces:
            counts.add(piece, names_only, BOUNDS)
        last = int(block.occurred_at[-1])
        return {key: found.aged(last, ageing).tolist() for key, found in counts.clicked.items()}

    whole = clicks([block])
    cut = clicks(block.take(np.arange(i, i + 100)) for i in range(0, 1_000, 100))
    assert cut.keys() == whole.keys()
    for key, sums in whole.items():
        assert cut[key] == pytest.approx(sums, rel=1e-9)


class Looked(list[Context]):
    """Contexts, and which were looked at."""

    def __init__(self, contexts: Iterable[Context]) -> None:
        super().__init__(contexts)
        self.at: set[int] = set()

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        self.at.add(at)
        return super().__getitem__(at)


def test_few_contexts_are_looked_at_in_a_log_of_many_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(survey, "MOST_MEMBERS", 10)
    block = log(2_000)
    looked = Looked(list(block.contexts))
    block = replace(block, contexts=Contexts(looked, np.arange(2_000)))
    counted(*(block.take(np.arange(start, start + 100)) for start in range(0, 2_000, 100)))
    assert 10 <= len(looked.at) < 200
