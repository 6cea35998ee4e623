"""Rejection, or replay: mean reward of the rows where the target would have shown the same (Li,
Chu, Langford and Wang 2011).

Valid only for a log of uniform choices and a target that always shows its most probable variant.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.estimators.sums import Rows


@dataclass(frozen=True, slots=True)
class Rejection:
    name: ClassVar[str] = "rejection"
    no_interval: ClassVar[str | None] = None
    predicted: ClassVar[bool | None] = None

    def columns(self, rows: Rows) -> Floats:
        return np.stack([rows.matched * rows.reward, rows.matched], axis=1)
