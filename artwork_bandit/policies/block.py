"""A block of the replay log as a policy sees it: its variants in columns, its rows ragged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from artwork_bandit.domain import ActionSet, Floats, Ints, ReplayBlock, Variant, ranges
from artwork_bandit.policies.policy import BoundPolicy, Policy
from artwork_bandit.policies.variants import VariantColumns

Lookup = Callable[[Sequence[ActionSet]], Sequence[Sequence[Variant]]]
"""From action sets to their variants, in order, with the features they had when shown."""


MOST_VARIANTS, MOST_SETS = 200_000, 50_000
"""In one table, and action sets whose variants it remembers; it then begins anew."""


def names_only(action_sets: Sequence[ActionSet]) -> Sequence[Sequence[Variant]]:
    """Return variants without features, for targets that need none."""
    return [
        [Variant(variant_id=v, title_id=s.title_id, slot=s.slot, uri="") for v in s.variant_ids]
        for s in action_sets
    ]


Made = TypeVar("Made")
PartFunction = Callable[..., Iterable[Made]]
"""From the blocks of a part of a log, and more arguments, to what is made of them."""


Detail = Literal["all", "no contexts", "plain"]
"""How much of each row is read; `plain` is without cells and what is given per variant, too."""


class Log(Protocol):
    """A log that can be read again and again, in parts that may lie on many machines."""

    def map(
        self, function: PartFunction[Made], *arguments: Any, detail: Detail = "all"
    ) -> Iterator[Made]:
        """Yield what `function(blocks, *arguments)` yields for each part, in the log's order."""
        ...


@dataclass(frozen=True, slots=True)
class InMemory:
    """A log of one part that is all there."""

    blocks: Sequence[ReplayBlock]

    def map(
        self, function: PartFunction[Made], *arguments: Any, detail: Detail = "all"
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
        return ActionTable(lookup).of(block)

    def pmf(self, policy: Policy, block: ReplayBlock) -> Floats:
        """Return the policy's flat pmf for every row of the block."""
        return self.bound_pmf(policy.bind(self.columns), block)

    def bound_pmf(self, bound: BoundPolicy, block: ReplayBlock) -> Floats:
        """Return the flat pmf of a policy that is bound to these columns."""
        contexts, of_row = block.contexts.used()
        return bound.pmf(contexts, of_row, self.rows, self.offsets)


def _as_then(variant: Variant) -> tuple[object, ...]:
    """Return what tells a variant, with the content and as the default that it was, from others."""
    content = variant.revision_id or (variant.slot, variant.title_id, variant.variant_id)
    return content, variant.is_default


class ActionTable:
    """The variants of a log's action sets, each once, in columns that grow as new ones are met:
    clients' own lists and countries' rights make many sets of few variants, and a policy is bound
    anew only when the columns have grown."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._columns = VariantColumns.of([])
        self._row_of: dict[tuple[object, ...], int] = {}
        """Variant, as it was then -> its row among the columns."""
        self._rows: dict[ActionSet, list[int]] = {}
        self._bound: dict[int, tuple[VariantColumns, Policy, BoundPolicy]] = {}

    def of(self, block: ReplayBlock) -> Actions:
        """Return the block's variants."""
        if len(self._columns.keys) > MOST_VARIANTS:
            self._columns, self._row_of, self._rows = VariantColumns.of([]), {}, {}
        if len(self._rows) > MOST_SETS:
            self._rows = {}
        if new := [s for s in block.action_sets if s not in self._rows]:
            self._take_in(new)
        of_sets = [self._rows[s] for s in block.action_sets]
        sizes = np.fromiter(map(len, of_sets), np.int64, len(of_sets))
        flat = np.fromiter(chain.from_iterable(of_sets), np.int64, int(sizes.sum()))
        starts = np.cumsum(sizes) - sizes
        rows = flat[ranges(starts[block.set_of_row], sizes[block.set_of_row])]
        return Actions(self._columns, block.offsets, rows)

    def _take_in(self, action_sets: Sequence[ActionSet]) -> None:
        added: list[Variant] = []
        for action_set, variants in zip(action_sets, self._lookup(action_sets), strict=True):
            rows = self._rows[action_set] = []
            for variant in variants:
                row = self._row_of.setdefault(_as_then(variant), len(self._row_of))
                if row == len(self._columns.keys) + len(added):
                    added.append(variant)
                rows.append(row)
        if added:
            self._columns = self._columns.changed(np.empty(0, np.int64), added)

    def pmf(self, policy: Policy, block: ReplayBlock) -> Floats:
        """Return the policy's flat pmf for every row of the block."""
        actions = self.of(block)
        columns, _, bound = self._bound.get(id(policy), (None, policy, None))
        if bound is None or columns is not actions.columns:
            bound = policy.bind(actions.columns)
            self._bound[id(policy)] = (actions.columns, policy, bound)
        return actions.bound_pmf(bound, block)
