"""Evidence that sums which should be 0 are not, where a few rows may carry most of their variance.

Bet a fixed part l of what one has on each row's x, whose mean given the past is 0 if all is well:
the wealth, prod (1 + l x), is expected not to grow, so it exceeds 1 / alpha with probability at
most alpha (Ville 1939), whatever the distribution of x. With x >= -b and h = l b in (0, 1)

    log wealth >= h sum x / b - (-log(1 - h) - h) sum x^2 / b^2

(Fan, Grama and Liu 2015, "Exponential inequalities for martingales with applications", lemma 4.1),
which needs sums only. Stakes h are a mixture, for and against. Where a normal approximation takes
the variance from the rows that came, and so is surest of itself where the heavy ones have not come,
this knows how heavy they may be. Not valid if x can be below -b.
"""

from __future__ import annotations

import numpy as np

from artwork_bandit.domain import Floats

STAKES = 0.9 * 0.7 ** np.arange(24)


def log_evidence(sums: Floats, squares: Floats, below: float, above: float) -> float:
    """Return the log of the mean wealth of bets on each of n sums, 0 without any.

    `sums` [n] of x, `squares` [n] of x^2; every x lies in [-below, above].

    >>> round(log_evidence(np.array([600.0]), np.array([900.0]), 1.0, 5.0))
    134
    >>> log_evidence(np.array([0.0]), np.array([900.0]), 1.0, 5.0) < 0
    True
    """
    if not len(sums):
        return 0.0
    price = -np.log1p(-STAKES) - STAKES
    wealth = np.concatenate([
        sign * STAKES * sums[:, None] / bound - price * squares[:, None] / bound**2
        for sign, bound in ((1.0, below), (-1.0, above))
    ])  # fmt: skip
    return float(np.logaddexp.reduce(wealth, axis=None) - np.log(wealth.size))
