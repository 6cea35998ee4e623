"""Where a replay log comes from: Parquet files (`file_source`) or the database (`database_source`).

What each needs is imported where it is used: a log in files can be judged without a database, and
SQLAlchemy takes as long to load as half a million rows take to be judged.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from artwork_bandit.domain import ReplayBlock
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.verdict import Check
from artwork_bandit.policies.block import Detail, Lookup, names_only
from artwork_bandit.slots import RewardRule
from artwork_bandit.store.window import Window

if TYPE_CHECKING:
    from artwork_bandit.store.engine import Store


class Part(Protocol):
    """A part of a log; it can be sent to another process."""

    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]: ...


class Readable(Part, Protocol):
    """A log that can be read several times through, at once or in its parts."""

    def parts(self) -> Sequence[Part]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySource(ABC):
    """A log that can be read again and again, and the variants it speaks of."""

    name: str
    window: Window
    store: Store | None
    """Where models are registered, if that is known."""
    lookup: Lookup

    @staticmethod
    def of(
        store: Store | None, path: Path | None, slot: str,
        since: dt.datetime | None = None, until: dt.datetime | None = None,
        settled_by: dt.datetime | None = None, rule: RewardRule | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> ReplaySource:  # fmt: skip
        """Return the Parquet log at `path`, with its own rewards, else the database's under `rule`
        (None: as each was settled), whose rewards lie between `bounds` (None: the rule's)."""
        window = Window(
            slot=slot, since=since, until=until, settled_by=settled_by, rule=rule, bounds=bounds
        )  # fmt: skip
        lookup: Lookup = names_only
        if store is not None:
            from artwork_bandit.store.features import StoredFeatures

            lookup = StoredFeatures(store)
        if path is not None:
            from artwork_bandit.operations.file_source import FileSource

            return FileSource(
                name=str(path), window=window, store=store, lookup=lookup, path=path
            )  # fmt: skip
        from artwork_bandit.operations.database_source import DatabaseSource

        return DatabaseSource(name="database", window=window, store=store, lookup=lookup)

    def narrowed(self, since: dt.datetime | None, until: dt.datetime | None) -> Self:
        """Return the part of the log from `since` until before `until`."""
        return replace(self, window=replace(self.window, since=since, until=until))

    @abstractmethod
    def drawn_by(self, policy: str) -> Self | None:
        """Return the part of the log that a policy drew; None where nobody says which did."""

    @abstractmethod
    def parts(self) -> Sequence[ReplaySource]:
        """Return the log cut into parts that can be read on any machine that sees its files; none
        if it cannot be cut so."""

    @property
    @abstractmethod
    def predicts(self) -> bool:
        """Whether the log brings its own q-hat."""

    @property
    @abstractmethod
    def grows(self) -> bool:
        """Whether rows will come, so that a training can go on from an earlier one."""

    @property
    def apart(self) -> int | None:
        """Rows left out of the last reading, where propensities are those of two cells as one
        policy (`operations.together`); None where each row's are its own."""
        return None

    @property
    @abstractmethod
    def rule(self) -> str | None:
        """The version of the rule that the rewards are of; None where nobody says."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float] | None:
        """The smallest and the largest reward that this rule gives; None where nobody says."""

    @abstractmethod
    def rows(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def span(self) -> Span:
        """Return when the first and the last row happened."""

    @abstractmethod
    def quantile(self, share: float) -> dt.datetime | None:
        """Return the instant before which `share` of the rows lie; None for an empty log."""

    @abstractmethod
    def newest(self, rows: int) -> Self:
        """Return the log's newest rows, about so many."""

    @abstractmethod
    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]:
        """Yield the log's blocks, in time order if it is the database's."""

    @contextmanager
    def again(self, *, with_contexts: bool) -> Iterator[Readable]:
        """Give the log to be read several times through; what that needs is let go at the end."""
        yield self

    @abstractmethod
    def imported(self) -> list[Check]:
        """Return how many rows keep the reward that they came with, under a rule that is not
        theirs; nothing if none does."""

    @abstractmethod
    def checks(self) -> list[Check]:
        """Return what is known of the log besides its rows."""
