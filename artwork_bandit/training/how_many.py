"""How many of a title's variants are of a rare kind, and so which are.

Pictures of the kind may come one to a title, or several to a few titles and none to the others.
Were each variant of the kind by itself, the number k of n would be binomial; a Conway-Maxwell
binomial (Shmueli et al. 2005; Kadane 2016) lets the log say how far it is not,

    P(k of n)  proportional to  C(n, k)^nu exp(theta k),   whichever k of them alike:

nu 1 is the binomial, above it titles have about as many each, below it a few have most. Given how
much likelier what was seen of a variant is if it is of the kind, the chance that it is comes of
adding up all ways in which k are (elementary symmetric polynomials, forward and backward as in
Rabiner 1989). Where that hangs on something of the title that is not known, such as what a click on
it earns, it is added up over levels of this, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from artwork_bandit.domain import Floats, Ints

AT_ONCE = 500_000
"""Numbers in memory at once, about."""
FARTHEST = 1_000.0
"""Of theta."""
LEAST, MOST = 0.1, 20.0
"""Of nu."""
AS_TITLES = 10.0
"""Titles of one size that say as much of their numbers as what fits titles of all sizes."""
MOST_VARIANTS = 100
"""Of a title: of more, too much would have to be added up, and some of it would be rounded away."""
LOWEST = -600.0
"""Logarithm of how much less likely than the likeliest a number is, at most."""


class Which(NamedTuple):
    """Which variants of titles are of the kind, and at which of some levels titles are."""

    chances: Floats
    """[levels, variants], that its title is at the level and it is of the kind."""
    levels: Floats
    """[levels, titles], that a title is at the level."""
    numbers: dict[int, Floats]
    """By how many variants titles have, n: [n + 1], expected titles of which so many are."""
    log_likelihood: float = 0.0
    """Of what was seen."""


@dataclass(frozen=True, slots=True)
class HowMany:
    """A Conway-Maxwell binomial: how likely it is that so many of a title's variants are."""

    theta: float
    nu: float = 1.0
    told: Mapping[int, Floats] = field(default_factory=dict)
    """As `Which.numbers`."""

    @staticmethod
    def independent(share: float) -> HowMany:
        """Return the binomial of variants each of which is of the kind with that probability."""
        return HowMany(float(np.log(share) - np.log1p(-share)))

    def which(self, title: Ints, odds: Floats, levels: Floats) -> Which:
        """Return which are of the kind: given per variant a number of its title from 0 on; [levels,
        variants], the logarithm of how much likelier what was seen of it is if it is; and [levels,
        titles], how likely a level and what was seen of a title are if none is. A title has
        `MOST_VARIANTS` at most."""
        found = Which(np.zeros(odds.shape), levels.copy(), {})
        for at in _by_size(title):
            n = at.shape[1]
            logs = self._logs(n)
            # Odds beside the share expected, so that only what differs from a binomial is weighed.
            share = np.clip(np.exp(logs) @ np.arange(n + 1.0) / n, 1e-6, 1 - 1e-6)
            logit = np.log(share) - np.log1p(-share)
            weights = logs - _ways(n) - logit * np.arange(n + 1)
            found.numbers[n] = np.zeros(n + 1)
            parts = min(len(at), 1 + at.size * n * len(levels) // AT_ONCE)
            for some in np.array_split(at, parts):
                chances, totals, numbers = _added_up(odds[:, some] + logit, weights)
                of = title[some[:, 0]]
                found.levels[:, of] += totals
                level = np.exp(found.levels[:, of] - _log_sum(found.levels[:, of]))
                found.chances[:, some] = level[:, :, None] * chances
                found.numbers[n] += (level[:, :, None] * numbers).sum(axis=(0, 1))
        whole = _log_sum(found.levels)
        return found._replace(
            levels=np.exp(found.levels - whole), log_likelihood=float(whole.sum())
        )

    def fitted(self, which: Which) -> HowMany:
        """Return the one under which these numbers are likeliest, log nu being expected to be
        normal about 0; its search begins at this one."""
        from scipy.optimize import minimize  # only training needs it

        def worse(at: Floats) -> tuple[float, Floats]:
            theta, nu = at
            value = np.log(nu) ** 2 / 2
            slope = np.array([0.0, np.log(nu) / nu])
            for n, titles in which.numbers.items():
                logs, told = _smooth(theta, nu, n), np.stack((np.arange(n + 1.0), _ways(n)))
                value -= float(titles @ logs)
                slope -= told @ (titles - titles.sum() * np.exp(logs))
            return value, slope

        bounds = ((-FARTHEST, FARTHEST), (LEAST, MOST))
        best = minimize(worse, (self.theta, self.nu), jac=True, method="L-BFGS-B", bounds=bounds)
        return HowMany(float(best.x[0]), float(best.x[1]), which.numbers)

    def _logs(self, n: int) -> Floats:
        """Return [n + 1], the logarithms of how likely each number is."""
        found = _smooth(self.theta, self.nu, n)
        if (titles := self.told.get(n)) is not None:
            found = np.logaddexp(np.log(AS_TITLES) + found, np.log(np.maximum(titles, 1e-300)))
            found -= np.log(AS_TITLES + titles.sum())
        return found


def _smooth(theta: float, nu: float, n: int) -> Floats:
    found: Floats = nu * _ways(n) + theta * np.arange(n + 1)
    found -= np.logaddexp.reduce(found)
    return found


def _log_sum(logs: Floats) -> Floats:
    found: Floats = np.logaddexp.reduce(logs, axis=0)
    return found


def _ways(n: int) -> Floats:
    """Return [n + 1], the logarithms of in how many ways so many of n are chosen."""
    from scipy.special import gammaln  # only training needs it

    k = np.arange(n + 1)
    found: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found


def _by_size(title: Ints) -> Iterator[Ints]:
    """Yield [titles, n] where the variants are of the titles that have n, for each n."""
    at = np.argsort(title, kind="stable")
    sizes = np.bincount(title)
    ends = np.cumsum(sizes)
    for n in np.unique(sizes[sizes > 0]).tolist():
        of = ends[sizes == n] - n
        yield at[of[:, None] + np.arange(n)]


def _added_up(odds: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return [..., n], the chances that each is of the kind; [...], the logarithm of what all ways
    come to; and [..., n + 1], how likely each number is: given [..., n], the log odds of each by
    itself, and [n + 1], the logarithm of what a number of them weighs beside."""
    n = odds.shape[-1]
    # By probabilities rather than odds, so that nothing is too large or rounded away.
    yes, no = (np.exp(-np.logaddexp(0.0, sign * odds)) for sign in (-1.0, 1.0))
    after = np.exp(np.maximum(weights - weights.max(), LOWEST))
    before = [np.zeros((*odds.shape[:-1], n + 1))]
    before[0][..., 0] = 1.0
    for j in range(n):
        more = before[j] * no[..., [j]]
        more[..., 1:] += before[j][..., :-1] * yes[..., [j]]
        before.append(more)
    each = before[n] * after
    total = each.sum(axis=-1)
    chances = np.zeros(odds.shape)
    after = np.broadcast_to(after, each.shape)
    for j in reversed(range(n)):
        chosen = after[..., 1:] * yes[..., [j]]
        chances[..., j] = (before[j][..., :-1] * chosen).sum(axis=-1) / total
        less = after * no[..., [j]]
        less[..., :-1] += chosen
        after = less
    come_to = np.log(total) + weights.max() + np.logaddexp(0.0, odds).sum(axis=-1)
    return np.minimum(chances, 1.0), come_to, each / total[..., None]
