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
may be one that is given up whatever picture shows it, by how many titles are. That has to be surely
likelier than one kind, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.training.how_many import MOST_VARIANTS, HowMany, Which

Mask = npt.NDArray[np.bool_]

FEWEST_CLICKS = 500
BY_CLICKS = 0.9
"""Share of what was earned that came by clicks, at least."""
MOST_EARNED = 0.5
"""rho, at most: a click on a misleading variant comes to less than half."""
SURE = 10.0
"""Logarithm of the likelihood ratio, two kinds against one, from which on two are believed."""
SURE_EACH = 0.15
"""The same, of each variant that is told: where very many tell a little, variants differ some other
way."""
PRIOR = 20.0
"""Rows of an average title that a title's own click rate is shrunk towards."""
FEWEST_PRIOR, MOST_PRIOR = 5.0, 1_000.0
"""Clicks of an average title that what a title's own come to is shrunk towards."""
SPREAD = 0.2
"""Relative standard deviation of honest variants' click rates within a title."""
ALIKE, FINELY_ALIKE = (3.0, 10.0, 30.0, 100.0), (3.0, 5.5, 10.0, 17.0, 30.0, 55.0, 100.0)
"""Clicks on one variant's title that are worth as much as knowing the variant, where half of the
most there is is earned by a click; elsewhere as many as leave variants as unlike by their logits
(standard deviations of some 1.4 to .2). The likeliest is taken."""
LEAST_EARNED = 1e-6
FEWEST_HONEST = 0.1
"""Clicks on a title's honest variants, at least, for them to say what they come to."""
FINE, MOST_LEVELS = 0.25, 60
"""Logits from one level of what titles' honest clicks earn to the next, at least; and levels."""
FEWEST_EXPECTED = 3.0
"""Clicks expected of a variant, from which on it counts among those of its title."""
STEPS, SOME_STEPS, MORE_STEPS = 40, 3, 15
"""Of expectation and maximisation, and those that ask how many of a title's variants mislead: with
each of `FINELY_ALIKE`, and from the likeliest on."""


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
    clicks are few, or not how it was earned, or a title has none on honest variants."""


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
    kinds = (_by_number(seen, title, two) if surely else None) or one
    m = kinds.misleads
    worth = _worth(seen, title, m, kinds.alike)
    return Said(np.log(1 - m + m * min(kinds.rho * kinds.delta, 1.0)), m, worth)


def _by_number(seen: Clicked, title: Ints, two: Kinds) -> Kinds | None:
    """Return a mixture by how many variants of a title mislead, from one of variants that do each
    by itself; None where it is not surely likelier than one kind."""
    levels = _levels(_shrunken(title, seen.earned, seen.clicks, PRIOR))
    weights, of_one = _one_of_levels(seen, title, levels)
    begun = [
        _likelier(seen, title, two._replace(alike=alike), levels, weights, SOME_STEPS)
        for alike in FINELY_ALIKE
    ]
    likeliest = max(begun, key=lambda kinds: kinds.log_likelihood)
    found = _likelier(seen, title, likeliest, levels, weights, MORE_STEPS)
    least = max(SURE, SURE_EACH * found.misleads.sum())
    surely = found.rho < MOST_EARNED and found.log_likelihood - of_one >= least
    return found if surely else None


def _likelier(
    seen: Clicked, title: Ints, kinds: Kinds, levels: Floats, weights: Floats, steps: int
) -> Kinds:
    """Return a likelier mixture by how many variants of a title mislead. A title of which most seem
    to may be one that is given up whatever picture shows it: what honest clicks on it earn is one
    of some levels [levels, 1], each as likely as it is among all titles (Laird 1978), where the
    search begins with `weights` [levels]. A variant of which few clicks are expected is of either
    kind by itself: a picture that is new, perhaps in the place of one that misled, is not suspected
    because others are honest."""
    log_likelihood, m, alike, rho, delta = kinds
    few = _expected(seen, title, 1 - m) < FEWEST_EXPECTED
    alone = few | (np.bincount(title) > MOST_VARIANTS)[title]
    if_honest = _log_earned(seen, levels, alike)
    of_title = _by_title(title, if_honest)
    how_many = HowMany.independent(_share(m))
    for _ in range(steps):
        expected = _expected(seen, title, 1 - m)
        clicked = _log_clicked(seen, expected)
        odds = _log_earned(seen, rho * levels, alike) - if_honest
        odds += _log_clicked(seen, delta * expected) - clicked
        logs = of_title + np.log(weights)[:, None]
        which = _which(how_many, title, odds, logs, alone, _share(m))
        log_likelihood = which.log_likelihood + float(clicked.sum())
        m, weights = np.minimum(which.chances.sum(axis=0), 1.0), _weights(which.levels)
        how_many = how_many.fitted(which)
        rho = _ratio(which.chances * seen.earned, which.chances * seen.clicks * levels, 0.01, 1.0)
        delta = _ratio(m * seen.clicks, m * expected, 0.5, 20.0)
    return Kinds(log_likelihood, m, alike, rho, delta)


def _which(
    how_many: HowMany, title: Ints, odds: Floats, logs: Floats, alone: Mask, share: float
) -> Which:
    """Return `how_many.which`, where variants that are alone mislead each by itself, with
    probability `share`: they do not count among those of their title, but tell of its level."""
    misleads = np.log(share) + odds[:, alone]
    either = np.logaddexp(np.log1p(-share), misleads)
    logs = logs + _by_title(title[alone], either, logs.shape[1])
    found = how_many.which(title[~alone], odds[:, ~alone], logs)
    chances = np.zeros(odds.shape)
    chances[:, alone] = np.exp(misleads - either) * found.levels[:, title[alone]]
    chances[:, ~alone] = found.chances
    return found._replace(chances=chances)


def _levels(earns: Floats) -> Floats:
    """Return [levels, 1], what clicks on titles' honest variants may earn, given what clicks on all
    variants do; evenly by logits."""
    mean = np.clip(earns, LEAST_EARNED, 1 - LEAST_EARNED)
    logits = np.log(mean) - np.log1p(-mean)
    least, most = logits.min() - 1, logits.max() + 2
    steps = min(int((most - least) / FINE) + 2, MOST_LEVELS)
    found: Floats = 1 / (1 + np.exp(-np.linspace(least, most, steps)))[:, None]
    return found


def _one_of_levels(seen: Clicked, title: Ints, levels: Floats) -> tuple[Floats, float]:
    """Return how likely levels are if no variant misleads, and the log-likelihood, at its best."""
    clicked = float(_log_clicked(seen, _expected(seen, title, np.ones(len(title)))).sum())
    found = []
    for alike in FINELY_ALIKE:
        of_title = _by_title(title, _log_earned(seen, levels, alike))
        weights, log_likelihood = np.full(len(levels), 1 / len(levels)), 0.0
        for _ in range(MORE_STEPS):
            logs = of_title + np.log(weights)[:, None]
            whole = np.logaddexp.reduce(logs, axis=0)
            log_likelihood, weights = float(whole.sum()), _weights(np.exp(logs - whole))
        found.append((log_likelihood + clicked, weights))
    return max(found, key=lambda each: each[0])[::-1]


def _weights(of_titles: Floats) -> Floats:
    """Return how likely levels are, given [levels, titles] how likely those of titles are."""
    found: Floats = of_titles.sum(axis=1) + 1 / len(of_titles)
    found /= found.sum()
    return found


def _by_title(title: Ints, logs: Floats, titles: int = 0) -> Floats:
    """Return [levels, titles], sums of [levels, variants]."""
    return np.stack([np.bincount(title, some, titles) for some in logs])


def _worth(seen: Clicked, title: Ints, misleads: Floats, alike: float) -> Floats:
    """Return what clicks on honest variants come to, shrunken towards their title's; over a title's
    clicks they come to what it earned by these, so that its level stays what it was. NaN where
    none are on honest ones."""
    honest = 1 - misleads
    clicks, earned = (np.bincount(title, honest * x) for x in (seen.clicks, seen.earned))
    of_title = (earned / np.maximum(clicks, 1e-9))[title]
    mean, beside = _tell(of_title, alike)
    worth = (beside * mean + seen.earned) / (beside + seen.clicks)
    come_to = np.bincount(title, honest * seen.clicks * worth)
    worth = np.minimum(worth * (earned / np.maximum(come_to, 1e-9))[title], 1.0)
    found: Floats = np.where(clicks[title] < FEWEST_HONEST, np.nan, worth)
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

    mean, beside = _tell(earns, alike)
    a, b = beside * mean, beside * (1 - mean)
    lost = np.maximum(seen.clicks - seen.earned, 0.0)
    found: Floats = betaln(a + seen.earned, b + lost) - betaln(a, b)
    return found


def _tell(earns: Floats, alike: float) -> tuple[Floats, Floats]:
    """Return what clicks on a title earn, within bounds, and how many of them are worth as much as
    knowing the variant: n, where the variance of logits, 1 / (n mean (1 - mean)) about, is 4 /
    alike wherever the mean lies."""
    mean = np.clip(earns, LEAST_EARNED, 1 - LEAST_EARNED)
    return mean, alike / (4 * mean * (1 - mean))


def _log_clicked(seen: Clicked, expected: Floats) -> Floats:
    shape = 1 / SPREAD**2
    found: Floats = seen.clicks * np.log(np.maximum(expected, 1e-9))
    found -= (seen.clicks + shape) * np.log(shape + expected)
    return found
