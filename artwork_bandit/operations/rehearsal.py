"""Apprentice mode: what a model would have shown where members were served the default.

While a slot is paused, or for the members of the baseline cell, everybody gets one fixed variant,
and the log keeps the context and what else was eligible. So what any model would have chosen can
be told for every one of those decisions, now or later, without a member seeing any of it. What it
would have earned cannot: nobody was shown anything else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from artwork_bandit.domain import ReplayBlock, instant
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.operations.database_source import model_target
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.block import ActionTable
from artwork_bandit.policies.policy import Policy
from artwork_bandit.policies.ragged import first_maximum
from artwork_bandit.store import parquet

SCHEMA = pa.schema(
    {
        "decision_id": pa.string(), "occurred_at": pa.timestamp("us", "UTC"),
        "member_id": pa.string(), "title_id": pa.string(), "served": pa.string(),
        "served_probability": pa.float64(), "likeliest": pa.string(),
        "likeliest_probability": pa.float64(),
    }
)  # fmt: skip

TOLD = ("title_id", "served_probability", "likeliest")


@dataclass(frozen=True, slots=True, kw_only=True)
class TitleRehearsed:
    """What a model would have shown of one title."""

    title_id: str
    decisions: int
    same: float
    """Mean probability of what was served."""
    mostly: str
    """The variant that is likeliest in most decisions."""
    mostly_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a model would have shown instead of the default."""

    decisions: int
    same: float
    """Mean probability of what was served: the share of members who would have seen no change."""
    titles: list[TitleRehearsed]
    """The most shown first."""


def rehearse(source: ReplaySource, version: int, out: Path | None = None) -> Rehearsal:
    """Return what a model would have shown in the log's decisions that were certain though others
    were eligible, each written to a Parquet file if asked for.

    Raises NotFound, and NotEnoughData if no such decision was logged.
    """
    assert source.store is not None, "models are in the database"
    policy = model_target(source.store, source.window.slot, version, "rehearsed").policy
    assert policy is not None, "a model is a policy"
    counts: Counter[str] = Counter()
    same: defaultdict[str, float] = defaultdict(float)
    likeliest: dict[str, Counter[str]] = {}
    writing = nullcontext(_nothing) if out is None else parquet.writing(out, SCHEMA)
    with writing as write:
        for table in _tables(source, policy):
            write(table)
            columns = (table[name].to_pylist() for name in TOLD)
            for title, chance, best in zip(*columns, strict=True):
                counts[title] += 1
                same[title] += chance
                likeliest.setdefault(title, Counter())[best] += 1
        _require_any(counts)
    titles = []
    for title, n in sorted(counts.items(), key=lambda t: (-t[1], t[0])):
        mostly, times = likeliest[title].most_common(1)[0]
        titles.append(
            TitleRehearsed(
                title_id=title, decisions=n, same=same[title] / n, mostly=mostly,
                mostly_share=times / n,
            )
        )  # fmt: skip
    decisions = counts.total()
    return Rehearsal(decisions=decisions, same=sum(same.values()) / decisions, titles=titles)


def _nothing(table: pa.Table) -> None:
    """Where no file is asked for."""


def _tables(source: ReplaySource, policy: Policy) -> Iterator[pa.Table]:
    actions = ActionTable(source.lookup)
    for whole in source.blocks():
        block = whole.take(whole.certain)
        if len(block):
            yield _table(block, actions.pmf(policy, block))


def _table(block: ReplayBlock, pmf: np.ndarray) -> pa.Table:
    start = block.offsets[:-1]
    best = first_maximum(pmf, block.offsets)
    sets = [block.action_sets[i] for i in block.set_of_row.tolist()]

    def named(places: np.ndarray) -> list[str]:
        return [s.variant_ids[i] for s, i in zip(sets, places.tolist(), strict=True)]

    return pa.table(
        {
            "decision_id": block.decision_ids,
            "occurred_at": [instant(at) for at in block.occurred_at.tolist()],
            "member_id": block.member_ids,
            "title_id": [s.title_id for s in sets],
            "served": named(block.chosen),
            "served_probability": pmf[start + block.chosen],
            "likeliest": named(best - start),
            "likeliest_probability": pmf[best],
        },
        schema=SCHEMA,
    )


def _require_any(counts: Counter[str]) -> None:
    if not counts:
        raise NotEnoughData(
            "no settled decision of that time served one fixed variant: ask for another time, or "
            "give the baseline cell members with `cells set`, or `pause` the slot"
        )
