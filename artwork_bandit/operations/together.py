"""The log of the explore and the live cell as one policy drew it.

Which cell a member is of is drawn by chance too, with known shares, whatever is asked: so what the
members of both cells were shown was drawn from the mixture of the policies,

    p(v) = share of explore / n + share of live * p_live(v),

and weights by that are far smaller than by each row's own propensity where the live policy hardly
ever shows what a candidate likes (the balance heuristic of multiple importance sampling, Veach and
Guibas 1995; Agarwal, Basu, Schnabel and Joachims 2017). They are exact as far as what is asked does
not depend on the cell; what a cell's earlier pictures did to profiles is of second order, and
counts against propensities are checked. What the live policy would have shown in a row of the
explore cell is computed, by the model that was live.

Left out are rows of other cells, those of the first hour after the live model changed (a page may
have been asked for before), those of a model that cannot be read, and those that were no draws
though their cell's are (what is paused).
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from artwork_bandit.domain import Floats, ReplayBlock, microseconds
from artwork_bandit.errors import BrokenModel
from artwork_bandit.operations.database_source import DatabaseSource
from artwork_bandit.operations.model_editing import CELLS_SET
from artwork_bandit.operations.replay_source import Part, Readable, ReplaySource
from artwork_bandit.policies.block import ActionTable, Detail, Lookup
from artwork_bandit.policies.cells import shares_of
from artwork_bandit.policies.policy import Policy, Uniform
from artwork_bandit.store import cells, changes, registry, replay

EXPLORE, LIVE = "explore", "live"
SETTLING = dt.timedelta(hours=1)
"""After another model has gone live."""
EVEN = 1e-6
KEPT = 2
"""Models that are held at a time: rows come in order of time."""


Serving = tuple[Policy, ActionTable]
"""A policy, and the variants it was bound to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """What chose for the members of both cells, over time."""

    explore: float
    """Share of the explore cell among the members of both."""
    promoted_at: Sequence[int]
    """Microseconds when another model, or none, went live; and which that was."""
    versions: Sequence[int | None]
    load: Callable[[int], Policy]
    lookup: Lookup

    def blocks(self, blocks: Iterable[ReplayBlock]) -> Iterator[ReplayBlock]:
        """Yield the blocks' rows that can be told, with the mixture's propensities."""

        @lru_cache(KEPT)
        def serving(version: int | None) -> Serving | None:
            try:
                policy = Uniform() if version is None else self.load(version)
            except BrokenModel:  # servers chose by another then, and nobody knows which
                return None
            return policy, ActionTable(self.lookup)

        for whole in blocks:
            found = self._of(whole, serving)
            if len(found):
                yield found

    def _of(
        self, whole: ReplayBlock, serving: Callable[[int | None], Serving | None]
    ) -> ReplayBlock:
        place = np.searchsorted(self.promoted_at, whole.occurred_at, "right") - 1
        since = whole.occurred_at - np.array([0, *self.promoted_at])[place + 1]
        settled = (place < 0) | (since >= SETTLING // dt.timedelta(microseconds=1))
        even = np.abs(whole.propensity * whole.sizes - 1) <= EVEN
        drawn = (whole.propensity < 1) | (whole.sizes == 1)
        of_cell = np.where(whole.cells == EXPLORE, even, (whole.cells == LIVE) & drawn)
        kept = np.flatnonzero(of_cell.astype(bool) & settled)
        block, place = whole.take(kept), place[kept]
        live: Floats = block.propensity.copy()
        explored, known = block.cells == EXPLORE, np.ones(len(block), bool)
        for i in np.unique(place).tolist():
            found = serving(None if i < 0 else self.versions[i])
            if found is None:
                known &= place != i
                continue
            rows = np.flatnonzero(explored & (place == i))
            some = block.take(rows)
            live[rows] = found[1].pmf(found[0], some)[some.offsets[:-1] + some.chosen]
        mixed = self.explore / block.sizes + (1 - self.explore) * live
        return replace(block, propensity=mixed).take(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Together(DatabaseSource):
    """The database's log, of both cells together."""

    mixture: Mixture

    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]:
        yield from self.mixture.blocks(DatabaseSource.blocks(self))

    @contextmanager
    def again(self, *, with_contexts: bool) -> Iterator[Readable]:
        with DatabaseSource.again(self, with_contexts=True) as log:
            yield _Read(log, self.mixture)


@dataclass(frozen=True, slots=True)
class _Read:
    log: Readable
    mixture: Mixture

    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]:
        yield from self.mixture.blocks(self.log.blocks())

    def parts(self) -> Sequence[Part]:
        return []


def together(source: ReplaySource) -> Together | None:
    """Return a database's log as the mixture drew it; None where one of both cells has no members,
    the shares were set within the log's time, some rows are another system's, or it is in files."""
    if not isinstance(source, DatabaseSource) or source.store is None:
        return None
    store, window = source.store, source.window
    with store.read() as connection:
        shares = shares_of(cells.read(connection))
        changed = changes.last(connection, CELLS_SET)
        promoted = registry.promoted(connection, window.slot)
        others = replay.imported_rows(connection, window)
    explore, live = shares.get(EXPLORE, 0.0), shares.get(LIVE, 0.0)
    set_within = changed is not None and (
        window.since is None or changed.changed_at + SETTLING >= window.since
    )
    if not explore or not live or set_within or others:
        return None

    def load(version: int) -> Policy:
        with store.read() as connection:
            return registry.load(connection, version).policy(version)

    first = 0
    if window.since is not None:  # what went live before says what was live then
        first = max(bisect_right([at for at, _ in promoted], window.since) - 1, 0)
    mixture = Mixture(
        explore=explore / (explore + live), lookup=source.lookup, load=load,
        promoted_at=[microseconds(at) for at, _ in promoted[first:]],
        versions=[version for _, version in promoted[first:]],
    )  # fmt: skip
    return Together(
        name=source.name, window=window, store=store, lookup=source.lookup, mixture=mixture
    )
