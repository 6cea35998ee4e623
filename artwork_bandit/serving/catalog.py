"""The catalogue of one slot in memory, and what of it may be shown to whom.

Columns over all variants, replaced as a whole when something changes but made from the ones
before: a change costs its own rows, and the action sets of other titles are kept. Audiences that
may see the same variants share one `View`; a title's action set is computed when first asked for.
"""

from __future__ import annotations

import datetime as dt
import threading
import weakref
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from artwork_bandit.domain import ActionSet, Context, Ints, Variant, microseconds
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.serving.eligibility import Audience, EligibilityColumns, Mask

VIEWS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Eligible:
    """What may be shown for one title."""

    rows: Ints
    """At least one, the oldest variant first."""
    action_set: ActionSet


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one audience may see."""

    _catalog: weakref.ref[Catalog]
    """Weak, because the catalogue has its views: a cycle would outlive it (see `state._settle`)."""
    mask: Mask
    _titles: dict[str, Eligible | None] = field(default_factory=dict)

    def known(self, title_ids: Sequence[str]) -> list[tuple[str, Eligible]]:
        """Return the titles that have something eligible, with it."""
        seen = self._titles
        for title_id in title_ids:
            if title_id not in seen:
                self.title(title_id)
        get = seen.get
        return [(t, eligible) for t in title_ids if (eligible := get(t)) is not None]

    def title(self, title_id: str) -> Eligible | None:
        """Return what may be shown for a title; None if nothing may or nobody knows it."""
        try:
            return self._titles[title_id]
        except KeyError:
            catalog = self._catalog()
            assert catalog is not None, "whoever has a view holds the state it is of"
            rows = catalog.rows_of.get(title_id)
            if rows is None:
                return None  # not remembered: anybody can ask for any name
            rows = rows[self.mask[rows]]
            found = catalog.eligible(title_id, rows) if len(rows) else None
            self._titles[title_id] = found
            return found


class Catalog:
    """All variants of one slot, in columns; never changed, only followed by the next one."""

    def __init__(self, slot: str, variants: Sequence[Variant] = ()) -> None:
        self.slot = slot
        self.variants: list[Variant] = []
        self.columns = VariantColumns.of([])
        self.row_of: dict[str, int] = {}
        self.rows_of: dict[str, Ints] = {}
        """title -> its rows, the oldest variant first."""
        self._eligibility = EligibilityColumns.of([])
        self._sets: dict[tuple[str, bytes], Eligible] = {}
        """What is eligible, by title and rows: one object however many audiences share it."""
        self._audiences: OrderedDict[Audience, View] = OrderedDict()
        self._views: dict[bytes, View] = {}
        self._valid_until: int | None = None
        self._dated = False
        self._lock = threading.Lock()
        if variants:
            self._take_in(variants)

    def changed(self, variants: Sequence[Variant]) -> Catalog:
        """Return the catalogue with variants added, or in place of those with the same id."""
        after = Catalog(self.slot)
        after.variants, after.columns = list(self.variants), self.columns
        after.row_of, after.rows_of = dict(self.row_of), dict(self.rows_of)
        after._eligibility = self._eligibility
        touched = {v.title_id for v in variants}
        after._sets = {k: v for k, v in self._sets.copy().items() if k[0] not in touched}
        after._take_in(variants)
        return after

    def view(self, context: Context, now: dt.datetime) -> View:
        """Return what may be shown in this context now."""
        with self._lock:
            return self._view(context, now)

    def _view(self, context: Context, now: dt.datetime) -> View:
        at = microseconds(now)
        if not self._dated or (self._valid_until is not None and at >= self._valid_until):
            self._audiences.clear()
            self._views.clear()
            self._valid_until = self._eligibility.next_change(now)
            self._dated = True
        audience = Audience(
            country=context.country, language=context.language, maturity=context.maturity
        )
        view = self._audiences.get(audience)
        if view is None:
            mask = self._eligibility.mask(audience, now)
            view = self._views.setdefault(
                np.packbits(mask).tobytes(), View(weakref.ref(self), mask)
            )
            self._audiences[audience] = view
            while len(self._audiences) > VIEWS_KEPT:
                _, dropped = self._audiences.popitem(last=False)
                if all(dropped is not v for v in self._audiences.values()):
                    self._views.pop(np.packbits(dropped.mask).tobytes(), None)
        return view

    def eligible(self, title_id: str, rows: Ints) -> Eligible:
        """Return some rows of a title as an action set, remembered."""
        key = (title_id, rows.tobytes())
        if (found := self._sets.get(key)) is None:
            found = self._sets[key] = self.narrowed(title_id, rows)
        return found

    def narrowed(self, title_id: str, rows: Ints) -> Eligible:
        """Return some rows of a title as an action set, not remembered: any client's own list."""
        variants = [self.variants[row] for row in rows.tolist()]
        revisions = tuple(v.revision_id for v in variants)
        default = next((i for i, v in enumerate(variants) if v.is_default), None)
        return Eligible(
            rows,
            ActionSet(
                action_set_id=ActionSet.identify(self.slot, title_id, revisions, default),
                title_id=title_id,
                slot=self.slot,
                revision_ids=revisions,
                variant_ids=tuple(v.variant_id for v in variants),
                default=default,
            ),
        )

    def allowed(self, only: Collection[str] | None, excluded: Collection[str] | None) -> Mask:
        """Return per row whether a client's lists of variant ids allow it."""
        mask = np.full(len(self.variants), only is None)
        mask[[self.row_of[v] for v in only or () if v in self.row_of]] = True
        mask[[self.row_of[v] for v in excluded or () if v in self.row_of]] = False
        return mask

    def _take_in(self, variants: Sequence[Variant]) -> None:
        """Replace the variants that are there, then add the others."""
        variants = list({v.variant_id: v for v in variants}.values())
        known = [v for v in variants if v.variant_id in self.row_of]
        new = [v for v in variants if v.variant_id not in self.row_of]
        rows = np.array([self.row_of[v.variant_id] for v in known], np.int64)
        for row, variant in zip(rows.tolist(), known, strict=True):
            self.variants[row] = variant
        added: dict[str, list[int]] = {}
        for row, variant in enumerate(new, start=len(self.variants)):
            self.row_of[variant.variant_id] = row
            added.setdefault(variant.title_id, []).append(row)
        self.variants += new
        for title_id, more in added.items():
            before = self.rows_of.get(title_id, np.empty(0, np.int64))
            self.rows_of[title_id] = np.concatenate([before, np.array(more, np.int64)])
        self.columns = self.columns.changed(rows, [*known, *new])
        self._eligibility = self._eligibility.changed(rows, [*known, *new])
