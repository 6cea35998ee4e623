"""IPS with weights clipped at a bound: mean of min(w, bound) r (Ionides 2008).

Biased (towards 0 for positive rewards) by what is clipped, in exchange for variance: no interval.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class ClippedIPS:
    bound: float = 10.0
    name: ClassVar[str] = "clipped_ips"
    no_interval: ClassVar[str | None] = "biased by clipping: an interval would not cover"
    predicted: ClassVar[bool | None] = None

    def columns(self, rows: Rows) -> Floats:
        clipped = np.minimum(rows.weight, self.bound)
        return np.stack([clipped * rows.reward, np.ones(len(rows))], axis=1)
