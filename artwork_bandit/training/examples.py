"""From the replay log to Vowpal Wabbit's text, in two streaming passes.

The first pass learns the encoders and numbers titles and variants; the second writes one example
per row, of the variant that was shown. Rows with one eligible variant teach nothing about choosing
and are left out, and counted. Recent behaviour weighs more: a row that is h half-lives older than
the newest weighs 2^-h.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Context, Floats, Ints, ReplayBlock, Variant
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies import vowpal
from artwork_bandit.policies.block import Actions, Lookup
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder, affinity_pairs
from artwork_bandit.policies.rendezvous import variant_key
from artwork_bandit.slots import Slot

Blocks = Callable[[], Iterable[ReplayBlock]]
"""The log, readable more than once."""
CONTEXTS_SAMPLED = 50_000
SMALLEST_WEIGHT = 1e-6


@dataclass(slots=True)
class Survey:
    """What the first pass learns."""

    contexts: ContextEncoder
    variants: VariantEncoder
    variant_numbers: dict[int, int] = field(default_factory=dict)
    """64-bit variant id -> number in VW's text."""
    title_numbers: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    """Rows that can teach."""
    earned: float = 0.0
    """Sum of their rewards."""
    left_out: int = 0
    first: int | None = None
    """Microseconds of the first and last row that can teach."""
    last: int | None = None

    def pairs(self, genre_feature: str) -> tuple[Ints, Ints]:
        return affinity_pairs(self.contexts, self.variants, genre_feature)


def teaches(block: ReplayBlock) -> npt.NDArray[np.bool_]:
    """Return which rows can teach: those where several variants were eligible."""
    return np.asarray(block.sizes > 1)


def survey(blocks: Blocks, lookup: Lookup, products: Sequence[str] = ()) -> Survey:
    """Read the log once; return encoders and numbers."""
    found = Survey(ContextEncoder({}, []), VariantEncoder([], {}))
    contexts: list[Context] = []
    features: dict[int, Variant] = {}
    for whole in blocks():
        block = whole.take(teaches(whole))
        found.left_out += len(whole) - len(block)
        found.rows += len(block)
        found.earned += float(block.reward.sum())
        if not len(block):
            continue
        found.first = int(block.occurred_at[0]) if found.first is None else found.first
        found.last = int(block.occurred_at[-1])
        every = max(1, len(block) * 4 // CONTEXTS_SAMPLED)
        contexts += block.contexts[::every][: CONTEXTS_SAMPLED - len(contexts)]
        used = [block.action_sets[i] for i in np.unique(block.set_of_row)]
        for action_set, variants in zip(used, lookup(used), strict=True):
            found.title_numbers.setdefault(action_set.title_id, len(found.title_numbers))
            for variant in variants:
                key = variant_key(variant.title_id, variant.slot, variant.variant_id)
                found.variant_numbers.setdefault(key, len(found.variant_numbers))
                features[key] = variant
    found.contexts = ContextEncoder.learn(contexts, products)
    found.variants = VariantEncoder.learn(v.features for v in features.values())
    return found


def write(
    out: IO[str], blocks: Blocks, lookup: Lookup, found: Survey, slot: Slot, half_life: dt.timedelta
) -> None:
    """Write every row that can teach; raises InvalidInput for a reward outside the bounds."""
    pairs = found.pairs(slot.genre_feature)
    assert found.last is not None, "an empty log is refused before"
    for whole in blocks():
        block = whole.take(teaches(whole))
        if len(block):
            age = (found.last - block.occurred_at) / (half_life / dt.timedelta(microseconds=1))
            share = _shares(block.reward, slot.reward.bounds)
            _write_block(out, block, Actions.of(block, lookup), found, pairs, share, np.exp2(-age))


def _write_block(
    out: IO[str], block: ReplayBlock, actions: Actions, found: Survey, pairs: tuple[Ints, Ints],
    share: Floats, weight: Floats,
) -> None:  # fmt: skip
    contexts = found.contexts.encode(block.contexts)
    variants = found.variants.encode(actions.columns.features)
    texts = [
        vowpal.variant_text(row, found.variant_numbers[int(key)])
        for row, key in zip(variants, actions.columns.keys, strict=True)
    ]
    shown = actions.rows[actions.offsets[:-1] + block.chosen]
    liked = np.einsum("ij,ij->i", variants[shown][:, pairs[1]], contexts[:, pairs[0]])
    titles = [found.title_numbers[s.title_id] for s in block.action_sets]
    for i, (row, affinity) in enumerate(zip(shown.tolist(), liked.tolist(), strict=True)):
        features = (
            f"|t {titles[block.set_of_row[i]]} {vowpal.context_text(contexts[i])} {texts[row]} "
            f"{vowpal.affinity_text(affinity)}\n"
        )
        for label in vowpal.labels(share[i], max(weight[i], SMALLEST_WEIGHT)):
            out.write(f"{label} {features}")


def _shares(reward: Floats, bounds: tuple[float, float]) -> Floats:
    """Return rewards on [0, 1]."""
    low, high = bounds
    if np.any((reward < low) | (reward > high)):
        raise InvalidInput(
            f"the log has rewards from {reward.min()} to {reward.max()}; this slot's rule gives "
            f"{low} to {high}"
        )
    return (reward - low) / (high - low)
