"""The columns of variants that policies work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Variant
from artwork_bandit.policies.rendezvous import UInt64s, variant_key


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VariantColumns:
    """V variants of any titles, in columns; a policy is bound to them once."""

    variant_ids: tuple[str, ...]
    keys: UInt64s
    """V, 64-bit ids for draws and own effects."""
    features: Sequence[Mapping[str, Any]]
    is_default: npt.NDArray[np.bool_]

    @staticmethod
    def of(variants: Sequence[Variant]) -> VariantColumns:
        return VariantColumns(
            variant_ids=tuple(v.variant_id for v in variants),
            keys=np.array(
                [variant_key(v.title_id, v.slot, v.variant_id) for v in variants], np.uint64
            ),
            features=[v.features for v in variants],
            is_default=np.array([v.is_default for v in variants], bool),
        )
