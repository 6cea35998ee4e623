"""What a server keeps in memory: catalogues, policies, cells, keys; replaced as a whole.

A background thread asks the database every `reload_seconds` for the generations of catalogue,
models and cells, and builds a new state when one has moved. Requests in flight keep the state
they began with. A model that fails its checks leaves the one before in place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from artwork_bandit.domain import CellShare
from artwork_bandit.errors import ArtworkBanditError, BrokenModel
from artwork_bandit.policies.cells import CELLS, bucket_of, cell_of
from artwork_bandit.policies.policy import BoundPolicy, Fixed, Policy, Uniform
from artwork_bandit.serving.catalog import Catalog
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import catalog as catalog_store
from artwork_bandit.store import cells as cell_store
from artwork_bandit.store import generations, registry, secrets
from artwork_bandit.store.engine import Connection, Store

log = logging.getLogger(__name__)


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

    def cell(self, member_id: str) -> str:
        return cell_of(self.cells, bucket_of(self.cell_key, member_id))


class LiveState:
    """The current state, kept current by a thread."""

    def __init__(self, store: Store, cell_key: bytes, reload_seconds: float) -> None:
        self._store = store
        self._cell_key = cell_key
        self._reload_seconds = reload_seconds
        self._stopped = threading.Event()
        self._models: dict[str, Policy] = {}
        self.current = self._build()
        self._thread = threading.Thread(target=self._watch, name="state", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def refresh(self) -> bool:
        """Rebuild if something has changed; tell whether it had."""
        with self._store.read() as connection:
            changed = generations.read(connection) != self.current.generations
        if changed:
            self.current = self._build()
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

    def _build(self) -> State:
        with self._store.read() as connection:
            found = generations.read(connection)
            variants = catalog_store.list_variants(connection)
            cells = cell_store.read(connection)
            for slot in SLOTS:
                self._models[slot] = self._live_policy(connection, slot)
        catalogs = {slot: Catalog(slot, [v for v in variants if v.slot == slot]) for slot in SLOTS}
        return State(
            generations=found,
            catalogs=catalogs,
            policies={
                (slot, cell): (policy, policy.bind(catalogs[slot].columns))
                for slot in SLOTS
                for cell, policy in self._policies(slot).items()
            },
            cells=cells,
            cell_key=self._cell_key,
        )

    def _policies(self, slot: str) -> dict[str, Policy]:
        by_cell: dict[str, Policy] = {
            "explore": Uniform(),
            "baseline": Fixed(),
            "live": self._models[slot],
        }
        assert set(by_cell) == set(CELLS), "every cell has a policy"
        return by_cell

    def _live_policy(self, connection: Connection, slot: str) -> Policy:
        before = self._models.get(slot, Uniform())
        record = registry.live(connection, slot)
        if record is None:
            return Uniform()
        if before.model_version == record.version:
            return before
        try:
            return registry.load(connection, record.version).policy(record.version)
        except BrokenModel as error:
            log.error("model_broken", extra={"version": record.version, "error": str(error)})
            return before
