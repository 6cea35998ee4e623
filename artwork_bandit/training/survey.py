"""The first pass over the log: what there is to learn, before a line is written.

It learns the encoders, numbers titles and variants, and finds each title's mean reward, from
which the examples start. Memory grows with titles, variants and members kept for learning the
encoders (a sample), never with the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Context, Floats, Ints, ReplayBlock, Variant
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies.block import Lookup
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.rendezvous import variant_key
from artwork_bandit.training import audiences

Blocks = Callable[[], Iterable[ReplayBlock]]
"""The log, readable more than once."""
MOST_MEMBERS = 50_000
"""Members whose latest context is kept to learn the context's columns."""
PRIOR_ROWS = 20.0
"""Rows of an average title that a title's mean reward is shrunk towards."""


@dataclass(slots=True)
class Survey:
    """What the first pass learns."""

    contexts: ContextEncoder = field(default_factory=lambda: ContextEncoder({}, []))
    variants: VariantEncoder = field(default_factory=lambda: VariantEncoder([], {}))
    variant_numbers: dict[int, int] = field(default_factory=dict)
    """64-bit variant id -> number in VW's text."""
    title_numbers: dict[str, int] = field(default_factory=dict)
    title_rows: list[int] = field(default_factory=list)
    """Per title number, its rows."""
    title_earned: list[float] = field(default_factory=list)
    """Per title number, the sum of their rewards on [0, 1]."""
    left_out: int = 0
    """Rows that cannot teach."""
    first: int | None = None
    """Microseconds of the first and last row that can teach."""
    last: int | None = None

    @property
    def rows(self) -> int:
        """Rows that can teach."""
        return sum(self.title_rows)

    @property
    def mean(self) -> float:
        """Mean reward on [0, 1], away from its ends."""
        share = sum(self.title_earned) / max(self.rows, 1)
        return min(max(share, 1e-3), 1 - 1e-3)

    @property
    def features(self) -> int:
        """Number of features VW will see, interactions included, at most."""
        context, variant = 1 + len(self.contexts.columns), 1 + len(self.variants.columns)
        own = len(self.variant_numbers) * (1 + len(self.contexts.factors))
        return context * variant + own + len(self.title_numbers)

    def base_logits(self) -> Floats:
        """Return per title number the logit of its shrunken mean reward."""
        return base_logits(np.array(self.title_rows), np.array(self.title_earned))


def base_logits(rows: npt.NDArray[Any], earned: Floats) -> Floats:
    """Return per title the logit of its mean reward, shrunken towards the mean of all; `rows` and
    `earned`, on [0, 1], are sums per title."""
    mean = min(max(earned.sum() / max(rows.sum(), 1), 1e-3), 1 - 1e-3)
    share = np.clip((earned + PRIOR_ROWS * mean) / (rows + PRIOR_ROWS), 1e-4, 1 - 1e-4)
    found: Floats = np.log(share / (1 - share))
    return found


def teaches(block: ReplayBlock) -> npt.NDArray[np.bool_]:
    """Return which rows can teach: those where several variants were eligible."""
    return np.asarray(block.sizes > 1)


def shares(reward: Floats, bounds: tuple[float, float]) -> Floats:
    """Return rewards on [0, 1]; raises InvalidInput for one outside the bounds."""
    low, high = bounds
    if np.any((reward < low) | (reward > high)):
        raise InvalidInput(
            f"the log has rewards from {reward.min()} to {reward.max()}; this slot's rule gives "
            f"{low} to {high}"
        )
    return (reward - low) / (high - low)


def survey(
    blocks: Blocks, lookup: Lookup, bounds: tuple[float, float], products: Sequence[str] = (),
    *, with_audiences: bool = True, seed: int = 1,
) -> Survey:  # fmt: skip
    """Read the log once; return encoders, numbers and titles' means."""
    found = Survey()
    members: dict[str, Context] = {}
    variants: dict[int, Variant] = {}
    for whole in blocks():
        block = whole.take(teaches(whole))
        found.left_out += len(whole) - len(block)
        if not len(block):
            continue
        first, last = int(block.occurred_at.min()), int(block.occurred_at.max())
        found.first = first if found.first is None else min(found.first, first)
        found.last = last if found.last is None else max(found.last, last)
        numbers = []
        for action_set, eligible in zip(block.action_sets, lookup(block.action_sets), strict=True):
            numbers.append(
                found.title_numbers.setdefault(action_set.title_id, len(found.title_numbers))
            )
            for variant in eligible:
                key = variant_key(variant.title_id, variant.slot, variant.variant_id)
                found.variant_numbers.setdefault(key, len(found.variant_numbers))
                variants[key] = variant
        _count(found, np.array(numbers)[block.set_of_row], shares(block.reward, bounds))
        for member, context in zip(block.member_ids.tolist(), block.contexts, strict=True):
            if member in members or len(members) < MOST_MEMBERS:
                members[member] = context
    contexts = list(members.values())
    found.contexts = ContextEncoder.learn(contexts)
    if with_audiences:
        made = audiences.learn(contexts, found.contexts, seed)
        found.contexts = found.contexts.with_audiences(made)
    found.contexts = found.contexts.with_products(products)
    found.variants = VariantEncoder.learn(variants.values())
    return found


def _count(found: Survey, titles: Ints, earned: Floats) -> None:
    more = len(found.title_numbers) - len(found.title_rows)
    found.title_rows += [0] * more
    found.title_earned += [0.0] * more
    rows, sums = np.bincount(titles), np.bincount(titles, earned)
    for title in np.flatnonzero(rows).tolist():
        found.title_rows[title] += int(rows[title])
        found.title_earned[title] += float(sums[title])
