"""What clicks say of variants: what is expected of each, and what a click on it stands for.

What a rule pays for is rarer than clicks. Where clicks are how it was earned, and what a click
comes to hangs on the variant rather than on who clicked, a click tells of tastes what its outcome
does, with less noise: it is a surrogate (Prentice 1989; Athey, Chetty, Imbens and Kang 2019, "The
surrogate index"). A clicked row of a variant of which a click earns w if it is honest, as it is
with probability h, is labelled, where y is what it earned and `Priors.surrogate` is s,

    y + s h (w - y).

Over the clicks on a title w comes to what these earned, so that levels stay what they were. Who
clicks and gives up because a picture draws the wrong people is told by outcomes alone, so only half
of the label is the surrogate's by default, and a log that is large enough chooses by what later
rows earned (`training.tuning`). A training that goes on from a model reads too few rows to say what
clicks come to: it asks outcomes alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from artwork_bandit.domain import Floats, Ints, ReplayBlock
from artwork_bandit.policies.priors import Priors
from artwork_bandit.training.ageing import OLDER, Ageing
from artwork_bandit.training.misleading import Clicked, Said, asked


def labels(rewards: Floats, by_clicks: Floats, priors: Priors) -> Floats:
    """Return what rows are taken to have earned, on [0, 1], from what they earned and what their
    clicks stand for in its place."""
    found: Floats = rewards + priors.stands_for * (by_clicks - rewards)
    return found


class Clicks(NamedTuple):
    """What clicks on one content of a variant came to."""

    revision: int
    """Of the variant, the latest: what was said of another picture is forgotten."""
    first: int
    """Microsecond of the first of its rows."""
    at: int
    """Microsecond as of which rows have aged."""
    sums: Floats
    """[2, 4], before an abrupt change and since, of weights of rows of which is known whether they
    were clicked: of all and of those that were; and of what the latter and all of them earned, as
    shares of the most there is."""

    def aged(self, at: int, ageing: Ageing) -> Floats:
        """Return the sums [4] as of a microsecond, what was before a change being as much older
        than it was counted as `ageing` says."""
        found: Floats = np.array([2.0 ** (OLDER - ageing.older), 1.0]) @ self.sums
        return found * ageing.faded(self.at, at)

    def beside(self, more: Clicks, ageing: Ageing) -> Clicks:
        """Return both together, or those on the later content alone."""
        if self.revision != more.revision:
            return max(self, more, key=lambda each: each.revision)
        newest = max(self.at, more.at)
        mine, theirs = (each.sums * ageing.faded(each.at, newest) for each in (self, more))
        return Clicks(self.revision, min(self.first, more.first), newest, mine + theirs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """What clicks say, per variant number."""

    own_means: Floats
    """What a variant's own effect is expected to be, a logit: below 0 for those that seem to
    mislead."""
    misleads: Floats
    """The probability that it does."""
    worth: Floats
    """What a click comes to if it does not, as a share of the most there is; NaN where nobody
    can say, or rewards do not begin at 0."""
    since: Ints
    """Microsecond from which on its content is the latest."""

    @staticmethod
    def kept(own_means: Floats) -> Expected:
        """Return what was expected before, clicks saying nothing new."""
        n = len(own_means)
        return Expected(
            own_means=own_means, misleads=np.zeros(n), worth=np.full(n, np.nan),
            since=np.zeros(n, np.int64),
        )  # fmt: skip

    @staticmethod
    def of(
        clicks: Mapping[int, Clicks], titles: Mapping[int, str], numbers: Mapping[int, int],
        last: int, ageing: Ageing,
    ) -> Expected:  # fmt: skip
        """Return what clicks say once the newest row is of microsecond `last`; all by variants'
        64-bit ids. Which mislead is asked of clicks as they were counted: a picture that misled
        before an abrupt change does so after it. What a click comes to is asked of those that
        weigh as `ageing` says."""
        found = Expected.kept(np.zeros(len(numbers)))
        if not clicks:
            return found
        keys = sorted(clicks)
        title_numbers: dict[str, int] = {}
        of_title = [title_numbers.setdefault(titles[key], len(title_numbers)) for key in keys]

        def said(ageing: Ageing) -> Said:
            # To nine digits: the others hang on how the log was cut into blocks.
            sums = [[float(f"{x:.9g}") for x in clicks[key].aged(last, ageing)] for key in keys]
            rows, clicked, earned, all_earned = np.array(sums).T
            return asked(
                Clicked(
                    title=np.array(of_title, np.int64), rows=rows, clicks=clicked, earned=earned,
                    all_earned=float(all_earned.sum()),
                )
            )  # fmt: skip

        at = [numbers[key] for key in keys]
        whole = said(replace(ageing, older=OLDER))
        later = whole if ageing.changed_at is None else said(ageing)
        found.own_means[at] = whole.effects.round(6)
        found.misleads[at] = whole.misleads.round(6)
        found.worth[at] = later.worth.round(6)
        found.since[at] = [clicks[key].first for key in keys]
        return found

    def outcomes_alone(self) -> Expected:
        """Return it with clicks standing for nothing."""
        return replace(self, worth=np.full(len(self.worth), np.nan))

    def clicked(self, block: ReplayBlock, numbers: Ints) -> Floats:
        """Return which rows were clicked, 1 or 0, NaN where nobody knows or what was shown is no
        longer the variant's content; `numbers` are those of the variants shown."""
        if block.clicked is None:
            return np.full(len(block), np.nan)
        return np.where(block.occurred_at >= self.since[numbers], block.clicked, np.nan)

    def by_clicks(self, rewards: Floats, clicked: Floats, numbers: Ints) -> Floats:
        """Return what rows' clicks stand for, on [0, 1], in the place of rewards on [0, 1]."""
        worth, honest = self.worth[numbers], 1 - self.misleads[numbers]
        known = (clicked == 1) & ~np.isnan(worth)
        return np.where(known, rewards + honest * (worth - rewards), rewards)

    def learned_from(
        self, titles: Ints, numbers: Ints, weights: Floats, clicked: Floats, rewards: Floats
    ) -> Expected:
        """Return what these rows alone say; `titles` to `rewards` are per row."""
        if np.isnan(self.worth).all():
            return self
        known = ~np.isnan(clicked)
        at, weight, n = numbers[known], weights[known], len(self.worth)
        was, earned = clicked[known] * weight, rewards[known] * weight
        of_title = np.zeros(n, np.int64)
        of_title[numbers] = titles
        sums = np.zeros((n, 3))
        np.add.at(sums, at, np.stack((weight, was, clicked[known] * earned), axis=1))
        some = sums[:, 0] > 0
        rows, clicks, by_clicks = sums[some].T
        said = asked(
            Clicked(
                title=of_title[some], rows=rows, clicks=clicks, earned=by_clicks,
                all_earned=float(earned.sum()),
            )
        )  # fmt: skip
        worth, misleads = np.full(n, np.nan), np.zeros(n)
        worth[some], misleads[some] = said.worth, said.misleads
        own_means = np.zeros(n)
        own_means[some] = said.effects
        return replace(self, own_means=own_means, worth=worth, misleads=misleads)
