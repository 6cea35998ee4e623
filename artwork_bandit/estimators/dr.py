"""Doubly robust: mean of q(target) + w (r - q(shown)) (Dudik, Langford and Li 2011).

Unbiased if the propensities are exact, whatever the predictions, provided q was fitted on other
(earlier) rows; better predictions make it more precise. Not valid without support.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class DR:
    name: ClassVar[str] = "dr"
    no_interval: ClassVar[str | None] = None
    predicted: ClassVar[bool | None] = True

    def columns(self, rows: Rows) -> Floats:
        corrected = rows.target_q + rows.weight * (rows.reward - rows.shown_q)
        return np.stack([corrected, np.ones(len(rows))], axis=1)
