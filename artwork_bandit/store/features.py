"""Finding the variants of logged action sets, with the features they had when they were shown."""

from __future__ import annotations

from collections.abc import Sequence

from artwork_bandit.domain import ActionSet, Variant
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.store import catalog
from artwork_bandit.store.engine import Store


class StoredFeatures:
    """Looks variants up by revision, or by id for logs made elsewhere; remembers them.

    Calling it raises NotEnoughData for variants the catalogue does not know.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_revision: dict[int, Variant] = {}
        self._by_id: dict[str, Variant] = {}

    def __call__(self, action_sets: Sequence[ActionSet]) -> Sequence[Sequence[Variant]]:
        by_name = [s for s in action_sets if not s.revision_ids]
        revisions = {r for s in action_sets for r in s.revision_ids} - set(self._by_revision)
        names = {v for s in by_name for v in s.variant_ids} - set(self._by_id)
        if revisions or names:
            with self._store.read() as connection:
                self._by_revision |= catalog.revisions(connection, revisions)
                found = catalog.by_ids(connection, names)
                self._by_id |= {v.variant_id: v for v in found}
        if unknown := sorted(names - set(self._by_id)):
            raise NotEnoughData(
                f"the catalogue has no features for {len(unknown)} variants of the log, such as "
                f"{unknown[0]!r}; import them with `catalog import` or `import-log`"
            )
        return [
            [self._by_revision[r] for r in s.revision_ids]
            or [self._by_id[v] for v in s.variant_ids]
            for s in action_sets
        ]
