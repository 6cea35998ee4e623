"""The columns of variants that policies work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Ints, Variant
from artwork_bandit.policies.features import FeatureTable
from artwork_bandit.policies.rendezvous import UInt64s, variant_key


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VariantColumns:
    """V variants of any titles, in columns; a policy is bound to them once."""

    variant_ids: Sequence[str]
    keys: UInt64s
    """V, 64-bit ids for draws and own effects."""
    features: FeatureTable
    is_default: npt.NDArray[np.bool_]
    titles: dict[str, int]
    """Title -> its number; shared with the tables that this one came from."""
    title_of: Ints
    """V, number of each variant's title."""

    @staticmethod
    def of(variants: Sequence[Variant]) -> VariantColumns:
        none = VariantColumns(
            variant_ids=[], keys=np.empty(0, np.uint64), features=FeatureTable.of([]),
            is_default=np.empty(0, bool), titles={}, title_of=np.empty(0, np.int64),
        )  # fmt: skip
        return none.changed(np.empty(0, np.int64), variants)

    def changed(self, rows: Ints, variants: Sequence[Variant]) -> VariantColumns:
        """Return the columns with `rows` replaced by the first variants, the others added."""
        n = len(rows)
        replaced, added = variants[:n], variants[n:]
        ids = [*self.variant_ids, *(v.variant_id for v in added)]
        keys = [variant_key(v.title_id, v.slot, v.variant_id) for v in added]
        defaults = np.concatenate([self.is_default, np.array([v.is_default for v in added], bool)])
        defaults[rows] = [v.is_default for v in replaced]
        numbers = [self.titles.setdefault(v.title_id, len(self.titles)) for v in added]
        return VariantColumns(
            variant_ids=ids,
            keys=np.concatenate([self.keys, np.array(keys, np.uint64)]),
            features=self.features.changed(dict(zip(rows.tolist(), replaced, strict=True)), added),
            is_default=defaults,
            titles=self.titles,
            title_of=np.concatenate([self.title_of, np.array(numbers, np.int64)]),
        )
