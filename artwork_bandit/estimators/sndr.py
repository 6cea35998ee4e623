"""Self-normalised doubly robust: mean q(target) + sum w (r - q(shown)) / sum w (Kallus and
Uehara 2019). Consistent; less variable than DR where weights are large. Not valid without support.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class SNDR:
    name: ClassVar[str] = "sndr"
    no_interval: ClassVar[str | None] = None
    predicted: ClassVar[bool | None] = True

    def columns(self, rows: Rows) -> Floats:
        residual = rows.weight * (rows.reward - rows.shown_q)
        return np.stack([rows.target_q, np.ones(len(rows)), residual, rows.weight], axis=1)
