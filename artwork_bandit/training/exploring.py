"""How much a model explores beyond the floor: as much as may cost a share of what it gains.

What a policy earns in the eyes of its own model is a sum over scores, without noise, and what
exploring costs in them is what it really costs, to a tenth (`simulations.exploring`). The strength
is the one at which the log's members, on the log's titles, would lose that share of what the model
gains over uniform choice:

    share = min(0.1, 3 / sqrt(rows))

It falls with the root of the rows, as the regret of SquareCB allows (Foster and Rakhlin 2020), and
does not hang on how large rewards are: the gamma that costs a hundredth where a twelfth of what is
shown is played costs ten times that where a hundredth is.
"""

from __future__ import annotations

import math

import numpy as np

from artwork_bandit.domain import ranges
from artwork_bandit.policies import exploration
from artwork_bandit.policies.linear import LinearModel
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.training.survey import Survey

DECISIONS, MEMBERS = 5_000, 1_000
"""Of random members and titles of the log, by which the cost is told: to a hundredth, as by 5,000
members."""
COST, MOST_COST = 3.0, 0.1


def cost_share(rows: float) -> float:
    """Return the share of what a model gains that exploring may cost, after so many rows."""
    return min(MOST_COST, COST / math.sqrt(rows))


def strength(
    model: LinearModel, found: Survey, rows: float, form: exploration.Form, seed: int
) -> float:
    """Return the strength of exploration for a model of this log, worth so many rows."""
    columns = VariantColumns.of(found.shown)
    sizes = np.bincount(columns.title_of)
    order = np.argsort(columns.title_of, kind="stable")
    weight = np.array([found.title_rows[found.title_numbers[t]] for t in columns.titles])
    rng = np.random.default_rng(seed)
    title = rng.choice(len(sizes), DECISIONS, p=weight / weight.sum())
    title = title[sizes[title] > 1]
    shown = order[ranges((np.cumsum(sizes) - sizes)[title], sizes[title])]
    offsets = np.concatenate([[0], np.cumsum(sizes[title])]).astype(np.int64)
    member = rng.integers(min(len(found.members), MEMBERS), size=len(title))
    scorer = BoundScorer.of(model, columns)
    asked, place = np.unique(member, return_inverse=True)
    scores = scorer.scores([found.members[i] for i in asked.tolist()], place, shown, offsets)
    return exploration.strength_that_costs(cost_share(rows), form, scores, offsets)
