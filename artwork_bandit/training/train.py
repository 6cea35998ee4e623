"""Training: replay log -> VW examples -> VW model -> compiled weights -> bundle.

The same log, settings and seed give the same bytes.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from artwork_bandit.domain import instant
from artwork_bandit.errors import BrokenModel, NotEnoughData
from artwork_bandit.policies import bundle, vowpal
from artwork_bandit.policies.block import Lookup
from artwork_bandit.policies.bundle import Bundle
from artwork_bandit.policies.exploration import Form
from artwork_bandit.policies.linear import LinearModel
from artwork_bandit.slots import Slot
from artwork_bandit.training import examples
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.examples import Blocks, Survey

log = logging.getLogger(__name__)

FEWEST_ROWS = 200
CANARIES = 32
MOST_LOST = 0.01
"""Share of variants whose own effect VW may lose to a NaN; they keep what their features say."""
GAMMA_SCALE = 100.0
"""SquareCB's gamma is this times the square root of the number of rows (Foster and Rakhlin
2020 set it proportional to the root of the horizon). Large, because the explore cell and the floor
explore as well: at 10 a fifth of what the model could earn went into exploring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train; stored with the model."""

    arguments: str = runner.ARGUMENTS
    """Vowpal Wabbit's."""
    half_life: dt.timedelta = dt.timedelta(days=30)
    """After this long a row weighs half."""
    products: tuple[str, ...] = ()
    """Pairs of context fields whose products are columns too, such as `device*genre`."""
    form: Form = "squarecb"
    explored_share: float = 0.05
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model and what it came from."""

    bundle: Bundle
    rows: int
    left_out: int
    """Rows that could not teach."""
    window_from: dt.datetime
    window_to: dt.datetime
    """Instant of the last row."""


def train(blocks: Blocks, lookup: Lookup, slot: Slot, settings: Settings) -> Trained:
    """Return a trained model; raises NotEnoughData for fewer than 200 rows that can teach."""
    found = examples.survey(blocks, lookup, settings.products)
    if found.rows < FEWEST_ROWS or found.first is None or found.last is None:
        raise NotEnoughData(
            f"the log has {found.rows} rows that can teach, of at least {FEWEST_ROWS} needed "
            f"({found.left_out} left out: one eligible variant)"
        )
    with tempfile.TemporaryDirectory(prefix="artwork-bandit-") as folder:
        text, model = Path(folder, "examples.txt"), Path(folder, "model.vw")
        with text.open("w", encoding="ascii") as out:
            examples.write(out, blocks, lookup, found, slot, settings.half_life)
        runner.train(text, model, settings.arguments, settings.seed)
        try:
            made = _compile(model, found, slot, settings)
        except BrokenModel as error:
            # freegrad loses weights to NaN, more of them the more context columns there are.
            log.warning("retrained_without_nan", extra={"error": str(error)})
            sound = replace(settings, arguments=runner.NEVER_NAN)
            runner.train(text, model, sound.arguments, sound.seed)
            made = _compile(model, found, slot, sound)
    bundle.check_canaries(made.model, made.canaries)
    return Trained(
        bundle=made,
        rows=found.rows,
        left_out=found.left_out,
        window_from=instant(found.first),
        window_to=instant(found.last),
    )


def _compile(model: Path, found: Survey, slot: Slot, settings: Settings) -> Bundle:
    pairs = found.pairs(slot.genre_feature)
    n_contexts, n_variants = len(found.contexts.columns), len(found.variants.columns)
    key_of = {number: key for key, number in found.variant_numbers.items()}
    rng = np.random.default_rng(settings.seed)
    # Random contexts and features of everyday size, half of them with a variant's own effect.
    contexts = rng.normal(0, 1, (CANARIES, n_contexts))
    variants = rng.random((CANARIES, n_variants)) * (rng.random((CANARIES, n_variants)) < 0.3)
    scale = _reward_per_logit(found, slot)
    with runner.predictor(model) as predict:
        weights = scale * vowpal.compile_weights(predict, n_contexts, n_variants, pairs)
        own = scale * vowpal.compile_own(predict, sorted(key_of))
        sound = np.flatnonzero(np.isfinite(own))
        owns = [int(rng.choice(sound)) if i % 2 and len(sound) else None for i in range(CANARIES)]
        canaries = vowpal.canaries(predict, contexts, variants, owns, key_of, pairs, scale)
    if not np.all(np.isfinite(weights)) or len(sound) < (1 - MOST_LOST) * len(own):
        raise BrokenModel("Vowpal Wabbit predicts numbers that are not finite; not registered")
    own = np.where(np.isfinite(own), own, 0.0)
    keys = np.array([key_of[number] for number in range(len(own))], np.uint64)
    order = np.argsort(keys)
    return Bundle(
        slot=slot.name,
        model=LinearModel(
            context_encoder=found.contexts,
            variant_encoder=found.variants,
            weights=weights,
            own_keys=keys[order],
            own_effects=own[order],
        ),
        form=settings.form,
        strength=GAMMA_SCALE * math.sqrt(found.rows),
        explored_share=settings.explored_share,
        canaries=canaries,
        vowpal_model=model.read_bytes(),
        vowpal_arguments=settings.arguments,
    )


def _reward_per_logit(found: Survey, slot: Slot) -> float:
    """Return the slope of the reward in the logit at the log's mean: p (1 - p), in reward units.

    Scores are logits times this: predicted rewards, linearised, up to the title's own level.
    """
    low, high = slot.reward.bounds
    mean = min(max((found.earned / found.rows - low) / (high - low), 1e-3), 1 - 1e-3)
    return mean * (1 - mean) * (high - low)
