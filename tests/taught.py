"""A small log that teaches: who likes which pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artwork_bandit.domain import ActionSet, Context, Contexts, ReplayBlock, Variant, microseconds
from tests.samples import NOW

GENRES = ("TV Horror", "TV Dramas")


def variants(titles: int = 3) -> list[list[Variant]]:
    return [
        [
            Variant(
                variant_id=f"t{i}-a{j}", title_id=f"t{i}", slot="artwork", uri="/x",
                features={"genre": GENRES[j % 2], "faces": j},
            )
            for j in range(4)
        ]
        for i in range(titles)
    ]  # fmt: skip


def lookup(sets: Sequence[ActionSet]) -> list[list[Variant]]:
    per_title = {v[0].title_id: v for v in variants(30)}
    return [per_title[s.title_id] for s in sets]


def log(rows: int, seed: int = 1, titles: int = 3, liking: float = 1.5) -> ReplayBlock:
    """Members like one genre each; what they watched says the same."""
    rng = np.random.default_rng(seed)
    horror = rng.random(rows) < 0.5
    title, chosen = rng.integers(titles, size=rows), rng.integers(4, size=rows)
    suits = (chosen % 2 == 0) == horror
    chance = 1 / (1 + np.exp(1.5 - liking * suits))
    contexts = tuple(
        Context(genres={GENRES[0 if h else 1]: 8.0}, played={f"film-{int(h)}{i % 9}": 1.0})
        for i, h in enumerate(horror.tolist())
    )
    sets = tuple(
        ActionSet(
            action_set_id=i, title_id=v[0].title_id, slot="artwork", revision_ids=(),
            variant_ids=tuple(x.variant_id for x in v),
        )
        for i, v in enumerate(variants(titles))
    )  # fmt: skip
    return ReplayBlock(
        decision_ids=np.array([f"d{i}" for i in range(rows)], object),
        occurred_at=microseconds(NOW) + np.arange(rows, dtype=np.int64),
        member_ids=np.array([f"m{i}" for i in range(rows)], object),
        action_sets=sets,
        set_of_row=title,
        chosen=chosen,
        propensity=np.full(rows, 0.25),
        reward=(rng.random(rows) < chance).astype(float),
        contexts=Contexts.of(contexts),
        cells=np.full(rows, "explore", object),
    )
