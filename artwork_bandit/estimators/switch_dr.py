"""Switch-DR: DR where the weight is at most a bound, the prediction alone elsewhere (Wang,
Agarwal and Dudik 2017). Biased by the predictions wherever it switches: no interval.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class SwitchDR:
    bound: float = 10.0
    name: ClassVar[str] = "switch_dr"
    no_interval: ClassVar[str | None] = "biased where it switches: an interval would not cover"
    predicted: ClassVar[bool | None] = None

    def columns(self, rows: Rows) -> Floats:
        kept = rows.weight * (rows.weight <= self.bound)
        corrected = rows.target_q + kept * (rows.reward - rows.shown_q)
        return np.stack([corrected, np.ones(len(rows))], axis=1)
