"""A block of the replay log as a policy sees it: its variants in columns, its rows as segments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from artwork_bandit.domain import ActionSet, Floats, Ints, ReplayBlock, Variant, ranges
from artwork_bandit.policies.policy import Policy
from artwork_bandit.policies.variants import VariantColumns

Lookup = Callable[[Sequence[ActionSet]], Sequence[Sequence[Variant]]]
"""From action sets to their variants, in order, with the features they had when shown."""


def names_only(action_sets: Sequence[ActionSet]) -> Sequence[Sequence[Variant]]:
    """Return variants without features, for targets that need none."""
    return [
        [Variant(variant_id=v, title_id=s.title_id, slot=s.slot, uri="") for v in s.variant_ids]
        for s in action_sets
    ]


Made = TypeVar("Made")
PartFunction = Callable[..., Iterable[Made]]
"""From the blocks of a part of a log, and more arguments, to what is made of them."""


class Log(Protocol):
    """A log that can be read again and again, in parts that may lie on many machines."""

    def map(
        self, function: PartFunction[Made], *arguments: Any, plain: bool = False
    ) -> Iterator[Made]:
        """Yield what `function(blocks, *arguments)` yields for each part, in the log's order.

        `plain` blocks have no contexts, and nothing that is given per variant.
        """
        ...


@dataclass(frozen=True, slots=True)
class InMemory:
    """A log of one part that is all there."""

    blocks: Sequence[ReplayBlock]

    def map(
        self, function: PartFunction[Made], *arguments: Any, plain: bool = False
    ) -> Iterator[Made]:
        yield from function(self.blocks, *arguments)


@dataclass(frozen=True, slots=True, eq=False)
class Actions:
    """The variants of a block's action sets, in columns."""

    columns: VariantColumns
    offsets: Ints
    """n + 1."""
    rows: Ints
    """m, row of `columns` for each variant of each row's action set."""

    @staticmethod
    def of(block: ReplayBlock, lookup: Lookup) -> Actions:
        per_set = lookup(block.action_sets)
        columns = VariantColumns.of([v for variants in per_set for v in variants])
        sizes = np.array([len(variants) for variants in per_set], np.int64)
        starts = np.cumsum(sizes) - sizes
        rows = ranges(starts[block.set_of_row], sizes[block.set_of_row])
        return Actions(columns, block.offsets, rows)

    def pmf(self, policy: Policy, block: ReplayBlock) -> Floats:
        """Return the policy's flat pmf for every row of the block."""
        bound = policy.bind(self.columns)
        return bound.pmf(block.contexts, np.arange(len(block)), self.rows, self.offsets)
