"""A stream of decisions whose every probability is known, the same for all who choose in it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from artwork_bandit.domain import (
    ActionSet,
    Contexts,
    Floats,
    Ints,
    ReplayBlock,
    Variant,
    microseconds,
)
from artwork_bandit.policies.cells import DEFAULT_SHARES, bucket_of, cell_of, reallocate
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.policies.vowpal import Form
from simulations.worlds import START, Setting

CELL_KEY = b"simulated"


@dataclass(frozen=True, eq=False)
class Stream:
    """Members meeting titles, in order of time; every title has `width` variants."""

    setting: Setting
    variants: list[list[Variant]]
    """Per title."""
    member: Ints
    title: Ints
    occurred_at: Ints
    """Microseconds."""
    truth: Floats
    """[rows, width], probability of a quality play."""
    luck: Floats
    """[rows, 2]: for the draw, and for what it earns."""
    cell: np.ndarray
    """Per row, the member's cell."""

    def __len__(self) -> int:
        return len(self.member)

    @property
    def width(self) -> int:
        return self.truth.shape[1]

    @property
    def is_live(self) -> np.ndarray:
        return np.asarray(self.cell == "live")

    def rounds(self, every: int) -> Iterator[Ints]:
        """Yield the rows of one learning round after the other."""
        for start in range(0, len(self), every):
            yield np.arange(start, min(start + every, len(self)))

    def draw(self, rows: Ints, pmf: Floats) -> tuple[Ints, Floats]:
        """Return the variants drawn and what they earned."""
        chosen = (np.cumsum(pmf, axis=1) < self.luck[rows, :1]).sum(axis=1)
        chosen = np.minimum(chosen, self.width - 1)
        earned = self.luck[rows, 1] < self.truth[rows, chosen]
        return chosen, earned.astype(np.float64)

    @cached_property
    def action_sets(self) -> tuple[ActionSet, ...]:
        return tuple(
            ActionSet(
                action_set_id=i, title_id=some[0].title_id, slot="artwork", revision_ids=(),
                variant_ids=tuple(v.variant_id for v in some),
            )
            for i, some in enumerate(self.variants)
        )  # fmt: skip

    def lookup(self, action_sets: Sequence[ActionSet]) -> list[list[Variant]]:
        return [self.variants[s.action_set_id] for s in action_sets]

    def block(self, rows: Ints, chosen: Ints, propensity: Floats, reward: Floats) -> ReplayBlock:
        """Return those rows as the replay log has them."""
        contexts = self.setting.contexts
        return ReplayBlock(
            decision_ids=rows.astype(object),
            occurred_at=self.occurred_at[rows],
            member_ids=np.array(self.setting.world.members, object)[self.member[rows]],
            action_sets=self.action_sets,
            set_of_row=self.title[rows],
            chosen=chosen,
            propensity=propensity,
            reward=reward,
            contexts=Contexts(contexts, self.member[rows]),
            cells=self.cell[rows],
        )

    @cached_property
    def features(self) -> Features:
        """What every contender may know, in numbers."""
        contexts = ContextEncoder.learn(self.setting.contexts)
        flat = [v for some in self.variants for v in some]
        variants = VariantEncoder.learn(flat)
        form = Form.of(Priors(), contexts, variants)
        encoded = contexts.encode(self.setting.contexts)
        described = variants.encode(VariantColumns.of(flat).features)
        return Features(
            contexts=encoded, variants=described[:, : form.described],
            width=self.width, form=form, _described=described,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Features:
    """The features that all contenders share."""

    contexts: Floats
    """[members, columns]"""
    variants: Floats
    """[titles x width, columns]"""
    width: int
    form: Form
    _described: Floats

    def affinities(self, member: Ints, title: Ints) -> Floats:
        """Return [rows, width, kinds]: how much members like what a title's variants emphasise."""
        of_pair = np.repeat(member, self.width)
        rows = (title[:, None] * self.width + np.arange(self.width)).ravel()
        found = self.form.affinities(self.contexts[of_pair], self._described[rows])
        return found.reshape(len(member), self.width, -1)


def stream(
    setting: Setting, decisions: int, length: dt.timedelta, rng: np.random.Generator, *,
    swap: bool = False,
) -> Stream:  # fmt: skip
    """Return that many decisions, evenly spread over `length`, the world swapped halfway or not."""
    by_title: dict[str, list[Variant]] = {}
    for variant in setting.variants:
        by_title.setdefault(variant.title_id, []).append(variant)
    variants = list(by_title.values())
    member = rng.integers(len(setting.world.members), size=decisions)
    title = rng.integers(len(variants), size=decisions)
    rows = [[setting.world.row_of[v.variant_id] for v in some] for some in variants]
    after = setting.world.swapped(rng) if swap else setting.world
    truth = np.array(
        [
            (setting.world if i < decisions / 2 else after).probabilities(m, rows[t])
            for i, (m, t) in enumerate(zip(member.tolist(), title.tolist(), strict=True))
        ]
    )
    step = microseconds(START + length) - microseconds(START)
    cells = reallocate((), DEFAULT_SHARES)
    of_member = np.array([cell_of(cells, bucket_of(CELL_KEY, m)) for m in setting.world.members])
    return Stream(
        setting=setting, variants=variants, member=member, title=title,
        occurred_at=microseconds(START) + step * np.arange(decisions, dtype=np.int64) // decisions,
        truth=truth, luck=rng.random((decisions, 2)), cell=of_member[member].astype(object),
    )  # fmt: skip
