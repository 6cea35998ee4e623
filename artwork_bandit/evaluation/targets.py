"""What is judged: a target policy, and from when on the log may judge it.

A model is judged only on rows after its training window, `best-single` only on rows after the
ones it was chosen on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Floats, ReplayBlock
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies.block import ActionTable
from artwork_bandit.policies.policy import Policy, Ranked
from artwork_bandit.policies.rendezvous import variant_key

BEST_SINGLE_SHRINKAGE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A policy to judge, or a column of pmfs that came with the log."""

    name: str
    """As asked for: `live`, `uniform`, `model:12`, `column:NAME`."""
    policy: Policy | None = None
    """None for a column of the log."""
    after: int | None = None
    """Microseconds; rows at or before this leave the target. None keeps all."""
    variant_id: str | None = None
    """Only rows where this variant was eligible, among others, can judge the target. None keeps
    all."""

    @property
    def contextual(self) -> bool:
        return self.policy is not None and self.policy.contextual

    def pmf(self, block: ReplayBlock, table: ActionTable) -> Floats:
        """Return the flat target pmf of a block; raises InvalidInput for a missing column."""
        if self.policy is not None:
            return table.pmf(self.policy, block)
        column = self.name.removeprefix("column:")
        if column not in block.targets:
            raise InvalidInput(
                f"the log has no column 'target:{column}'; it has "
                f"{['target:' + name for name in block.targets] or 'no target columns'}"
            )
        return block.targets[column]


def best_single(blocks: Iterable[ReplayBlock], until: int) -> Target:
    """Choose each title's best variant from rows up to `until` (microseconds), to judge later.

    The value is the self-normalised importance-weighted mean reward over all contexts, shrunk
    towards the title's mean so that a variant shown twice does not win by luck.
    """
    sums: dict[tuple[str, str], dict[str, Floats]] = {}
    for block in blocks:
        if not block.action_sets:
            continue
        for action_set, shown in zip(block.action_sets, _shown(block, until), strict=True):
            title = sums.setdefault((action_set.title_id, action_set.slot), {})
            for variant_id, each in zip(action_set.variant_ids, shown, strict=True):
                if each[0] > 0:
                    title[variant_id] = title.get(variant_id, 0.0) + each
    values: dict[int, float] = {}
    for (title_id, slot), shown_in in sums.items():
        if not shown_in:
            continue
        weight, earned = np.sum(list(shown_in.values()), axis=0)
        mean = earned / weight
        for variant_id, (w, s) in shown_in.items():
            value = (s + BEST_SINGLE_SHRINKAGE * mean) / (w + BEST_SINGLE_SHRINKAGE)
            values[variant_key(title_id, slot, variant_id)] = value
    return Target(name="best-single", policy=Ranked(values), after=until)


def _shown(block: ReplayBlock, until: int) -> list[Floats]:
    """Return, per action set, [variants, 2]: the weight each was shown with, and that times its
    reward, in the rows up to `until` that could have been others."""
    sizes = np.array([len(s.variant_ids) for s in block.action_sets], np.int64)
    starts = np.cumsum(sizes) - sizes
    rows = (block.occurred_at <= until) & (block.propensity < 1)
    of = block.set_of_row[rows]
    place = starts[of] + block.chosen[rows]
    weight = 1.0 / (block.propensity[rows] * sizes[of])
    columns = (weight, weight * block.reward[rows])
    total = int(sizes.sum())
    summed = np.stack([np.bincount(place, each, total) for each in columns], axis=1)
    return np.split(summed, starts[1:])
