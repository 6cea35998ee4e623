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

Left out are rows of other cells, those of the first hour after the live model or the cells' shares
changed (a page may have been asked for before), those of a model that cannot be read, and those
that were no draws though their cell's are (while all is paused).
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints, ReplayBlock, microseconds
from artwork_bandit.errors import BrokenModel, InvalidInput
from artwork_bandit.evaluation.results import LOGGING, Report
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import Verdict
from artwork_bandit.operations.database_source import DatabaseSource
from artwork_bandit.operations.judge import judge
from artwork_bandit.operations.model_editing import CELLS_SET
from artwork_bandit.operations.replay_source import Part, Readable, ReplaySource
from artwork_bandit.policies.block import ActionTable, Detail, Lookup
from artwork_bandit.policies.cells import shares_of
from artwork_bandit.policies.policy import Policy, Uniform
from artwork_bandit.store import cells, changes, registry, replay
from artwork_bandit.store.engine import Connection

EXPLORE, LIVE = "explore", "live"
SETTLING = dt.timedelta(hours=1)
"""After another model has gone live, or cells have been given other shares."""
EVEN = 1e-6
KEPT = 2
"""Models that are held at a time: rows come in order of time."""


Serving = tuple[Policy, ActionTable]
"""A policy, and the variants it was bound to."""


class Apart(InvalidInput):
    """The cells' rows cannot be told as one policy's."""


@dataclass(slots=True)
class _Count:
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """What chose for the members of both cells, over time."""

    explore: Sequence[float]
    """Shares of the explore cell among the members of both: the first, and those that were set."""
    set_at: Sequence[int]
    """Microseconds when they were."""
    promoted_at: Sequence[int]
    """Microseconds when another model, or none, went live; and which that was."""
    versions: Sequence[int | None]
    load: Callable[[int], Policy]
    lookup: Lookup

    def blocks(
        self, blocks: Iterable[ReplayBlock], left_out: _Count | None = None
    ) -> Iterator[ReplayBlock]:
        """Yield the blocks' rows that can be told, with the mixture's propensities; count the
        others."""
        count = _Count() if left_out is None else left_out
        count.rows = 0

        @lru_cache(KEPT)
        def serving(version: int | None) -> Serving | None:
            try:
                policy = Uniform() if version is None else self.load(version)
            except BrokenModel:  # servers chose by another then, and nobody knows which
                return None
            return policy, ActionTable(self.lookup)

        for whole in blocks:
            found = self._of(whole, serving)
            count.rows += len(whole) - len(found)
            if len(found):
                yield found

    def _of(
        self, whole: ReplayBlock, serving: Callable[[int | None], Serving | None]
    ) -> ReplayBlock:
        place, settled = _settled(self.promoted_at, whole.occurred_at)
        shares, also = _settled(self.set_at, whole.occurred_at)
        settled &= also
        even = np.abs(whole.propensity * whole.sizes - 1) <= EVEN
        drawn = (whole.propensity < 1) | (whole.sizes == 1)
        of_cell = np.where(whole.cells == EXPLORE, even, (whole.cells == LIVE) & drawn)
        kept = np.flatnonzero(of_cell.astype(bool) & settled)
        block, place = whole.take(kept), place[kept]
        explore = np.array(self.explore)[shares[kept] + 1]
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
        mixed = explore / block.sizes + (1 - explore) * live
        return replace(block, propensity=mixed).take(known)


def _settled(changed_at: Sequence[int], at: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return which change was the last before each instant, -1 for none, and whether it was long
    enough ago."""
    place = np.searchsorted(changed_at, at, "right") - 1
    since = at - np.array([0, *changed_at])[place + 1]
    return place, (place < 0) | (since >= SETTLING // dt.timedelta(microseconds=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Together(DatabaseSource):
    """The database's log, of both cells together."""

    mixture: Mixture

    left_out: _Count = field(default_factory=_Count, compare=False)

    @property
    def apart(self) -> int:
        return self.left_out.rows

    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]:
        yield from self.mixture.blocks(DatabaseSource.blocks(self), self.left_out)

    @contextmanager
    def again(self, *, with_contexts: bool) -> Iterator[Readable]:
        with DatabaseSource.again(self, with_contexts=True) as log:
            yield _Read(log, self.mixture, self.left_out)


@dataclass(frozen=True, slots=True)
class _Read:
    log: Readable
    mixture: Mixture
    left_out: _Count

    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]:
        yield from self.mixture.blocks(self.log.blocks(), self.left_out)

    def parts(self) -> Sequence[Part]:
        return []


def together(source: ReplaySource) -> Together:
    """Return a database's log as the mixture drew it; raises Apart if there is none."""
    if not isinstance(source, DatabaseSource) or source.store is None:
        raise Apart("a log in files does not say which models served: only the database's does")
    store, window = source.store, source.window
    with store.read() as connection:
        set_at, explore = _explored(connection)
        promoted = registry.promoted(connection, window.slot)
        others = replay.imported_rows(connection, window)
    if others:
        rows = sum(others.values())
        raise Apart(f"{rows:,} rows were imported: nobody knows by which cells they were drawn")
    since = None if window.since is None else microseconds(window.since)
    first = _before(set_at, since)
    set_at, explore = set_at[first:], explore[first:]
    if all(share in (0, 1) for share in explore):
        raise Apart("the explore and the live cell have not both had members")

    def load(version: int) -> Policy:
        with store.read() as connection:
            return registry.load(connection, version).policy(version)

    promoted_at = [microseconds(at) for at, _ in promoted]
    # What went live before the first row says what was live then.
    first = max(_before(promoted_at, since) - 1, 0)
    mixture = Mixture(
        explore=explore, set_at=set_at, lookup=source.lookup, load=load,
        promoted_at=promoted_at[first:], versions=[version for _, version in promoted[first:]],
    )  # fmt: skip
    return Together(
        name=source.name, window=window, store=store, lookup=source.lookup, mixture=mixture
    )


def together_if_told(source: ReplaySource) -> ReplaySource:
    """Return a log as the mixture drew it, or as it is where nobody can tell."""
    try:
        return together(source)
    except Apart:
        return source


def judged(
    source: ReplaySource, names: Sequence[str], against: str = LOGGING,
    known: Mapping[str, Target] | None = None,
) -> tuple[Report, list[int]]:  # fmt: skip
    """Return the report, and the versions of the models in it, as both cells' rows tell together,
    or each row alone where that is possible and leaves fewer targets refused: a young log may lie
    within an hour after a promotion."""
    both = together_if_told(source)
    found = judge(both, names, against, known=known)
    if both is source or not _refused(found[0]):
        return found
    alone = judge(source, names, against, known=known)
    return min(found, alone, key=lambda each: _refused(each[0]))


def _refused(report: Report) -> int:
    return sum(target.verdict is Verdict.REFUSE for target in report.targets.values())


def _before(changed_at: Sequence[int], since: int | None) -> int:
    """Return how many changes are long past at an instant: rows from then on know none of them."""
    settling = SETTLING // dt.timedelta(microseconds=1)
    return 0 if since is None else bisect_right(changed_at, since - settling)


def _explored(connection: Connection) -> tuple[list[int], list[float]]:
    """Return when the cells were given other shares, and what part of the explore and the live
    cell's members the explore cell had at first and from each on."""
    past = changes.of_kind(connection, CELLS_SET)
    shares = [change.before for change in past[:1]] + [change.after for change in past]
    shares = shares or [shares_of(cells.read(connection))]
    return [microseconds(change.changed_at) for change in past], [_explore(s or {}) for s in shares]


def _explore(shares: Mapping[str, float]) -> float:
    explore, live = shares.get(EXPLORE, 0.0), shares.get(LIVE, 0.0)
    return explore / (explore + live) if explore + live else 0.0
