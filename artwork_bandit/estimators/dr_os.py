"""DR with optimistic shrinkage: weights w' = strength w / (w^2 + strength) (Su, Dimakopoulou,
Krishnamurthy and Dudik 2020). Biased by the shrinkage: no interval.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class DROS:
    strength: float = 100.0
    name: ClassVar[str] = "dr_os"
    no_interval: ClassVar[str | None] = "biased by shrinkage: an interval would not cover"
    predicted: ClassVar[bool | None] = None

    def columns(self, rows: Rows) -> Floats:
        shrunk = self.strength * rows.weight / (rows.weight**2 + self.strength)
        corrected = rows.target_q + shrunk * (rows.reward - rows.shown_q)
        return np.stack([corrected, np.ones(len(rows))], axis=1)
