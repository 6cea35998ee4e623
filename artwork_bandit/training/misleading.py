"""Which variants mislead: a click on them comes to far less than one on their title's others.

A variant's own effect starts near what its features say, and a dozen impressions move it little;
but what its clicks came to tells a misleading one soon. Variants are taken for a mixture of two
kinds (Dempster, Laird and Rubin 1977): of honest ones a click of title t earns a_t, of misleading
ones rho a_t, and misleading ones are clicked delta times as often as their title's others. Honest
variants differ by more than chance, in what clicks earn (beta-binomial) and in how often they are
clicked (negative binomial); how much in the former the log says, and how much titles' a_t differ,
by which they are shrunk towards that of all (method of moments; Kleinman 1973). Titles' click
rates are shrunk too. What a variant's own effect is expected to be, as a logit, is

    log(1 - m + m min(rho delta, 1)),   m the probability that it misleads,

and what a click on it comes to if it is honest is what its title's come to beside what its own
came to, by how far honest variants differ. Clicks are asked where most of what was earned came by
them, and some are taken to mislead where two kinds are surely likelier than one that differs within
itself, each variant being of either by itself. Then it is asked how many of a title's mislead
(`training.how_many`): where it is one in each, the likeliest is it. A title of which most seem to
may be one that is given up whatever picture shows it, by how many titles are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.training.how_many import HowMany

FEWEST_CLICKS = 500
BY_CLICKS = 0.9
"""Share of what was earned that came by clicks, at least."""
MOST_EARNED = 0.5
"""rho, at most: a click on a misleading variant comes to less than half."""
SURE = 10.0
"""Logarithm of the likelihood ratio, two kinds against one, from which on two are believed."""
PRIOR = 20.0
"""Rows of an average title that a title's own click rate is shrunk towards."""
FEWEST_PRIOR, MOST_PRIOR = 5.0, 1_000.0
"""Clicks of an average title that what a title's own come to is shrunk towards."""
SPREAD = 0.2
"""Relative standard deviation of honest variants' click rates within a title."""
ALIKE = (3.0, 10.0, 30.0, 100.0)
"""Clicks on one variant's title that are worth as much as knowing the variant, of which the
likeliest is taken: the fewer, the more variants differ in what clicks earn."""
LEVELS = 1 / (1 + np.exp(-np.linspace(-4.0, 4.0, 33)))[:, None]
"""What clicks on a title's honest variants may earn."""
STEPS, MORE_STEPS = 40, 15
"""Of expectation and maximisation, and those that ask how many of a title's variants mislead."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clicked:
    """What clicks came to, per variant, in rows of which is known whether they were clicked."""

    title: Ints
    """A number of each variant's title."""
    rows: Floats
    clicks: Floats
    earned: Floats
    """By clicks, as shares of the most that a click can earn."""
    all_earned: float
    """By all variants, clicked or not."""


class Said(NamedTuple):
    """What clicks say, per variant."""

    effects: Floats
    """What its own effect is expected to be, a logit; zeros where the log does not say surely that
    some mislead."""
    misleads: Floats
    """The probability that it misleads; zeros likewise."""
    worth: Floats
    """What a click comes to if it does not, as a share of the most that one can earn; NaN where
    clicks are few, or not how it was earned."""


class Kinds(NamedTuple):
    """A mixture that fits."""

    log_likelihood: float
    misleads: Floats
    """Per variant, the probability."""
    alike: float
    rho: float = 1.0
    delta: float = 1.0


def asked(seen: Clicked) -> Said:
    """Return what clicks say of variants."""
    n, earned = len(seen.rows), seen.earned.sum()
    enough = seen.clicks.sum() >= FEWEST_CLICKS and earned > 0
    if not enough or earned < BY_CLICKS * seen.all_earned:
        return Said(np.zeros(n), np.zeros(n), np.full(n, np.nan))
    title = np.unique(seen.title, return_inverse=True)[1]
    # By all clicks: were those left out that seem to mislead, a title that differs from all others
    # would cease to count, titles would pass for alike, and it for misleading.
    prior = _prior(title, seen.earned, seen.clicks)
    one, two = (
        max((fitted(seen, title, alike, prior) for alike in ALIKE), key=lambda k: k.log_likelihood)
        for fitted in (_one_kind, _two_kinds)
    )
    surely = two.rho < MOST_EARNED and two.log_likelihood - one.log_likelihood >= SURE
    kinds = _by_number(seen, title, two) if surely else one
    m = kinds.misleads
    worth = _worth(seen, title, m, kinds.alike)
    return Said(np.log(1 - m + m * min(kinds.rho * kinds.delta, 1.0)), m, worth)


def _by_number(seen: Clicked, title: Ints, two: Kinds) -> Kinds:
    """Return a mixture by how many variants of a title mislead, from one of variants that do each
    by itself. A title of which most seem to may be one that is given up whatever picture shows it:
    what honest clicks on it earn is one of `LEVELS`, each of which is as likely as it is among all
    titles (Laird 1978)."""
    m, rho, delta, alike = two.misleads, two.rho, two.delta, two.alike
    how_many = HowMany.independent(_share(m))
    if_honest = _log_earned(seen, LEVELS, alike)
    of_title = np.stack([np.bincount(title, logs) for logs in if_honest])
    weights = np.full(len(LEVELS), 1 / len(LEVELS))
    for _ in range(MORE_STEPS):
        expected = _expected(seen, title, 1 - m)
        odds = _log_earned(seen, rho * LEVELS, alike) - if_honest
        odds += _log_clicked(seen, delta * expected) - _log_clicked(seen, expected)
        which = how_many.which(title, odds, of_title + np.log(weights)[:, None])
        m, how_many = which.chances.sum(axis=0), how_many.fitted(which)
        weights = which.levels.sum(axis=1) + 1 / len(LEVELS)
        weights /= weights.sum()
        rho = _ratio(which.chances * seen.earned, which.chances * seen.clicks * LEVELS, 0.01, 1.0)
        delta = _ratio(m * seen.clicks, m * expected, 0.5, 20.0)
    return Kinds(two.log_likelihood, np.minimum(m, 1.0), alike, rho, delta)


def _worth(seen: Clicked, title: Ints, misleads: Floats, alike: float) -> Floats:
    """Return what clicks on honest variants come to, shrunken towards their title's; over a title's
    clicks they come to what it earned by these, so that its level stays what it was."""
    honest = 1 - misleads
    clicks, earned = (np.bincount(title, honest * x) for x in (seen.clicks, seen.earned))
    of_title = (earned / np.maximum(clicks, 1e-9))[title]
    worth = (alike * of_title + seen.earned) / (alike + seen.clicks)
    come_to = np.bincount(title, honest * seen.clicks * worth)
    found: Floats = np.minimum(worth * (earned / np.maximum(come_to, 1e-9))[title], 1.0)
    return found


def _one_kind(seen: Clicked, title: Ints, alike: float, prior: float) -> Kinds:
    """Return what fits if no variant misleads."""
    earns = _shrunken(title, seen.earned, seen.clicks, prior)[title]
    expected = _expected(seen, title, np.ones(len(title)))
    log_likelihood = float(_log_chances(seen, earns, expected, alike).sum())
    return Kinds(log_likelihood, np.zeros(len(title)), alike)


def _two_kinds(seen: Clicked, title: Ints, alike: float, prior: float) -> Kinds:
    """Return the mixture, of variants that mislead each by itself, that expectation and
    maximisation come to."""
    m = np.full(len(title), 0.1)
    rho, delta, log_likelihood = 0.3, 1.3, -np.inf
    for _ in range(STEPS):
        share, honest = _share(m), 1 - m
        earns = _shrunken(title, honest * seen.earned, honest * seen.clicks, prior)[title]
        expected = _expected(seen, title, honest)
        chances = np.log(1 - share) + _log_chances(seen, earns, expected, alike)
        others = np.log(share) + _log_chances(seen, rho * earns, delta * expected, alike)
        both = np.logaddexp(chances, others)
        log_likelihood, m = float(both.sum()), np.exp(others - both)
        rho = _ratio(m * seen.earned, m * seen.clicks * earns, 0.01, 1.0)
        delta = _ratio(m * seen.clicks, m * expected, 0.5, 20.0)
    return Kinds(log_likelihood, m, alike, rho, delta)


def _expected(seen: Clicked, title: Ints, honest: Floats) -> Floats:
    """Return how many clicks are expected of variants if they are honest."""
    found: Floats = _shrunken(title, honest * seen.clicks, honest * seen.rows, PRIOR)[title]
    return seen.rows * found


def _share(misleads: Floats) -> float:
    return min(max(float(misleads.mean()), 1e-4), 0.5)


def _ratio(some: Floats, of: Floats, least: float, most: float) -> float:
    return min(max(float(some.sum() / max(of.sum(), 1e-9)), least), most)


def _prior(title: Ints, earned: Floats, clicks: Floats) -> float:
    """Return how many clicks of an average title tell as much as how far titles differ does."""
    earned_of, clicks_of = np.bincount(title, earned), np.bincount(title, clicks)
    total = max(float(clicks_of.sum()), 1e-9)
    mean = float(earned_of.sum()) / total
    within = mean * (1 - mean)
    apart = (clicks_of * (earned_of / np.maximum(clicks_of, 1e-9) - mean) ** 2).sum()
    titles, other = np.count_nonzero(clicks_of), total - np.square(clicks_of).sum() / total
    between = max((apart - (titles - 1) * within) / max(other, 1e-9), 1e-9)
    return float(np.clip(within / between, FEWEST_PRIOR, MOST_PRIOR))


def _shrunken(title: Ints, some: Floats, of: Floats, prior: float) -> Floats:
    """Return some / of per title, shrunken towards that of all by so much."""
    mean = some.sum() / max(of.sum(), 1e-9)
    found: Floats = (np.bincount(title, some) + prior * mean) / (np.bincount(title, of) + prior)
    return found


def _log_chances(seen: Clicked, earns: Floats, expected: Floats, alike: float) -> Floats:
    """Return per variant the logarithm of the chance of what was seen, up to what is the same for
    every kind, where a click earns `earns` and so many clicks are expected."""
    return _log_earned(seen, earns, alike) + _log_clicked(seen, expected)


def _log_earned(seen: Clicked, earns: Floats, alike: float) -> Floats:
    from scipy.special import betaln  # only training needs it

    mean = np.clip(earns, 1e-4, 1 - 1e-4)
    a, b = alike * mean, alike * (1 - mean)
    lost = np.maximum(seen.clicks - seen.earned, 0.0)
    found: Floats = betaln(a + seen.earned, b + lost) - betaln(a, b)
    return found


def _log_clicked(seen: Clicked, expected: Floats) -> Floats:
    shape = 1 / SPREAD**2
    found: Floats = seen.clicks * np.log(np.maximum(expected, 1e-9))
    found -= (seen.clicks + shape) * np.log(shape + expected)
    return found
