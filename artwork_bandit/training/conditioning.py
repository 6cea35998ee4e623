"""Writing examples so that Vowpal Wabbit's L-BFGS comes to its maximum in few passes.

Beyond its first pass VW steps by one scale for all effects (it inverts its preconditioner anew in
every pass, which leaves next to nothing of it), so effects that the rows tell thousands of times as
much of as their priors hold all others back: from 300,000 rows twelve passes left half of what the
taste factors add unlearned. Of features of everyday size affinities, titles and the level of all
titles are such: many rows have them, and their priors are wide. Theirs are narrowed to what tells a
hundredth of what the rows tell, so that an effect is at most that much smaller.
"""

from __future__ import annotations

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
"""What rows may tell of such an effect, in units of what its prior tells."""
PAIRS = 5_000
"""Of random members and variants of the log, by which the size of affinities is told."""


def form_of(priors: Priors, found: Survey, ageing: Ageing) -> Form:
    """Return how the log's examples are to be written under these priors."""
    form = Form.of(priors, found.contexts, found.variants)
    rows = _weight(found, ageing) * found.mean * (1 - found.mean)
    going_on = found.start is not None
    narrowed = Narrowed(
        level=_share(rows),
        title=_share(priors.title**2 * rows / len(found.title_numbers)),
        affinity=[] if going_on else _share(priors.affinity**2 * rows * _squares(form, found)),
    )  # fmt: skip
    form = msgspec.structs.replace(form, narrowed=narrowed)
    return form if found.start is None else form.going_on(found.start.information)


def _share(told: Floats | float) -> Any:
    """Return what priors are to be multiplied with, of whose effects rows tell so many times what
    they do."""
    return np.sqrt(MOST_TOLD / np.maximum(told, MOST_TOLD)).round(6).tolist()


def _weight(found: Survey, ageing: Ageing) -> float:
    """Return the sum of the rows' weights, by the hour."""
    assert found.last is not None, "an empty log is refused before"
    hours, rows = np.array(list(found.hours.items())).T
    return float(ageing.weights(hours * HOUR, found.last) @ rows)


def _squares(form: Form, found: Survey) -> Floats:
    """Return the mean square of each kind of affinity."""
    if not found.members:
        return np.zeros(len(form.pairs))
    rng = np.random.default_rng(1)
    contexts = found.contexts.encode(found.members)
    variants = found.variants.encode(VariantColumns.of(found.shown).features)
    members, shown = (rng.integers(len(table), size=PAIRS) for table in (contexts, variants))
    mean: Floats = np.square(form.affinities(contexts[members], variants[shown])).mean(axis=0)
    return mean
