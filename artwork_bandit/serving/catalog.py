"""The catalogue of one slot in memory, and what of it may be shown to whom.

Eligibility is by status, dates, country, language and maturity. Requests with the same country,
language and maturity share a `View`: each title's eligible variants and its action set, computed
once and kept until the next date of any variant passes.

A variant restricted to countries (or languages) is not eligible where the request names none:
rights that cannot be checked are not assumed. A request without maturity is not limited by it.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import (
    MATURITY_LEVELS,
    ActionSet,
    Context,
    Ints,
    Variant,
    VariantStatus,
)
from artwork_bandit.policies.variants import VariantColumns

VIEWS_KEPT = 256
_Audience = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The eligible variants per title for one audience."""

    catalog: Catalog
    valid_until: dt.datetime | None
    """When a date of some variant changes the answer; None if no date is ahead."""
    rows_of: dict[str, Ints]
    """title -> rows of its eligible variants, at least one."""
    _sets: dict[str, ActionSet] = field(default_factory=dict)

    def action_set(self, title_id: str) -> ActionSet:
        """Return the action set of all the title's eligible variants."""
        if (found := self._sets.get(title_id)) is None:
            found = self.catalog.action_set(title_id, self.rows_of[title_id])
            self._sets[title_id] = found
        return found


class Catalog:
    """All variants of one slot, in columns; immutable, replaced when something changes."""

    def __init__(self, slot: str, variants: Sequence[Variant]) -> None:
        self.slot = slot
        self.variants = sorted(variants, key=lambda v: v.title_id)  # stable: oldest first
        self.columns = VariantColumns.of(self.variants)
        self.revision_ids = [v.revision_id for v in self.variants]
        self.row_of = {v.variant_id: row for row, v in enumerate(self.variants)}
        self.titles = frozenset(v.title_id for v in self.variants)
        self._views: OrderedDict[_Audience, View] = OrderedDict()

    def view(self, context: Context, now: dt.datetime) -> View:
        """Return what may be shown in this context now."""
        audience = (context.country, context.language, context.maturity)
        view = self._views.get(audience)
        if view is None or (view.valid_until is not None and now >= view.valid_until):
            view = self._make_view(audience, now)
            self._views[audience] = view
            while len(self._views) > VIEWS_KEPT:
                self._views.popitem(last=False)
        return view

    def action_set(self, title_id: str, rows: Ints) -> ActionSet:
        """Return the action set of some rows of a title."""
        revisions = tuple(self.revision_ids[row] for row in rows)
        return ActionSet(
            action_set_id=ActionSet.identify(self.slot, title_id, revisions),
            title_id=title_id,
            slot=self.slot,
            revision_ids=revisions,
            variant_ids=tuple(self.variants[row].variant_id for row in rows),
        )

    def allowed(
        self, only: Collection[str] | None, excluded: Collection[str] | None
    ) -> npt.NDArray[np.bool_]:
        """Return per row whether a client's lists of variant ids allow it."""
        mask = np.full(len(self.variants), only is None)
        mask[[self.row_of[v] for v in only or () if v in self.row_of]] = True
        mask[[self.row_of[v] for v in excluded or () if v in self.row_of]] = False
        return mask

    def _make_view(self, audience: _Audience, now: dt.datetime) -> View:
        rows_of: dict[str, list[int]] = {}
        for row, variant in enumerate(self.variants):
            if is_eligible(variant, *audience, now):
                rows_of.setdefault(variant.title_id, []).append(row)
        dates = [d for v in self.variants for d in (v.starts_at, v.ends_at) if d and d > now]
        return View(
            self,
            min(dates, default=None),
            {title: np.array(rows, np.int64) for title, rows in rows_of.items()},
        )


def is_eligible(
    variant: Variant,
    country: str | None,
    language: str | None,
    maturity: str | None,
    now: dt.datetime,
) -> bool:
    """Tell whether a variant may be shown now to this audience."""
    return (
        variant.status is VariantStatus.ACTIVE
        and (variant.starts_at is None or variant.starts_at <= now)
        and (variant.ends_at is None or now < variant.ends_at)
        and (variant.countries is None or country in variant.countries)
        and (variant.languages is None or language in variant.languages)
        and (
            maturity is None
            or variant.maturity is None
            # What has no known level is shown to nobody who is limited, and by nobody's limit.
            or MATURITY_LEVELS.get(variant.maturity, 99) <= MATURITY_LEVELS.get(maturity, -1)
        )
    )
