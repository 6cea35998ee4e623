"""What might have been shown in rows instead of what was, and how far that can move an estimate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, ReplayBlock
from artwork_bandit.estimators import Rows
from artwork_bandit.policies.ragged import maximum, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What might have been shown in n rows instead of what was."""

    heaviest: Floats | None
    """Largest ratio of the target's pmf to the logging policy's, where the log has that."""
    unsupported: Floats | None
    """Target probability of what the logging policy never shows, where that is known."""
    likeliest: Floats
    """Largest target probability."""
    propensity: Floats

    def take(self, rows: npt.NDArray[np.bool_]) -> Reach:
        """Return some of the rows."""
        return Reach(
            heaviest=None if self.heaviest is None else self.heaviest[rows],
            unsupported=None if self.unsupported is None else self.unsupported[rows],
            likeliest=self.likeliest[rows], propensity=self.propensity[rows],
        )  # fmt: skip

    @property
    def odds(self) -> Odds:
        if self.heaviest is not None:
            return Odds(heaviest=float(self.heaviest.max(initial=0.0)))
        return Odds(
            likeliest=float(self.likeliest.max(initial=0.0)),
            smallest=float(self.propensity.min(initial=1.0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """What bounds the weights; joins with `|`, so that it is the same however a log is cut."""

    heaviest: float = 0.0
    """Largest ratio of pmfs, where the log has them."""
    likeliest: float = 0.0
    """Largest target probability, and smallest propensity, where it has not."""
    smallest: float = 1.0

    def __or__(self, other: Odds) -> Odds:
        return Odds(
            heaviest=max(self.heaviest, other.heaviest),
            likeliest=max(self.likeliest, other.likeliest),
            smallest=min(self.smallest, other.smallest),
        )

    @property
    def bound(self) -> float:
        """Largest weight that the logging policy's floor permits."""
        return max(self.heaviest, self.likeliest / self.smallest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """What a target is compared with in the same n rows: another policy, or the logging policy."""

    weight: Floats
    """Its pmf over the logging policy's, of what was shown."""
    predicted: Floats
    """What it would earn on average, as the outcome model has it."""
    ahead: Reach | None = None
    """Of the target's pmf less the rival's; None for the logging policy, whose weight is 1."""
    behind: Reach | None = None
    """Of the rival's less the target's."""

    @staticmethod
    def logging(rows: Rows) -> Rival:
        """Return the logging policy: it earned what was earned."""
        return Rival(weight=np.ones_like(rows.reward), predicted=rows.shown_q)

    def take(self, rows: npt.NDArray[np.bool_]) -> Rival:
        """Return some of the rows."""
        return Rival(
            weight=self.weight[rows], predicted=self.predicted[rows],
            ahead=self.ahead and self.ahead.take(rows),
            behind=self.behind and self.behind.take(rows),
        )  # fmt: skip


@dataclass(slots=True)
class Range:
    """Smallest and largest of what was seen."""

    low: float = np.inf
    high: float = -np.inf

    def see(self, *values: Floats) -> None:
        for each in values:
            self.low = min(self.low, float(each.min(initial=self.low)))
            self.high = max(self.high, float(each.max(initial=self.high)))

    def __iadd__(self, other: Range) -> Range:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        return self


def reach_of(pmf: Floats, block: ReplayBlock) -> Reach:
    """Return what might have been shown in the rows of a block."""
    offsets, logged = block.offsets, block.logging_pmf
    heaviest = unsupported = None
    if logged is not None:
        could = logged > 0
        ratio = np.divide(pmf, logged, out=np.zeros_like(pmf), where=could)
        heaviest, unsupported = maximum(ratio, offsets), total(pmf * ~could, offsets)
    return Reach(
        heaviest=heaviest, unsupported=unsupported, likeliest=maximum(pmf, offsets),
        propensity=block.propensity,
    )  # fmt: skip


def apart(difference: Floats, block: ReplayBlock) -> tuple[Reach, Reach]:
    """Return how far a pmf may be above and below another, as weights; `difference` is of both."""
    offsets, logged = block.offsets, block.logging_pmf
    if logged is not None:
        difference = np.divide(difference, logged, out=np.zeros_like(difference), where=logged > 0)
    sides = (maximum(difference, offsets), maximum(-difference, offsets))
    ahead, behind = (
        Reach(
            heaviest=None if logged is None else side, unsupported=None, likeliest=side,
            propensity=block.propensity,
        )
        for side in sides
    )  # fmt: skip
    return ahead, behind
