"""Quantiles and tails of distributions, from scipy, which is loaded when they are first asked for:
commands that ask for none start in half the time."""

from __future__ import annotations

from artwork_bandit.domain import Floats


def t_quantile(probability: float, degrees: float) -> float:
    """Return Student's t quantile.

    >>> round(t_quantile(0.975, 255), 4)
    1.9693
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def t_quantiles(probability: float, degrees: Floats) -> Floats:
    """Return Student's t quantile for each number of degrees of freedom."""
    from scipy.special import stdtrit

    found: Floats = stdtrit(degrees, probability)
    return found


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability of so large a chi-square statistic.

    >>> round(chi_square_tail(3.8415, 1), 4)
    0.05
    """
    from scipy.special import chdtrc

    return float(chdtrc(degrees, statistic))
