"""Writing examples so that Vowpal Wabbit's L-BFGS comes to its maximum in few passes.

Beyond its first pass VW steps by one scale for all effects (it inverts its preconditioner anew in
every pass, which leaves next to nothing of it), so effects of which the rows tell thousands of
times as much as their priors do hold all others back: from 300,000 rows twelve passes left half of
what the taste factors add unlearned. Of features of everyday size affinities, titles and the level
of all titles are such: many rows have them, and their priors are wide. Theirs are narrowed to what
tells a hundredth of what the rows tell, so that such an effect is about that much smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from artwork_bandit.domain import Floats
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.policies.vowpal import Form, Narrowed
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.survey import HOUR, Survey

MOST_TOLD = 100.0
"""What rows may tell of one of these effects, in units of what its prior tells."""
PAIRS = 5_000
"""Of random members and variants of the log, by which the size of affinities is told."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditioning:
    """How much a row tells of the effects whose priors are narrowed."""

    curvature: float
    """p (1 - p) at the log's mean."""
    titles: int
    squares: Floats
    """[kinds of affinity], mean square."""

    @staticmethod
    def of(found: Survey, form: Form) -> Conditioning:
        return Conditioning(
            curvature=found.mean * (1 - found.mean), titles=len(found.title_numbers),
            squares=_squares(found, form),
        )  # fmt: skip

    def narrowed(self, form: Form, weight: float) -> Form:
        """Return how rows that weigh so much together are to be written."""
        p, rows = form.priors, self.curvature * weight
        narrowed = Narrowed(
            level=_share(rows),
            title=_share(p.title**2 * rows / self.titles),
            affinity=_share(p.affinity**2 * rows * self.squares),
        )
        return msgspec.structs.replace(form, narrowed=narrowed)


def form_of(priors: Priors, found: Survey, ageing: Ageing) -> Form:
    """Return how the log's examples are to be written under these priors."""
    form = Form.of(priors, found.contexts, found.variants, found.doubtful)
    form = Conditioning.of(found, form).narrowed(form, _weight(found, ageing))
    return form if found.start is None else form.going_on(found.start.information)


def _share(told: Floats | float) -> Any:
    """Return what priors are to be multiplied with if rows tell `told` times what they do."""
    return np.sqrt(MOST_TOLD / np.maximum(told, MOST_TOLD)).round(6).tolist()


def _weight(found: Survey, ageing: Ageing) -> float:
    """Return the sum of the rows' weights, by the hour."""
    assert found.last is not None, "an empty log is refused before"
    hours, rows = np.array(list(found.hours.items())).T
    return float(ageing.weights(hours * HOUR, found.last) @ rows)


def _squares(found: Survey, form: Form) -> Floats:
    """Return the mean square of each kind of affinity."""
    if not found.members:
        return np.zeros(len(form.pairs))
    rng = np.random.default_rng(1)
    members, place = _drawn(rng, len(found.members))
    shown, at = _drawn(rng, len(found.shown))
    contexts = found.contexts.encode([found.members[i] for i in members])
    some = VariantColumns.of([found.shown[i] for i in shown])
    variants = found.variants.encode(some.features)
    mean: Floats = np.square(form.affinities(contexts[place], variants[at])).mean(axis=0)
    return mean


def _drawn(rng: np.random.Generator, n: int) -> tuple[list[int], Any]:
    """Return which of n are drawn, and per draw the place among them."""
    kept, place = np.unique(rng.integers(n, size=PAIRS), return_inverse=True)
    return kept.tolist(), place
