"""Whether what a model has learned is still true, told by rows that came after it had learned.

An abrupt change — members take to other genres, a new layout lets other compositions stand out —
makes a model wrong at once, while rows age by half-lives. Each new row is asked how much likelier
its reward is if what the model says of the variant shown counts for nothing than if four fifths of
it are true. The sum of these log-likelihood ratios from some row on to the newest falls as long as
the model is about true, and rises from the row on where it ceased to be: the largest such sum is
the evidence of a change, and where it begins the instant (CUSUM; Page 1954). At one look it exceeds
c with a probability of at most exp(-c) where four fifths are true (Ville's inequality), and of
about exp(-(2.5 s - 1) c) where a share s is: one in eight thousand for a true model and c = 6, one
in ninety where seven tenths are, one in twenty where six are (`simulations.changes`).

How much a title is played in all is no matter of its variants, and may change by itself: the levels
of titles are found on these very rows, each quarter of them apart, under both hypotheses. And a few
members whom the model does not know are no change: without the loudest there must be evidence left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from artwork_bandit.domain import Floats, Ints, ReplayBlock
from artwork_bandit.policies.block import ActionTable, Lookup
from artwork_bandit.policies.linear import LinearModel
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.training.start import Start
from artwork_bandit.training.survey import base_logits, member_numbers, shares, teaches

EVIDENCE = 6.0
"""Nats from which on a change is taken for one."""
MOSTLY = 0.8
"""Share of what a model says by which it is taken for true: a little less with time is no abrupt
change."""
AS_LIKELY = 3.0
"""Nats of evidence less by which another instant is as good."""
FEWEST_LEARNED = 10_000
"""Rows since a change, when a model learned, from which on it is asked for another. With fewer it
is too sure of itself: two to six tenths of what such models said were true where genres had swapped
their effects, of which mistaken changes come."""
FEWEST_ROWS = 1_000
"""Since a change: fewer could not be learned from and judge as well."""
LOUDEST = 10
"""Members without whom there must be evidence left."""
LEVEL = 0.5
"""Prior standard deviation of a title's level about its mean reward, in logits."""
PIECES = 4
"""Levels are found on each of so many parts of the rows."""
STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From when on what a model had learned was no longer true."""

    at: int
    """Microseconds."""
    rows: int
    """Since then."""
    evidence: float
    """In nats."""


class Seen(NamedTuple):
    """Rows that came after what a model had learned."""

    at: Ints
    member: Ints
    title: Ints
    base: Floats
    """Logit of the title's mean reward, as the model knows it."""
    said: Floats
    """What the model says of the variant shown, in logits."""
    share: Floats
    """Reward on [0, 1]."""


def looked_for(
    blocks: Iterable[ReplayBlock], lookup: Lookup, model: Start, bounds: tuple[float, float],
    known: int | None = None,
) -> Change | None:  # fmt: skip
    """Return the change that the rows after a model's last tell of, if they do; `known` is where it
    was found before, which stays where the rows say so too."""
    known_titles = {title: i for i, title in enumerate(model.learned.titles)}
    table = ActionTable(lookup)
    learned = model.learned
    base = base_logits(learned.title_rows.array(), learned.title_earned.array())
    parts = [_seen(b, table, model.model, learned.last, known_titles, base, bounds) for b in blocks]
    if not any(len(p.at) for p in parts):
        return None
    at, member, title, level, said, share = map(np.concatenate, zip(*parts, strict=True))
    o = np.argsort(at, kind="stable")
    return told(Seen(at[o], member[o], title[o], level[o], said[o], share[o]), known)


def told(seen: Seen, known: int | None = None) -> Change | None:
    """Return the change that rows in order of time tell of."""
    n = len(seen.at)
    if n < FEWEST_ROWS:
        return None
    of = np.unique(seen.title * PIECES + np.arange(n) * PIECES // n, return_inverse=True)[1]
    # What is said of variants is beside the title's level, wherever that is.
    said = seen.said - (np.bincount(of, seen.said) / np.bincount(of))[of]
    ratio = _log_likelihoods(seen.share, seen.base, of) - _log_likelihoods(
        seen.share, seen.base + MOSTLY * said, of
    )
    since = np.cumsum(ratio[::-1])[::-1]
    first = int(since.argmax())
    if known is not None:
        before = min(int(np.searchsorted(seen.at, known)), n - 1)
        first = before if since[before] >= since[first] - AS_LIKELY else first
    member = np.unique(seen.member[first:], return_inverse=True)[1]
    summed = np.sort(np.bincount(member, ratio[first:]))
    if n - first < FEWEST_ROWS or since[first] < EVIDENCE or summed[:-LOUDEST].sum() <= 0:
        return None
    return Change(at=int(seen.at[first]), rows=n - first, evidence=float(since[first]))


def _log_likelihoods(share: Floats, logit: Floats, of: Ints) -> Floats:
    """Return each row's, with the levels of all rows and of each group where they are likeliest."""
    level, levels = 0.0, np.zeros(int(of.max()) + 1)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-(logit + level + levels[of])))
        level += _step((share - chance).sum(), (chance * (1 - chance)).sum())
        chance = 1 / (1 + np.exp(-(logit + level + levels[of])))
        slope = np.bincount(of, share - chance) - levels / LEVEL**2
        curve = np.bincount(of, chance * (1 - chance)) + 1 / LEVEL**2
        levels += np.clip(slope / curve, -1.0, 1.0)
        if np.abs(slope / curve).max() < 1e-6:
            break
    at = logit + level + levels[of]
    found: Floats = share * at - np.logaddexp(0.0, at)
    return found


def _step(slope: float, curve: float) -> float:
    return float(np.clip(slope / max(curve, 1e-9), -1.0, 1.0))


def _seen(
    whole: ReplayBlock, table: ActionTable, model: LinearModel, last: int,
    known_titles: dict[str, int], base: Floats, bounds: tuple[float, float],
) -> Seen:  # fmt: skip
    """Return a block's rows after microsecond `last`, of titles that the model knows; `base` has
    their levels."""
    numbers = [known_titles.get(s.title_id, -1) for s in whole.action_sets]
    title = np.array(numbers, np.int64)[whole.set_of_row]
    asked = teaches(whole) & (whole.occurred_at > last) & (title >= 0)
    block, title = whole.take(asked), title[asked]
    said = np.empty(0)
    if len(block):
        actions = table.of(block)
        contexts, place = block.contexts.used()
        shown = actions.rows[actions.offsets[:-1] + block.chosen]
        scorer = BoundScorer.of(model, actions.columns)
        said = scorer.scores(contexts, place, shown, np.arange(len(block) + 1))
    return Seen(
        block.occurred_at, member_numbers(block), title, base[title], said,
        shares(block.reward, bounds),
    )  # fmt: skip
