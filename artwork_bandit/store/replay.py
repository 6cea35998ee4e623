"""The replay log in SQL: units with their contexts and action sets, in blocks, in time order."""

from __future__ import annotations

import datetime as dt
import marshal
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, overload

import msgspec
import numpy as np
import sqlalchemy as sa

from artwork_bandit.domain import ActionSet, Context, Contexts, Floats, Ints, Objects, ReplayBlock
from artwork_bandit.errors import ArtworkBanditError
from artwork_bandit.policies.block import Detail
from artwork_bandit.slots import RewardRule, slot_named
from artwork_bandit.store import arrays, imported
from artwork_bandit.store import requests as request_store
from artwork_bandit.store import rewards as rewards_store
from artwork_bandit.store.ahead import ahead
from artwork_bandit.store.engine import Connection, Store
from artwork_bandit.store.tables import imported_rules, rewards
from artwork_bandit.store.window import Window

BLOCK = 65_536
WITH_CONTEXTS = 16_384
"""Rows of a page with contexts, of which every row may have its own, some kilobytes large."""
PART = WITH_CONTEXTS
"""Rows, about, of a part of the log's copy: what processes make of some parts is held in memory."""
SIZE = 8
"""Bytes that say how long a page is."""
_context = msgspec.json.Decoder(Context)


def _conditions(window: Window) -> list[sa.ColumnElement[bool]]:
    conditions = [rewards.c.slot == window.slot, rewards.c.confirm == window.confirm]
    if window.since is not None:
        conditions.append(rewards.c.occurred_at >= window.since)
    if window.until is not None:
        conditions.append(rewards.c.occurred_at < window.until)
    if window.policy is not None:
        conditions.append(rewards.c.policy == window.policy)
    if window.settled_by is not None:
        conditions.append(rewards.c.settled_at <= window.settled_by)
    if window.rule is not None:
        conditions.append(~_imported() | rewards.c.rule.not_in(_too_wide(window)))
    return conditions


def _too_wide(window: Window) -> sa.Select[tuple[str]]:
    """Return the rules of imported rewards of which some are outside the window's bounds: to leave
    out those alone would make variants that earn them look better, or worse."""
    assert window.rule is not None, "asked for a rule only"
    low, high = window.bounds or window.rule.bounds
    table = imported_rules.c
    outside = sa.or_(table.least < low, table.most > high)
    return sa.select(table.rule).where(table.slot == window.slot, outside)


def span(connection: Connection, window: Window) -> tuple[int, dt.datetime, dt.datetime] | None:
    """Return (rows, first, last instant) of the window, or None if it is empty."""
    query = sa.select(
        sa.func.count(), sa.func.min(rewards.c.occurred_at), sa.func.max(rewards.c.occurred_at)
    ).where(*_conditions(window))
    rows, first, last = connection.execute(query).one()
    return None if not rows else (int(rows), first, last)


def count(connection: Connection, window: Window) -> int:
    """Return how many rows the window has."""
    query = sa.select(sa.func.count()).select_from(rewards).where(*_conditions(window))
    return int(connection.execute(query).scalar_one())


def imported_rows(connection: Connection, window: Window) -> dict[str, int]:
    """Return how many of the window's rows came with a reward of their own, rule by rule."""
    of_window = (*_conditions(window), _imported())
    # What earlier releases took in is said to be of the slot's own rule, as they said.
    rule = sa.case((rewards.c.rule == imported.POLICY, _own(window)), else_=rewards.c.rule)
    query = sa.select(rule, sa.func.count()).where(*of_window).group_by(rule)
    return {version: int(count) for version, count in connection.execute(query)}


def imported_left_out(connection: Connection, window: Window) -> int:
    """Return how many imported rows are none of the window's, as they came by rules whose rewards
    lie further apart than its own's."""
    if window.rule is None or not connection.execute(_too_wide(window)).first():
        return 0
    outside = (_imported(), rewards.c.rule.in_(_too_wide(window)))
    query = sa.select(sa.func.count()).select_from(rewards)
    query = query.where(*_conditions(replace(window, rule=None)), *outside)
    return int(connection.execute(query).scalar_one())


def _own(window: Window) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{slot_named(window.slot).reward.version}'")


def _imported() -> sa.ColumnElement[bool]:
    return rewards.c.policy == imported.POLICY


def ends(connection: Connection, window: Window) -> tuple[dt.datetime, dt.datetime] | None:
    """Return when the first and the last row happened, or None if there is none."""
    first, last = (
        sa.select(end(rewards.c.occurred_at)).where(*_conditions(window)).scalar_subquery()
        for end in (sa.func.min, sa.func.max)
    )
    found = connection.execute(sa.select(first, last)).one()
    return None if found[0] is None else (found[0], found[1])


def quantile(connection: Connection, window: Window, share: float) -> dt.datetime | None:
    """Return the instant before which `share` of the window's rows lie."""
    before = int(count(connection, window) * share)
    query = sa.select(rewards.c.occurred_at).where(*_conditions(window))
    query = query.order_by(rewards.c.occurred_at).offset(before).limit(1)
    return connection.execute(query).scalar()


def blocks(
    store: Store, window: Window, block_rows: int | None = None, *, detail: Detail = "all"
) -> Iterator[ReplayBlock]:
    """Yield the window's units in time order, in short transactions, but for large SQLite files
    (`arrays`)."""
    sets: dict[int, ActionSet] = {}
    for page in ahead(_pages(store, window, sets, block_rows, with_contexts=detail == "all")):
        yield _block(page, sets)


class Copy:
    """The window as it was when it was first read, kept in a file without a name: read again it is
    the same, and comes in a fraction of the time. Some 100 bytes a row."""

    def __init__(self, store: Store, window: Window, *, with_contexts: bool) -> None:
        """`with_contexts` says whether they will ever be asked for."""
        self._store, self._window, self._with_contexts = store, window, with_contexts
        self._sets: dict[int, ActionSet] = {}
        self._file = tempfile.TemporaryFile(prefix="artwork-bandit-")  # noqa: SIM115 (`close`)
        self._whole = False
        self._ends: list[tuple[int, int, set[int]]] = []
        """Per page, the rows up to its end, where it ends in the file, and its action sets."""

    def close(self) -> None:
        self._file.close()

    def blocks(self, detail: Detail = "all") -> Iterator[ReplayBlock]:
        """Yield the blocks: of the copy, once they have all been taken."""
        for page in ahead(self._again() if self._whole else self._first()):
            yield _block(page if detail == "all" else page._replace(texts=None), self._sets)

    def parts(self) -> Sequence[CopiedPart]:
        """Return the parts of the copy, for processes of this machine to read while it is open;
        none until it is whole, or where files without a name cannot be shared."""
        path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        if not self._whole or not os.path.exists(path):
            return []
        self._file.flush()
        parts: list[CopiedPart] = []
        rows, start, ids = 0, 0, set[int]()
        for until, end, of_page in self._ends:
            ids |= of_page
            if until - rows >= PART or until == self._ends[-1][0]:
                used = {set_id: self._sets[set_id] for set_id in ids}
                parts.append(CopiedPart(path, start, end, used))
                rows, start, ids = until, end, set()
        return parts

    def _first(self) -> Iterator[_Page]:
        self._file.seek(0)
        self._file.truncate()
        self._ends, rows = [], 0
        with_contexts = self._with_contexts
        for page in _pages(self._store, self._window, self._sets, with_contexts=with_contexts):
            data = page.dumped()
            try:
                self._file.write(len(data).to_bytes(SIZE, "little") + data)
            except OSError as error:
                raise ArtworkBanditError(
                    f"the log's copy in {tempfile.gettempdir()} cannot be written: {error}; let "
                    "TMPDIR name a folder with more room"
                ) from error
            rows += len(page.chosen)
            self._ends.append((rows, self._file.tell(), set(np.unique(page.set_ids).tolist())))
            yield page
        self._whole = True

    def _again(self) -> Iterator[_Page]:
        self._file.seek(0)
        while size := int.from_bytes(self._file.read(SIZE), "little"):
            yield _Page.loaded(self._file.read(size))


class CopiedPart(NamedTuple):
    """Some pages of a copy."""

    path: str
    start: int
    """Bytes in the file, [start, end)."""
    end: int
    sets: dict[int, ActionSet]

    def blocks(self, detail: Detail = "all") -> Iterator[ReplayBlock]:
        """Yield the part's blocks."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            while file.tell() < self.end:
                page = _Page.loaded(file.read(int.from_bytes(file.read(SIZE), "little")))
                yield _block(page if detail == "all" else page._replace(texts=None), self.sets)


class _Page(NamedTuple):
    """A page of rows, in columns."""

    decision_ids: Objects
    member_ids: Objects
    cells: Objects
    texts: list[str] | None
    """Contexts, as JSON; None if nobody will ask."""
    context_of: Ints
    """Each row's place among the texts."""
    occurred_at: Ints
    set_ids: Ints
    chosen: Ints
    propensity: Floats
    earned: Floats
    clicked: Floats
    """1 or 0; NaN for rows that came with a reward of their own."""

    def dumped(self) -> bytes:
        words = [column.tolist() for column in self[:3]]
        numbers = [column.tobytes() for column in self[4:]]
        return marshal.dumps((*words, self.texts, *numbers), 2)  # 2: looks for no repeated objects

    @staticmethod
    def loaded(data: bytes) -> _Page:
        *words, texts = (found := marshal.loads(data))[:4]
        kinds = [np.int64] * 4 + [np.float64] * 3
        numbers = (np.frombuffer(c, kind) for c, kind in zip(found[4:], kinds, strict=True))
        return _Page._make([*(np.array(c, object) for c in words), texts, *numbers])


def _pages(
    store: Store, window: Window, sets: dict[int, ActionSet], rows: int | None = None, *,
    with_contexts: bool,
) -> Iterator[_Page]:  # fmt: skip
    """Yield pages in time order; action sets that are met are put among `sets`."""
    rows = rows or (WITH_CONTEXTS if with_contexts else BLOCK)
    at = sa.type_coerce(rewards.c.occurred_at, sa.BigInteger)  # no datetime is made of each
    order = (at, rewards.c.request_id, rewards.c.position)
    # Texts are made by the database, where that is cheaper.
    decision_id = rewards.c.request_id.concat(".").concat(sa.cast(rewards.c.position, sa.Text))
    rule = window.rule
    other = sa.false() if rule is None else (rewards.c.rule != rule.version) & ~_imported()
    query = (
        sa.select(
            *order, decision_id, rewards.c.member_id, rewards.c.action_set_id, rewards.c.chosen,
            rewards.c.propensity, rewards.c.cell, rewards.c.reward, sa.case((other, 1), else_=0),
            sa.case((_imported(), -1), else_=rewards.c.clicks),
        )
        .where(*_conditions(window))
    )  # fmt: skip
    for columns in arrays.pages(store, query, order, rows):
        decision_ids, member_ids, cells = (columns[i] for i in (3, 4, 8))
        of_numbers = (columns[i].astype(np.int64) for i in (0, 5, 6, 10, 11))
        occurred_at, set_ids, chosen, others, clicks = of_numbers
        propensity, reward = (columns[i].astype(np.float64) for i in (7, 9))
        texts, context_of = None, np.zeros(len(chosen), np.int64)
        with store.read() as connection:
            new = set(set_ids.tolist()) - set(sets)
            sets |= request_store.get_action_sets(connection, new)
            if with_contexts:
                texts, context_of = _contexts(connection, columns[1].tolist())
            if rule is not None and (again := np.flatnonzero(others)).size:
                _revalue(connection, rule, reward, again, decision_ids)
        yield _Page(
            decision_ids, member_ids, cells, texts, context_of, occurred_at, set_ids, chosen,
            propensity, reward, np.where(clicks < 0, np.nan, clicks > 0),
        )  # fmt: skip


def _contexts(connection: Connection, of_row: list[str]) -> tuple[list[str], Ints]:
    """Return the contexts of the rows' requests, and each row's place among them."""
    texts = request_store.contexts(connection, set(of_row))
    place = {request: i for i, request in enumerate(texts)}
    return list(texts.values()), np.fromiter(map(place.__getitem__, of_row), np.int64, len(of_row))


def _revalue(
    connection: Connection, rule: RewardRule, reward: Floats, rows: Ints, decision_ids: Objects
) -> None:
    """Set the rewards of some rows to what their outcomes are worth under a rule."""
    places = {}
    for row in rows.tolist():
        request_id, _, position = decision_ids[row].rpartition(".")
        places[request_id, int(position)] = row
    for key, worth in rewards_store.under(connection, rule, places):
        reward[places[key]] = worth


def _block(page: _Page, sets: dict[int, ActionSet]) -> ReplayBlock:
    used, set_of_row = np.unique(page.set_ids, return_inverse=True)
    return ReplayBlock(
        decision_ids=page.decision_ids,
        occurred_at=page.occurred_at,
        member_ids=page.member_ids,
        action_sets=tuple(sets[set_id] for set_id in used.tolist()),
        set_of_row=set_of_row.astype(np.int64),
        chosen=page.chosen,
        propensity=page.propensity,
        reward=page.earned,
        contexts=Contexts.unknown(len(page.chosen))
        if page.texts is None
        else Contexts(_Decoded(page.texts), page.context_of, page.texts),
        cells=page.cells,
        clicked=page.clicked,
    )


class _Decoded(Sequence[Context]):
    """Contexts, each made when it is first looked at: a survey of the log looks at few."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._made: dict[int, Context] = {}

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, at: int) -> Context: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Context]: ...
    def __getitem__(self, at: int | slice) -> Context | Sequence[Context]:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        if at not in self._made:
            self._made[at] = _context.decode(self._texts[at])
        return self._made[at]
