"""Which variants mislead: clicked like others or more, and come to far less than a click on another
picture of their title.

A variant's own effect starts near what its features say, and a dozen impressions move it little;
but what its clicks came to tells a misleading one from its first dozen clicks. Variants are taken
for a mixture of two kinds (Dempster, Laird and Rubin 1977): of honest ones a click of title t earns
a_t, of misleading ones rho a_t, and misleading ones are clicked delta times as often. Clicks of
honest variants vary by more than chance (negative binomial), earnings of a click are Bernoulli; a_t
and the titles' click rates are shrunk towards those of all. What a variant's own effect is expected
to be, as a logit, is

    log(1 - m + m rho),   m the probability that it misleads.

It is used where most of what was earned came by clicks and the log is sure of the second kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artwork_bandit.domain import Floats, Ints

FEWEST_CLICKS = 500
BY_CLICKS = 0.9
"""Share of what was earned that came by clicks, at least."""
MOST_EARNED = 0.5
"""rho, at most: a click on a misleading variant comes to less than half."""
SURE = 10.0
"""Logarithm of the likelihood ratio, against one kind, from which on the second is believed."""
PRIOR = 20.0
"""Clicks, and rows, of an average title that a title's own rates are shrunk towards."""
SPREAD = 0.2
"""Relative standard deviation of honest variants' click rates within a title."""
STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clicked:
    """What clicks came to, per variant, in rows of which is known whether they were clicked."""

    title: Ints
    """A number of each variant's title."""
    rows: Floats
    clicks: Floats
    earned: Floats
    """Reward on [0, 1], of clicked rows."""
    all_earned: float
    """By all variants, clicked or not."""


def misleads(seen: Clicked) -> tuple[Floats, float]:
    """Return per variant the probability that it misleads, and rho; zeros and 1 where the log does
    not say surely that some do."""
    nothing = np.zeros(len(seen.rows)), 1.0
    clicks, earned = seen.clicks.sum(), seen.earned.sum()
    if clicks < FEWEST_CLICKS or earned <= 0 or earned < BY_CLICKS * seen.all_earned:
        return nothing
    title = np.unique(seen.title, return_inverse=True)[1]
    m = np.full(len(title), 0.1)
    share, rho, delta, ratio = 0.1, 0.3, 1.3, np.zeros(len(title))
    for _ in range(STEPS):
        honest = 1 - m
        earns = _shrunken(title, honest * seen.earned, honest * seen.clicks)[title]
        expected = seen.rows * _shrunken(title, honest * seen.clicks, honest * seen.rows)[title]
        ratio = _log_ratio(seen, np.clip(earns, 1e-4, 1 - 1e-4), expected, rho, delta)
        odds = np.log(share / (1 - share)) + ratio
        m = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        share = min(max(float(m.mean()), 1e-4), 0.5)
        rho = min(max(float((m * seen.earned).sum() / max((m * seen.clicks * earns).sum(), 1e-9)),
                      0.01), 1.0)  # fmt: skip
        delta = max(float((m * seen.clicks).sum() / max((m * expected).sum(), 1e-9)), 0.5)
    gain = np.logaddexp(np.log(1 - share), np.log(share) + ratio).sum()
    return (m, rho) if rho < MOST_EARNED and gain > SURE else nothing


def expected_effects(seen: Clicked) -> tuple[Floats, Floats]:
    """Return per variant what its own effect is expected to be, a logit, and the probability that
    it misleads."""
    m, rho = misleads(seen)
    return np.log(1 - m + m * rho), m


def _shrunken(title: Ints, some: Floats, of: Floats) -> Floats:
    """Return some / of per title, shrunken towards that of all."""
    mean = some.sum() / max(of.sum(), 1e-9)
    found: Floats = (np.bincount(title, some) + PRIOR * mean) / (np.bincount(title, of) + PRIOR)
    return found


def _log_ratio(seen: Clicked, earns: Floats, expected: Floats, rho: float, delta: float) -> Floats:
    """Return log P(what was seen of a variant | it misleads) - log P(... | it is honest)."""
    less = np.clip(rho * earns, 1e-5, 1 - 1e-5)
    lost = seen.clicks - seen.earned
    found = seen.earned * np.log(less / earns) + lost * np.log((1 - less) / (1 - earns))
    shape = 1 / SPREAD**2
    more = seen.clicks * np.log(delta)
    more -= (seen.clicks + shape) * np.log((shape + delta * expected) / (shape + expected))
    both: Floats = found + more
    return both
