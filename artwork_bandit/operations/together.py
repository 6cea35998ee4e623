"""The log of the explore, the live and the challenger cell as one policy drew it.

Which cell a member is of is drawn by chance too, with known shares, whatever is asked: so what the
members of these cells were shown was drawn from the mixture of their policies,

    p(v) = share of explore / n + share of live * p_live(v) + share of challenger * p_challenger(v)

with shares of the members of these cells, and weights by that are far smaller than by each row's
own propensity where the live policy hardly ever shows what a candidate likes (the balance heuristic
of multiple importance sampling, Veach and Guibas 1995; Agarwal, Basu, Schnabel and Joachims 2017):
a challenger, and what was trained next, like about the same. They are exact as far as what is asked
does not depend on the cell; what a cell's earlier pictures did to profiles is of second order, and
counts against propensities are checked. What the live model or the challenger would have shown in a
row of another cell is computed, by the model that was it. While nobody challenges, the challenger
cell is served as the live one.

Left out are rows of the baseline cell, those of the first hour after the live model or the cells'
shares changed (a page may have been asked for before), those of a model that cannot be read, and
those that were no draws though their cell's are (while all is paused). In the first hour of another
challenger, and where it is not known who challenged, the other two cells are weighed without it.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints, ReplayBlock, microseconds
from artwork_bandit.errors import BrokenModel, InvalidInput
from artwork_bandit.evaluation.results import LOGGING, Report
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import Verdict
from artwork_bandit.operations.database_source import DatabaseSource
from artwork_bandit.operations.judge import judge
from artwork_bandit.operations.model_editing import CELLS_SET, CHALLENGER_NAMED
from artwork_bandit.operations.replay_source import Part, Readable, ReplaySource
from artwork_bandit.policies.block import ActionTable, Detail, Lookup
from artwork_bandit.policies.cells import shares_of
from artwork_bandit.policies.policy import Policy, Uniform
from artwork_bandit.store import cells, changes, registry, replay
from artwork_bandit.store.engine import Connection

EXPLORE, LIVE, CHALLENGER = TOLD = ("explore", "live", "challenger")
"""The cells that are weighed."""
SETTLING = dt.timedelta(hours=1)
"""After another model has gone live or challenges, or cells have been given other shares."""
EVEN = 1e-6
KEPT = 4
"""Models that are held at a time: rows come in order of time."""

Serving = tuple[Policy, ActionTable]
"""A policy, and the variants it was bound to."""
T = TypeVar("T")
Bools = npt.NDArray[np.bool_]


class Apart(InvalidInput):
    """The cells' rows cannot be told as one policy's."""


@dataclass(slots=True)
class _Count:
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline(Generic[T]):
    """What was in force when."""

    changed_at: Sequence[int]
    """Microseconds, in order: when each change was surely made."""
    earliest: Sequence[int]
    """In order, too: when it may have been, where another host's clock dates one back."""
    values: Sequence[T]
    """What was in force at first, and from each change on."""

    @staticmethod
    def of(first: T, changes: Iterable[tuple[dt.datetime, T]]) -> Timeline[T]:
        """Return it of changes in the order in which they were made."""
        changed = list(changes)
        at = np.array([microseconds(at) for at, _ in changed], np.int64)
        latest = np.maximum.accumulate(at)
        # What a later one dates back was made at any time since the one before.
        before = np.concatenate([[np.iinfo(np.int64).min], latest[:-1]])[: len(at)]
        earliest = np.where(at > np.minimum.accumulate(at[::-1])[::-1], before, at)
        return Timeline(
            changed_at=latest.tolist(),
            earliest=np.minimum.accumulate(earliest[::-1])[::-1].tolist(),
            values=[first, *(value for _, value in changed)],
        )

    def at(self, moments: Ints) -> tuple[Ints, Bools]:
        """Return which of the values was in force at each moment, and whether that is sure and the
        one before was long past."""
        place = np.searchsorted(self.changed_at, moments, "right")
        sure = place == np.searchsorted(self.earliest, moments, "right")
        since = moments - np.array([0, *self.changed_at])[place]
        return place, sure & ((place == 0) | (since >= _SETTLING))

    def later(self, since: int | None) -> Timeline[T]:
        """Return it from a moment on: without what was long past then."""
        past = 0 if since is None else bisect_right(self.changed_at, since - _SETTLING)
        return Timeline(
            changed_at=self.changed_at[past:], earliest=self.earliest[past:],
            values=self.values[past:],
        )  # fmt: skip


_SETTLING = SETTLING // dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """What chose for the members of these cells, over time."""

    shares: Timeline[tuple[float, ...]]
    """Of members, in the order of `TOLD`."""
    live: Timeline[int | None]
    """Versions; None where no model was live."""
    challengers: Timeline[int | None]
    """Versions; None where nobody challenged."""
    known_since: int | None
    """Microseconds from when on it is known who challenged; None if it is not."""
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
        kept = np.flatnonzero(self._drawn(whole))
        block = whole.take(kept)
        shares = np.array(self.shares.values)[self.shares.at(block.occurred_at)[0]]
        live = self.live.at(block.occurred_at)[0]
        challenger, settled = self.challengers.at(block.occurred_at)
        if self.known_since is None:
            settled[:] = False
        else:
            settled &= block.occurred_at >= self.known_since
        known, told = np.ones(len(block), bool), settled
        by_live, by_challenger = block.propensity.copy(), block.propensity.copy()
        # In order of time, or models that are held would make way for each other.
        for i, j in sorted({*zip(live.tolist(), challenger.tolist(), strict=True)}):
            here = (live == i) & (challenger == j)
            version, rival = self.live.values[i], self.challengers.values[j]
            serves = serving(version)
            # While nobody challenges, the live model serves the challenger cell.
            challenges = serves if rival is None else serving(rival)
            if serves is None:
                known &= ~here
                continue
            _tell(by_live, block, here & (block.cells != LIVE), serves)
            if challenges is None:
                told &= ~here
                continue
            asked = here & told & (block.cells != CHALLENGER)
            if rival is None:
                by_challenger[asked] = by_live[asked]
            else:
                _tell(by_challenger, block, asked, challenges)
        shares[~told, 2] = 0.0
        known &= told | (block.cells != CHALLENGER)
        each = np.stack([1 / block.sizes, by_live, by_challenger], axis=1)
        mixed = (shares * each).sum(axis=1) / np.maximum(shares.sum(axis=1), EVEN)
        return replace(block, propensity=mixed).take(known & (shares.sum(axis=1) > 0))

    def _drawn(self, whole: ReplayBlock) -> Bools:
        """Return which rows were drawn as their cells draw, by what had been in force for long."""
        even = np.abs(whole.propensity * whole.sizes - 1) <= EVEN
        drawn = (whole.propensity < 1) | (whole.sizes == 1)
        found: Bools = np.where(
            whole.cells == EXPLORE, even, drawn & np.isin(whole.cells, (LIVE, CHALLENGER))
        ).astype(bool)
        return found & self.shares.at(whole.occurred_at)[1] & self.live.at(whole.occurred_at)[1]


def _tell(propensity: Floats, block: ReplayBlock, which: Bools, serving: Serving) -> None:
    """Have the propensity of what some rows showed be a policy's."""
    rows = np.flatnonzero(which)
    if len(rows):
        policy, table = serving
        some = block.take(rows)
        propensity[rows] = table.pmf(policy, some)[some.offsets[:-1] + some.chosen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Together(DatabaseSource):
    """The database's log, of these cells together."""

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
    since = None if window.since is None else microseconds(window.since)
    with store.read() as connection:
        shares = _shares(connection).later(since)
        live = Timeline.of(None, registry.promoted(connection, window.slot)).later(since)
        course = registry.challenging(connection, window.slot)
        known_since = _known_since(connection, window.slot, course)
        others = replay.imported_rows(connection, window)
    if others:
        rows = sum(others.values())
        raise Apart(f"{rows:,} rows were imported: nobody knows by which cells they were drawn")
    if all(sum(share > 0 for share in each) < 2 for each in shares.values):
        raise Apart("of the explore, the live and the challenger cell one alone has had members")

    def load(version: int) -> Policy:
        with store.read() as connection:
            return registry.load(connection, version).policy(version)

    mixture = Mixture(
        shares=shares, live=live, challengers=Timeline.of(None, course).later(since),
        known_since=known_since, load=load, lookup=source.lookup,
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


def _shares(connection: Connection) -> Timeline[tuple[float, ...]]:
    """Return the cells' shares at first, and from when on they were given others."""
    past = changes.of_kind(connection, CELLS_SET)
    first = past[0].before if past else shares_of(cells.read(connection))
    return Timeline.of(_of_told(first), [(c.changed_at, _of_told(c.after)) for c in past])


def _of_told(shares: Mapping[str, float] | None) -> tuple[float, ...]:
    return tuple((shares or {}).get(name, 0.0) for name in TOLD)


def _known_since(
    connection: Connection, slot: str, course: Sequence[tuple[dt.datetime, int | None]]
) -> int | None:
    """Return the microseconds from when on a course of challengers says all: a release before kept
    none, and its servers keep none."""
    now = registry.challenged_since(connection, slot)
    if (now and now[0]) != (course[-1][1] if course else None):
        return None
    named = (c for c in changes.of_kind(connection, CHALLENGER_NAMED) if c.slot == slot)
    first = next(named, None)
    if first is None or (course and first.changed_at >= course[0][0]):
        return 0
    return microseconds(course[0][0]) if course else None
