"""Worlds with known truth: real members' tastes, invented variants, logs of uniform choices.

Members and genres are MovieLens' (imported by path, never kept here); the response model is
`operations.audience`'s.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from artwork_bandit.domain import (
    ActionSet,
    Context,
    Contexts,
    Event,
    Floats,
    ReplayBlock,
    Title,
    Variant,
    microseconds,
)
from artwork_bandit.operations import history_import
from artwork_bandit.operations.audience import Hidden, World, WorldSettings
from artwork_bandit.policies.block import Actions
from artwork_bandit.policies.policy import Policy
from artwork_bandit.policies.profile import MOST_PLAYED
from artwork_bandit.policies.ragged import total

COMPOSITIONS = ("close-up", "pair", "ensemble", "landscape", "object")
HIDDEN_SD = (0.2, 0.15)
"""Logits per unit of the hidden taste: between compositions, and between variants of one."""
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A world, its titles, and what members watched before."""

    titles: list[Title]
    variants: list[Variant]
    world: World
    history: list[Event]
    contexts: list[Context]
    """Per member: the genres watched before, in plays."""


def movielens(
    folder: Path, now: dt.datetime, titles: int, per_title: int, settings: WorldSettings, seed: int,
    *, hidden: bool = False,
) -> Setting:  # fmt: skip
    """Return a world of the folder's members and its most rated films of two genres or more.

    With `hidden`, a third of the genre tags are missing or wrong, and members have a taste that the
    tags do not say but their histories reveal ("world B").
    """
    rng = np.random.default_rng([seed, 11])
    films, ratings = history_import.read_movielens(folder, now)
    history = list(ratings)
    genres = {t.title_id: t.genres for t in films}
    seen: dict[str, int] = {}
    tastes: dict[str, dict[str, float]] = {}
    watched: dict[str, list[tuple[dt.datetime, str, float]]] = {}
    for event in history:
        assert event.member_id, "history names a member"
        assert event.title_id, "history names a title"
        seen[event.title_id] = seen.get(event.title_id, 0) + 1
        share = (event.seconds_watched or 0.0) / (event.duration_seconds or 1.0)
        taste = tastes.setdefault(event.member_id, {})
        watched.setdefault(event.member_id, []).append((event.occurred_at, event.title_id, share))
        for genre in genres[event.title_id]:
            taste[genre] = taste.get(genre, 0.0) + share
    chosen = [t for t in films if len(t.genres) >= 2 and t.title_id in seen]
    chosen.sort(key=lambda t: (-seen[t.title_id], t.title_id))
    chosen = chosen[:titles]
    variants = invent_variants(chosen, per_title, rng)
    unsaid = None
    if hidden:
        variants, unsaid = _mistagged(variants, tastes, watched, rng)
    world = World(variants, tastes, settings, rng, unsaid)
    contexts = [
        Context(
            genres=tastes[m],
            played={t: round(share, 2) for _, t, share in sorted(watched[m])[-MOST_PLAYED:]},
        )
        for m in world.members
    ]  # fmt: skip
    return Setting(
        titles=chosen, variants=variants, world=world, history=history, contexts=contexts
    )


def _mistagged(
    variants: list[Variant], tastes: dict[str, dict[str, float]],
    watched: dict[str, list[tuple[dt.datetime, str, float]]], rng: np.random.Generator,
) -> tuple[list[Variant], Hidden]:  # fmt: skip
    """Return variants with a sixth of the tags missing and a sixth wrong, and the truth.

    The hidden taste is the leading direction of what members watched that their genres leave
    unexplained; each composition suits it, or not, and each variant does so in its own way.
    """
    emphasis = {v.variant_id: str(v.features["genre"]) for v in variants}
    genres = sorted(set(emphasis.values()))
    tagged = []
    for variant in variants:
        features, luck = dict(variant.features), rng.random()
        if luck < 1 / 6:
            del features["genre"]
        elif luck < 1 / 3:
            features["genre"] = genres[int(rng.integers(len(genres)))]
        tagged.append(replace(variant, features=features))
    titles = sorted({t for rows in watched.values() for _, t, _ in rows})
    column = {title: i for i, title in enumerate(titles)}
    table = np.zeros((len(tastes), len(titles)))
    for i, member in enumerate(tastes):
        for _, title, share in watched[member]:
            table[i, column[title]] = share
    table = table[:, (table > 0).sum(axis=0) >= 20]
    table = table / np.maximum(table.sum(axis=1, keepdims=True), 1e-9)
    names = sorted({g for t in tastes.values() for g in t})
    known = np.array([[t.get(g, 0.0) for g in names] for t in tastes.values()])
    known = known / known.sum(axis=1, keepdims=True)
    known = np.concatenate([np.ones((len(known), 1)), known], axis=1)
    left = table - known @ np.linalg.lstsq(known, table, rcond=None)[0]
    members = np.linalg.svd(left, full_matrices=False)[0][:, 0]
    of_composition = {c: rng.normal(0, HIDDEN_SD[0]) for c in COMPOSITIONS}
    loadings = np.array(
        [of_composition[v.features["composition"]] + rng.normal(0, HIDDEN_SD[1]) for v in variants]
    )
    members = np.clip((members - members.mean()) / members.std(), -3, 3)
    return tagged, Hidden(emphasis=emphasis, members=members, loadings=loadings)


def invent_variants(
    titles: Sequence[Title], per_title: int, rng: np.random.Generator
) -> list[Variant]:
    """Return variants that each emphasise one of their title's genres."""
    variants = []
    for title in titles:
        for i in range(per_title):
            variant_id = f"{title.title_id}-a{i + 1}"
            features = {
                "genre": title.genres[i % len(title.genres)],
                "composition": COMPOSITIONS[int(rng.integers(len(COMPOSITIONS)))],
                "faces": int(rng.integers(5)),
            }
            variants.append(
                Variant(
                    variant_id=variant_id, title_id=title.title_id, slot="artwork",
                    uri=f"https://example.org/{variant_id}.jpg", features=features,
                    title_genres=title.genres,
                    is_default=i == 0,
                )
            )  # fmt: skip
    return variants


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformLog:
    """A log of uniform choices whose every probability is known."""

    block: ReplayBlock
    truth: Floats
    """Flat: probability of a play per variant of each row's action set."""
    variants: list[list[Variant]]
    """Per action set."""

    def lookup(self, action_sets: Sequence[ActionSet]) -> list[list[Variant]]:
        by_title = {v[0].title_id: v for v in self.variants}
        return [by_title[s.title_id] for s in action_sets]

    def value(self, policy: Policy) -> float:
        """Return the policy's true value on the log's members and titles."""
        pmf = Actions.of(self.block, self.lookup).pmf(policy, self.block)
        return float(total(pmf * self.truth, self.block.offsets).mean())


def uniform_log(setting: Setting, rows: int, rng: np.random.Generator, page: int = 1) -> UniformLog:
    """Return a log of `rows` fresh uniform choices, in order of time, so many in a row of one
    member."""
    by_title: dict[str, list[Variant]] = {}
    for variant in setting.variants:
        by_title.setdefault(variant.title_id, []).append(variant)
    groups = list(by_title.values())
    sets = tuple(
        ActionSet(
            action_set_id=i, title_id=group[0].title_id, slot="artwork", revision_ids=(),
            variant_ids=tuple(v.variant_id for v in group),
        )
        for i, group in enumerate(groups)
    )  # fmt: skip
    member = rng.integers(len(setting.world.members), size=-(-rows // page)).repeat(page)[:rows]
    set_of_row = rng.integers(len(sets), size=rows)
    catalog_rows = [[setting.world.row_of[v] for v in s.variant_ids] for s in sets]
    truth = [
        setting.world.probabilities(m, catalog_rows[s])
        for m, s in zip(member.tolist(), set_of_row.tolist(), strict=True)
    ]
    sizes = np.array([len(t) for t in truth])
    chosen = (rng.random(rows) * sizes).astype(np.int64)
    chance = np.array([t[c] for t, c in zip(truth, chosen.tolist(), strict=True)])
    step = 1_000_000
    block = ReplayBlock(
        decision_ids=np.array([f"d{i}" for i in range(rows)], object),
        occurred_at=microseconds(START) + step * np.arange(rows, dtype=np.int64),
        member_ids=np.array([setting.world.members[m] for m in member], object),
        action_sets=sets,
        set_of_row=set_of_row,
        chosen=chosen,
        propensity=1.0 / sizes,
        reward=(rng.random(rows) < chance).astype(np.float64),
        contexts=Contexts(setting.contexts, member),
        cells=np.full(rows, "explore", object),
    )
    return UniformLog(block=block, truth=np.concatenate(truth), variants=groups)
