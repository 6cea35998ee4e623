"""Self-normalised IPS: sum of w r over sum of w (Swaminathan and Joachims 2015).

Consistent, with a bias of order 1/n; stays within the rewards' range. Not valid without support,
like IPS.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class SNIPS:
    name: ClassVar[str] = "snips"
    no_interval: ClassVar[str | None] = None
    predicted: ClassVar[bool | None] = False

    def columns(self, rows: Rows) -> Floats:
        return np.stack([rows.weight * rows.reward, rows.weight], axis=1)
