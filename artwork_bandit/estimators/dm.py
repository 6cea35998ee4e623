"""Direct method: mean predicted reward under the target's pmf (Beygelzimer and Langford 2009).

As biased as the predictions are; no interval can be had from it alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class DM:
    name: ClassVar[str] = "dm"
    no_interval: ClassVar[str | None] = "rests on the predictions alone"
    predicted: ClassVar[bool | None] = None

    def columns(self, rows: Rows) -> Floats:
        return np.stack([rows.target_q, np.ones(len(rows))], axis=1)
