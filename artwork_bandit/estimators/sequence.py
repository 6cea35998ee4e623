"""A confidence sequence: an interval that may be looked at after every row and still covers.

    estimate +- se * sqrt((1 + 1 / (n rho^2)) * log((n rho^2 + 1) / alpha^2))

with n the rows so far and se the standard error of the estimate (clustered or not). This is the
asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021), "Time-
uniform central limit theory and asymptotic confidence sequences", with rho set so that the interval
is tightest at `n_tightest` rows. Asymptotic: not valid before the estimate is nearly normal; the
caller must wait for enough outcomes before the first look.
"""

from __future__ import annotations

import math


def half_width(se: float, n: float, alpha: float, n_tightest: float) -> float:
    """Return half the width of the (1 - alpha) sequence after n > 0 rows.

    >>> round(half_width(1.0, 1000, 0.05, 1000) / 1.96, 2)  # the price of looking at any time
    1.55
    """
    log_term = -2 * math.log(alpha)
    rho2 = (log_term + math.log(log_term + 1)) / n_tightest
    spread = (1 + 1 / (n * rho2)) * math.log((n * rho2 + 1) / alpha**2)
    return se * math.sqrt(spread)
