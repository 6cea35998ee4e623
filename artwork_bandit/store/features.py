"""Finding the variants of logged action sets, with the features that they had, and the default that
there was, when they were shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
        return [self._of(action_set) for action_set in action_sets]

    def _of(self, action_set: ActionSet) -> list[Variant]:
        found = [self._by_revision[r] for r in action_set.revision_ids]
        found = found or [self._by_id[v] for v in action_set.variant_ids]
        if action_set.default is None:  # as the catalogue says today
            return found
        then = [i == action_set.default for i in range(len(found))]
        return [
            variant if variant.is_default == default else replace(variant, is_default=default)
            for variant, default in zip(found, then, strict=True)
        ]
