"""The database's replay log, and what else it knows that a question may be about."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Self

from artwork_bandit.domain import ReplayBlock, microseconds
from artwork_bandit.errors import BrokenModel, InvalidInput
from artwork_bandit.evaluation.health import event_checks, imported_checks, window_checks
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import Check
from artwork_bandit.operations.replay_source import Readable, ReplaySource
from artwork_bandit.policies.block import Detail
from artwork_bandit.policies.communities import Communities
from artwork_bandit.slots import RewardRule, slot_named
from artwork_bandit.store import events, registry, replay, rules
from artwork_bandit.store.engine import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSource(ReplaySource):
    """The log in SQL."""

    def drawn_by(self, policy: str) -> Self:
        return replace(self, window=replace(self.window, policy=policy))

    def parts(self) -> Sequence[ReplaySource]:
        return []

    @property
    def predicts(self) -> bool:
        return False

    @property
    def rule(self) -> str:
        return self._rule.version

    @property
    def bounds(self) -> tuple[float, float]:
        return self._rule.bounds

    @property
    def _rule(self) -> RewardRule:
        return self.window.rule or slot_named(self.window.slot).reward

    @property
    def grows(self) -> bool:
        return True

    def rows(self) -> int:
        with self._database.read() as connection:
            return replay.count(connection, self.window)

    def span(self) -> Span:
        with self._database.read() as connection:
            found = replay.ends(connection, self.window)
        return Span() if found is None else Span(*map(microseconds, found))

    def quantile(self, share: float) -> dt.datetime | None:
        with self._database.read() as connection:
            return replay.quantile(connection, self.window, share)

    def newest(self, rows: int) -> Self:
        all_rows = self.rows()
        since = self.quantile(1 - rows / all_rows) if all_rows > rows else None
        return self if since is None else self.narrowed(since, self.window.until)

    def blocks(self, detail: Detail = "all") -> Iterable[ReplayBlock]:
        self._require_same_rule()
        yield from replay.blocks(self._database, self.window, detail=detail)

    @contextmanager
    def again(self, *, with_contexts: bool) -> Iterator[Readable]:
        self._require_same_rule()
        copied = replay.Copy(self._database, self.window, with_contexts=with_contexts)
        with closing(copied) as copy:
            yield copy

    def _require_same_rule(self) -> None:
        if self.window.rule is not None:
            with self._database.read() as connection:
                rules.require_same(connection, self.window.slot, self.window.rule)

    def imported(self) -> list[Check]:
        with self._database.read() as connection:
            left_out = replay.imported_left_out(connection, self.window)
            rows = replay.imported_rows(connection, self.window)
        return imported_checks(rows, self.rule, left_out)

    def checks(self) -> list[Check]:
        window = self.window
        with self._database.read() as connection:
            found = events.timing(connection, window.slot, window.since, window.until)
            windows = rules.windows(connection, window.slot, window.since, window.until)
        return [
            *event_checks(found.events, found.late, found.early), *window_checks(windows),
            *self.imported(),
        ]  # fmt: skip

    @property
    def _database(self) -> Store:
        assert self.store is not None, "a log is in files or in a database"
        return self.store


def communities_of(store: Store, slot: str) -> Communities:
    """Return the communities that the slot's newest model with any has learned."""
    with store.read() as connection:
        for record in registry.list_all(connection, slot):
            if record.deleted_at is not None:
                continue
            try:
                encoder = registry.load(connection, record.version).model.context_encoder
            except BrokenModel:
                continue
            if (found := Communities.of(encoder)) is not None:
                return found
    raise InvalidInput("no model has learned communities yet: `train` one on more members")


def serving_target(store: Store, slot: str, kind: str) -> Target:
    """Return the slot's `live` or `challenger` model."""
    find = registry.live if kind == "live" else registry.challenger
    with store.read() as connection:
        record = find(connection, slot)
    if record is None:
        how = (
            "`train` one" if kind == "live"
            else "the gate may name one after a training, or you: `models challenge VERSION`"
        )  # fmt: skip
        raise InvalidInput(f"slot {slot!r} has no {kind} model; {how}")
    return model_target(store, slot, record.version, kind)


def model_target(store: Store, slot: str, version: int, name: str) -> Target:
    """Return a registered model of a slot, to be judged on rows after its training window."""
    with store.read() as connection:
        record = registry.get(connection, version)
        if record.slot != slot:
            raise InvalidInput(
                f"model {version} chooses the {record.slot}, and this log is of the {slot}: say "
                f"--slot {record.slot}"
            )
        policy = registry.load(connection, version).policy(version)
    after = None if record.window_to is None else microseconds(record.window_to)
    return Target(name=name, policy=policy, after=after)
