"""Inverse propensity scoring: mean of w r (Horvitz and Thompson 1952).

Unbiased where every variant the target may show had a positive logged propensity. Not valid with
missing or made-up propensities; of high variance where weights are large.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class IPS:
    name: ClassVar[str] = "ips"
    no_interval: ClassVar[str | None] = None
    predicted: ClassVar[bool | None] = False

    def columns(self, rows: Rows) -> Floats:
        return np.stack([rows.weight * rows.reward, np.ones(len(rows))], axis=1)
