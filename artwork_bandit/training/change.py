"""Whether what a model has learned is still true, told by rows that came after it had learned.

An abrupt change — members take to other genres, a new layout lets other compositions stand out —
makes a model wrong at once, while rows age by half-lives. Each new row is asked how much likelier
its reward is if what the model says of the variant shown counts for nothing than if it is true;
both know the title's level, and how high rewards are in all. The sum of these log-likelihood ratios
from some row on to the newest falls as long as the model is true, and rises from the row on where
it ceased to be: the largest such sum is the evidence of a change, and where it begins the instant
(CUSUM; Page 1954). Of a model that is true it ever exceeds c with a probability of at most exp(-c),
one look at the log (Ville's inequality), and of one that is half true or more hardly ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from artwork_bandit.domain import Floats, Ints, ReplayBlock
from artwork_bandit.policies.block import ActionTable, Log, Lookup
from artwork_bandit.policies.exploration import Exploration
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.training.start import Start
from artwork_bandit.training.survey import base_logits, member_numbers, shares, teaches

MOST_ROWS = 100_000
"""The newest, which are looked at."""
EVIDENCE = 6.0
"""Nats from which on a change is taken for one."""
SURE = 2.0
"""Standard errors, members' rows taken together, by which it must be above 0 as well: a few
members whom the model does not know are no change."""
FEWEST_ROWS = 500
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


class _Seen(NamedTuple):
    """Of rows that came after what a model had learned."""

    at: Ints
    member: Ints
    title: Ints
    base: Floats
    """Logit of the title's mean reward."""
    said: Floats
    """What the model says of the variant shown, in logits."""
    share: Floats
    """Reward on [0, 1]."""


def looked_for(
    log: Log, lookup: Lookup, model: Start, bounds: tuple[float, float]
) -> Change | None:
    """Return the change that rows after a model's last tell of, if they do."""
    parts = [p for p in log.map(_seen, lookup, model, bounds) if len(p.at)]
    if not parts:
        return None
    at, member, title, base, said, share = map(np.concatenate, zip(*parts, strict=True))
    newest = np.argsort(at, kind="stable")[-MOST_ROWS:]
    return told(_Seen(*(c[newest] for c in (at, member, title, base, said, share))))


def told(seen: _Seen) -> Change | None:
    """Return the change that rows in order of time tell of."""
    if len(seen.at) < FEWEST_ROWS:
        return None
    # What is said of a title's variants is beside its level, wherever that is.
    rows = np.bincount(seen.title)
    said = seen.said - (np.bincount(seen.title, seen.said) / np.maximum(rows, 1))[seen.title]
    ratio = _log_likelihoods(seen.share, seen.base) - _log_likelihoods(seen.share, seen.base + said)
    since = np.cumsum(ratio[::-1])[::-1]
    first = int(since.argmax())
    member = np.unique(seen.member[first:], return_inverse=True)[1]
    of_member = np.bincount(member, ratio[first:])
    evidence = float(since[first])
    if evidence < EVIDENCE or evidence < SURE * float(np.sqrt(np.square(of_member).sum())):
        return None
    return Change(at=int(seen.at[first]), rows=len(ratio) - first, evidence=evidence)


def _log_likelihoods(share: Floats, logit: Floats) -> Floats:
    """Return each row's, with the logits moved to where rewards are in all."""
    level = 0.0
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-(logit + level)))
        step = (share - chance).sum() / max((chance * (1 - chance)).sum(), 1e-9)
        level += float(np.clip(step, -1.0, 1.0))
        if abs(step) < 1e-9:
            break
    found: Floats = share * (logit + level) - np.logaddexp(0.0, logit + level)
    return found


def _seen(
    blocks: Iterable[ReplayBlock], lookup: Lookup, start: Start, bounds: tuple[float, float]
) -> Iterator[_Seen]:
    known = start.learned
    base = base_logits(known.title_rows.array(), known.title_earned.array())
    number = {title: i for i, title in enumerate(known.titles)}
    table = ActionTable(lookup)
    greedy = Exploration(form="greedy", strength=0.0, explored_share=1.0)
    policy = ModelPolicy(start.model, greedy)
    for whole in blocks:
        titles = np.array([number.get(s.title_id, -1) for s in whole.action_sets], np.int64)
        of = titles[whole.set_of_row]
        asked = teaches(whole) & (whole.occurred_at > known.last) & (of >= 0)
        block, title = whole.take(asked), of[asked]
        if not len(block):
            continue
        actions = table.of(block)
        contexts, place = block.contexts.used()
        shown = actions.rows[actions.offsets[:-1] + block.chosen]
        bound = policy.bind(actions.columns)
        said = bound.scores(contexts, place, shown, np.arange(len(block) + 1))
        yield _Seen(
            block.occurred_at, member_numbers(block), title, base[title], said,
            shares(block.reward, bounds),
        )  # fmt: skip
