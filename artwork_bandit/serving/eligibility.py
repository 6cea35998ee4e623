"""Which variants may be shown to an audience now, as columns: one mask over all variants at once.

Eligibility is by status, dates, country, language and maturity. A variant restricted to countries
(or languages) is not eligible where the request names none: rights that cannot be checked are not
assumed. A request without maturity is not limited by it; one with a maturity is not shown what
has an unknown level.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import MATURITY_LEVELS, Ints, Variant, VariantStatus, microseconds

Mask = npt.NDArray[np.bool_]
Group = frozenset[str] | None

_EVER = 2**62
_UNKNOWN_LEVEL = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """What of a context decides what may be shown."""

    country: str | None
    language: str | None
    maturity: str | None


@dataclass(frozen=True, slots=True, eq=False)
class EligibilityColumns:
    """V variants' restrictions."""

    active: Mask
    starts_at: Ints
    """Microseconds since 1970; a very small number where there is no start."""
    ends_at: Ints
    """Microseconds since 1970; a very large number where there is no end."""
    maturity: Ints
    """Level, -1 where the variant has none."""
    countries: Ints
    """Index into `groups`; 0 is everywhere."""
    languages: Ints
    """Index into `groups`; 0 is all."""
    groups: tuple[Group, ...] = (None,)
    """Distinct sets of countries and of languages; the first is no restriction."""

    @staticmethod
    def of(variants: Sequence[Variant]) -> EligibilityColumns:
        empty = np.empty(0, np.int64)
        none = EligibilityColumns(np.empty(0, bool), empty, empty, empty, empty, empty)
        return none.changed(empty, variants)

    def changed(self, rows: Ints, variants: Sequence[Variant]) -> EligibilityColumns:
        """Return the columns with `rows` replaced by the first variants, the others added."""
        numbers = {group: i for i, group in enumerate(self.groups)}

        def number(values: tuple[str, ...] | None) -> int:
            group = None if values is None else frozenset(values)
            return numbers.setdefault(group, len(numbers))

        table = np.array(
            [
                (
                    v.status is VariantStatus.ACTIVE,
                    -_EVER if v.starts_at is None else microseconds(v.starts_at),
                    _EVER if v.ends_at is None else microseconds(v.ends_at),
                    -1 if v.maturity is None else MATURITY_LEVELS.get(v.maturity, _UNKNOWN_LEVEL),
                    number(v.countries),
                    number(v.languages),
                )
                for v in variants
            ],
            np.int64,
        ).reshape(-1, 6)

        def column(before: npt.NDArray[np.generic], at: int) -> npt.NDArray[np.generic]:
            new = table[:, at].astype(before.dtype)
            after = np.concatenate([before, new[len(rows) :]])
            after[rows] = new[: len(rows)]
            return after

        names = ("active", "starts_at", "ends_at", "maturity", "countries", "languages")
        columns = {name: column(getattr(self, name), at) for at, name in enumerate(names)}
        return EligibilityColumns(**columns, groups=tuple(numbers))  # type: ignore[arg-type]

    def mask(self, audience: Audience, now: dt.datetime) -> Mask:
        """Return per variant whether it may be shown."""
        at = microseconds(now)
        mask = self.active & (self.starts_at <= at) & (at < self.ends_at)
        mask &= self._covers(audience.country)[self.countries]
        mask &= self._covers(audience.language)[self.languages]
        if audience.maturity is not None:
            mask &= self.maturity <= MATURITY_LEVELS.get(audience.maturity, -1)
        return mask

    def next_change(self, now: dt.datetime) -> int | None:
        """Return when (microseconds) a date next changes some mask; None if no date is ahead."""
        dates = np.concatenate([self.starts_at, self.ends_at])
        ahead = dates[(dates > microseconds(now)) & (dates < _EVER)]
        return int(ahead.min()) if len(ahead) else None

    def _covers(self, value: str | None) -> Mask:
        """Return per group whether the country or language is of it."""
        return np.array([group is None or value in group for group in self.groups])
