"""What a server keeps in memory: catalogues, policies, cells, keys; replaced as a whole.

A background thread asks the database every `reload_seconds` for the generations of catalogue,
models, cells and pauses, and when one has moved makes the next state from the one before: only
changed variants are read. Requests in flight keep the state they began with. A model that fails
its checks leaves the one before in place.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from artwork_bandit.domain import CellShare, ModelRecord
from artwork_bandit.errors import ArtworkBanditError, BrokenModel
from artwork_bandit.policies.cells import CELLS, bucket_of, cell_of
from artwork_bandit.policies.linear import LinearModel
from artwork_bandit.policies.policy import BoundPolicy, Fixed, ModelPolicy, Policy, Uniform
from artwork_bandit.serving.catalog import Catalog
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import catalog as catalog_store
from artwork_bandit.store import cells as cell_store
from artwork_bandit.store import generations, pauses, registry, secrets
from artwork_bandit.store.engine import Connection, Store
from artwork_bandit.store.model_files import ModelFiles

log = logging.getLogger(__name__)

PAUSED = "paused"
"""The cell and the policy of decisions made while the kill switch is on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Secrets that make draws and cells unpredictable from outside, and decision ids ours."""

    draw: bytes
    cell: bytes
    decision: bytes

    @staticmethod
    def of(store: Store, decision_key: str = "") -> Keys:
        return Keys(
            draw=secrets.get_or_create(store, "draw"),
            cell=secrets.get_or_create(store, "cell"),
            decision=decision_key.encode() or secrets.get_or_create(store, "decision"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One consistent picture of what serving needs."""

    generations: Mapping[str, int]
    catalogs: Mapping[str, Catalog]
    policies: Mapping[tuple[str, str], tuple[Policy, BoundPolicy]]
    """(slot, cell) -> the policy and its binding to the slot's catalogue."""
    cells: tuple[CellShare, ...]
    cell_key: bytes
    paused: frozenset[str] = frozenset()
    """Slots whose kill switch is on: everybody is in the cell `paused`."""
    still_titles: frozenset[str] = frozenset()
    """Titles whose exploration is paused."""

    def cell(self, slot: str, member_id: str) -> str:
        if slot in self.paused:
            return PAUSED
        return cell_of(self.cells, bucket_of(self.cell_key, member_id))


class LiveState:
    """The current state, kept current by a thread."""

    def __init__(
        self, store: Store, cell_key: bytes, reload_seconds: float, files: ModelFiles
    ) -> None:
        self._store = store
        self._cell_key = cell_key
        self._reload_seconds = reload_seconds
        self._files = files
        self._stopped = threading.Event()
        self._models: dict[str, Policy] = {}
        self._challengers: dict[str, Policy] = {}
        self.broken: dict[str, int] = {}
        """slot -> the live version that cannot be served: another serves in its place."""
        self.broken_challengers: dict[str, int] = {}
        """slot -> the challenger that cannot be served: its cell is served as the live one."""
        self.serving: dict[str, ModelRecord] = {}
        """slot -> the model that serves."""
        self.current = self._build(None)
        self._settle()
        self._thread = threading.Thread(target=self._watch, name="state", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=10)

    def model(self, slot: str) -> LinearModel | None:
        """Return the slot's model that serves, if one does."""
        policy = self._models[slot]
        return policy.model if isinstance(policy, ModelPolicy) else None

    def refresh(self) -> bool:
        """Follow what has changed; tell whether anything had."""
        with self._store.read() as connection:
            changed = generations.read(connection) != self.current.generations
        if changed:
            self.current = self._build(self.current)
            self._settle()
        return changed

    def _watch(self) -> None:
        while not self._stopped.wait(self._reload_seconds):
            try:
                if self.refresh():
                    log.info("state_reloaded", extra={"generations": self.current.generations})
            except ArtworkBanditError as error:
                log.warning("state_reload_failed", extra={"error": str(error)})
            except Exception:  # a thread that died would never see a new model or a pause again
                log.exception("state_reload_crashed")

    def _build(self, before: State | None) -> State:
        with self._store.read() as connection:
            found = generations.read(connection)
            catalogs = self._catalogs(connection, before, found)
            cells = cell_store.read(connection)
            paused = pauses.read(connection)
            still = catalog_store.paused_titles(connection)
            for slot in SLOTS:
                self._models[slot] = self._live_policy(connection, slot)
                self._challengers[slot] = self._challenger(connection, slot)
        return State(
            generations=found,
            catalogs=catalogs,
            policies={
                (slot, cell): self._bound(before, catalogs[slot], cell, policy)
                for slot in SLOTS
                for cell, policy in self._policies(slot).items()
            },
            cells=cells,
            cell_key=self._cell_key,
            paused=paused,
            still_titles=still,
        )

    def _catalogs(
        self, connection: Connection, before: State | None, found: Mapping[str, int]
    ) -> dict[str, Catalog]:
        """Return the catalogues; only what has changed since `before` is read."""
        if before is None:
            variants = catalog_store.list_variants(connection)
            return {s: Catalog(s, [v for v in variants if v.slot == s]) for s in SLOTS}
        known = before.generations.get("catalog", 0)
        if found.get("catalog", 0) == known:
            return dict(before.catalogs)
        variants = catalog_store.list_variants(connection, changed_after=known)
        # A server of the release before changes rows without saying so: read all of them.
        if not variants and catalog_store.newest_change(connection) <= known:
            variants = catalog_store.list_variants(connection)
        return {
            slot: catalog.changed(mine) if (mine := [v for v in variants if v.slot == slot])
            else catalog
            for slot, catalog in before.catalogs.items()
        }  # fmt: skip

    @staticmethod
    def _bound(
        before: State | None, catalog: Catalog, cell: str, policy: Policy
    ) -> tuple[Policy, BoundPolicy]:
        if before is not None and before.catalogs[catalog.slot] is catalog:
            same, bound = before.policies[catalog.slot, cell]
            if same == policy:
                return policy, bound
        return policy, policy.bind(catalog.columns)

    def _policies(self, slot: str) -> dict[str, Policy]:
        by_cell: dict[str, Policy] = {
            "explore": Uniform(),
            "baseline": Fixed(),
            "live": self._models[slot],
            "challenger": self._challengers[slot],
        }
        assert set(by_cell) == set(CELLS), "every cell has a policy"
        return by_cell | {PAUSED: Fixed(name=PAUSED)}

    def _live_policy(self, connection: Connection, slot: str) -> Policy:
        """Return the live model; if it is broken the one before it that is not, else uniform."""
        record = registry.live(connection, slot)
        self.broken.pop(slot, None)
        if record is None:
            self.serving.pop(slot, None)
            return Uniform()
        now = self._models.get(slot)
        for each in [record, *registry.live_before(connection, slot)]:
            if now is not None and now.model_version == each.version:
                return now  # what serves already is known to be sound
            try:
                policy = self._files.policy(connection, each)
                self.serving[slot] = each
                return policy
            except BrokenModel as error:
                self.broken[slot] = record.version
                log.error("model_broken", extra={"version": each.version, "error": str(error)})
        self.serving.pop(slot, None)
        return Uniform()

    def _challenger(self, connection: Connection, slot: str) -> Policy:
        """Return the challenger; without a sound one its cell is served by the live policy."""
        record = registry.challenger(connection, slot)
        self.broken_challengers.pop(slot, None)
        if record is None:
            return self._models[slot]
        now = self._challengers.get(slot)
        if now is not None and now.model_version == record.version:
            return now
        try:
            return self._files.policy(connection, record)
        except BrokenModel as error:
            self.broken_challengers[slot] = record.version
            log.error("challenger_broken", extra={"version": record.version, "error": str(error)})
            return self._models[slot]

    def _settle(self) -> None:
        """Keep the garbage collector away from the catalogue: a full collection would stop every
        answer for as long as it takes to walk all variants."""
        gc.collect(1)
        gc.freeze()
