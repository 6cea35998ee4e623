"""How much each taste factor is thought to say about what variants show, told by the log.

Most factors say nothing of pictures; the one that does is worth a wide prior. Its crosses with what
variants show are too few rows' matter to be told by the loss on later rows, but a dozen effects of
one factor say together how large they are: the standard deviation of their prior is the one that
makes the log likeliest, by expectation and maximisation (MacKay 1992, "Bayesian interpolation";
Tipping 2001, "Sparse Bayesian learning"),

    spread'^2 = (sum of  effect^2 + its posterior variance,  + spread0^2) / (number of effects + 1)

where the default spread0 counts as one effect more.
"""

from __future__ import annotations

import numpy as np

from artwork_bandit.domain import Floats

STEPS = 3
"""Of expectation and maximisation."""
LEAST, MOST = 0.2, 50.0
"""Times the default."""


def likelier(default: float, spreads: Floats, effects: Floats, information: Floats) -> Floats:
    """Return what `default` is to be multiplied with, per factor, to make the log likelier.

    `spreads` [factors] are the standard deviations under which `effects` [factors, shown columns]
    were found, and `information` is what rows told of each, in 1 / logits^2.
    """
    variance = 1.0 / (1.0 / np.square(spreads)[:, None] + information)
    squares = (np.square(effects) + variance).sum(axis=1) + default**2
    found: Floats = np.sqrt(squares / (effects.shape[1] + 1)) / default
    return np.clip(found, LEAST, MOST)
