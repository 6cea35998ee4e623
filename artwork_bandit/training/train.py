"""Training: replay log -> VW examples -> VW model -> compiled weights -> bundle.

From nothing, or going on from a model with rows that came after it (`training.start`).

The same log, settings and seed give the same bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from artwork_bandit.domain import Floats, instant
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.policies import bundle, exploration, probing
from artwork_bandit.policies.block import Log, Lookup
from artwork_bandit.policies.bundle import Bundle, Learned
from artwork_bandit.policies.linear import Canary, EncodedVariants, LinearModel
from artwork_bandit.policies.precision import NAMES, Information, Stored
from artwork_bandit.policies.priors import AFTER_CHANGE, Priors
from artwork_bandit.policies.rendezvous import variant_key
from artwork_bandit.policies.vowpal import Form
from artwork_bandit.slots import Slot
from artwork_bandit.training import examples, exploring, scratch, sparse
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.conditioning import form_of
from artwork_bandit.training.examples import Written
from artwork_bandit.training.progress import Progress, silent
from artwork_bandit.training.start import Start
from artwork_bandit.training.survey import Survey, survey
from artwork_bandit.training.tuning import FEWEST_WATCHED, Trial, Tuned, tune, watch

FEWEST_ROWS = 200
FEWEST_SINCE = 2_000
"""Rows since a change below which they cannot judge priors."""
CANARIES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train."""

    arguments: str = runner.ARGUMENTS
    """Vowpal Wabbit's, without the interactions that the priors ask for."""
    priors: Callable[[int], Priors | None] = lambda rows: None
    """From the number of rows, since a change if there was one, to the priors; None chooses them on
    the log (`training.tuning`)."""
    watched: bool = False
    """Look at the newest rows whether the world has changed since the priors were chosen, and
    choose them anew if it has."""
    half_life: dt.timedelta = dt.timedelta(days=30)
    """After this long a row weighs half, unless priors chosen on the log say sooner."""
    changed_at: int | None = None
    """Microsecond of the last abrupt change (`training.change`): what was before weighs less."""
    products: tuple[str, ...] = ()
    """Pairs of context fields whose products are columns too, such as `device*genre`."""
    with_audiences: bool = True
    """Learn similar audiences, and use them as context."""
    form: exploration.Form = "squarecb"
    explored_share: float = 0.05
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model and what it came from."""

    bundle: Bundle
    rows: int
    """Rows learned from, those of a model that was gone on from included."""
    new_rows: int
    """Of these, rows of this log."""
    left_out: int
    """Rows that could not teach."""
    window_from: dt.datetime
    window_to: dt.datetime
    """Instant of the last row."""
    rows_since: int
    """Of all rows, those since the last change if there was one, to the hour."""
    effective_rows: float
    """Rows that weigh alike which would tell as much."""
    priors: Priors
    misleading: dict[str, float] | None
    """Variants that mislead more likely than not, with how likely that is, the likeliest first;
    None where a model was gone on from, whose expectations stay."""
    tuned: Tuned | None
    """How the priors were chosen; None if they were given."""


def train(
    log: Log, lookup: Lookup, slot: Slot, settings: Settings, progress: Progress = silent,
    start: Start | None = None,
) -> Trained:  # fmt: skip
    """Return a trained model; raises NotEnoughData for fewer than 200 rows that can teach.

    Memory does not grow with the log: it is read in blocks, and VW reads text as it is made. With a
    `start` the log is what came after it; products, audiences and priors are the start's.
    """
    progress("reading the log", 0.0)
    found = survey(
        log, lookup, slot.reward.bounds, settings.products,
        with_audiences=settings.with_audiences, seed=settings.seed, start=start,
        ageing=Ageing(half_life=settings.half_life, changed_at=settings.changed_at),
    )  # fmt: skip
    if found.new_rows < FEWEST_ROWS or found.first is None or found.last is None:
        of = "the log to learn from" if start is None else "the log after the model's last row"
        raise NotEnoughData(
            f"{of} (its newest part judges what was learned) has {found.new_rows} rows that can "
            f"teach, of at least {FEWEST_ROWS} needed ({found.left_out} left out: one eligible "
            "variant)"
        )
    with scratch.folder() as folder:
        since = found.rows_since(settings.changed_at)
        tuned, known = None, settings.priors(since) if start is None else start.learned.priors
        may_change = start is None and settings.watched and since >= FEWEST_WATCHED
        if settings.changed_at is not None and known is None and since < FEWEST_SINCE:
            known = AFTER_CHANGE
        ageing = Ageing.since(settings.changed_at, settings.half_life, found.rows - since, since)
        if known is None or may_change:
            trial = Trial(
                folder, log, lookup, found, slot, ageing, settings.arguments, settings.seed
            )
            start_at = Priors() if settings.changed_at is None else AFTER_CHANGE
            tuned = (
                tune(trial, start_at, progress) if known is None
                else watch(trial, known, progress)
            )  # fmt: skip
        priors = tuned.priors if tuned is not None else known or Priors()
        ageing = replace(ageing, times=priors.ageing)
        form = form_of(priors, found, ageing)
        model = folder / "model.vw"
        form, written, told = _fitted(
            model, log, lookup, found, form, slot, settings, ageing, progress
        )  # fmt: skip
        progress("compiling", 0.0)
        half_life = settings.half_life / priors.ageing
        learned = _learned(found, written, told, priors, half_life)
        if start is not None:
            learned = msgspec.structs.replace(learned, first=start.learned.first)
        made = _compile(model, found, form, slot, settings, learned)
    bundle.check_canaries(made.model, made.canaries)
    progress("trained", 1.0)
    return Trained(
        bundle=made, rows=found.rows, new_rows=found.new_rows, left_out=found.left_out,
        window_from=instant(learned.first), window_to=instant(learned.last),
        rows_since=since, effective_rows=learned.effective_rows, priors=priors, tuned=tuned,
        misleading=_misleading(found),
    )  # fmt: skip


def _arguments(settings: Settings, form: Form) -> str:
    return f"{settings.arguments} {form.interactions}".strip()


def _fitted(
    model: Path, log: Log, lookup: Lookup, found: Survey, form: Form, slot: Slot,
    settings: Settings, ageing: Ageing, progress: Progress,
) -> tuple[Form, Written, Information]:  # fmt: skip
    """Have Vowpal Wabbit train; again with a prior of its own for each cross of a genre with
    emphasis, where these are crossed."""
    repeated = sparse.STEPS if form.genre_crosses and found.start is None else 0
    bits = runner.bits(found.features)
    step = 0
    while True:
        progress("training", step / (1 + repeated))
        with runner.training(model, _arguments(settings, form), settings.seed, bits) as out:
            written = examples.write(out, log, lookup, found, form, slot, ageing)
        assert written.told is not None, "an empty log is refused before"
        if step == repeated:
            return form, written, sparse.beside_common_prior(form, written.told)
        with runner.predictor(model) as predict:
            emphasis = len(found.variants.emphasis)
            crosses = probing.compile_genre_crosses(predict, form, emphasis)
        form, step = sparse.sharpened(form, crosses, written.told.genre_cross), step + 1


def _misleading(found: Survey) -> dict[str, float] | None:
    if found.start is not None:
        return None
    ids = {variant_key(v.title_id, v.slot, v.variant_id): v.variant_id for v in found.shown}
    chances = {key: float(found.expected.misleads[n]) for key, n in found.variant_numbers.items()}
    likely = sorted((chance, ids[key]) for key, chance in chances.items() if chance > 0.5)
    most = {variant: round(chance, 3) for chance, variant in likely}  # of namesakes
    return dict(sorted(most.items(), key=lambda each: (-each[1], each[0])))


def _learned(
    found: Survey, written: Written, told: Information, priors: Priors, half_life: dt.timedelta
) -> Learned:
    assert found.first is not None, "an empty log is refused before"
    assert found.last is not None
    known, weight, squared = told, written.weight, written.squared
    if (start := found.start) is not None:
        known, before = start.information + told, start.learned
        weight, squared = before.weight + weight, before.squared + squared
    return Learned(
        priors=priors, half_life_days=half_life / dt.timedelta(days=1), first=found.first,
        last=found.last, per_logit=_reward_per_logit(found), titles=list(found.title_numbers),
        title_rows=Stored.of(found.title_rows), title_earned=Stored.of(found.title_earned),
        information={name: Stored.of(getattr(known, name)) for name in NAMES},
        # To seven digits: the others hang on how the log was cut into blocks.
        weight=float(f"{weight:.7g}"), squared=float(f"{squared:.7g}"),
        own_means=Stored.of(found.expected.own_means),
    )  # fmt: skip


def _compile(
    model: Path, found: Survey, form: Form, slot: Slot, settings: Settings, learned: Learned,
) -> Bundle:  # fmt: skip
    n_contexts, n_variants = len(found.contexts.columns), len(found.variants.columns)
    key_of = {number: key for key, number in found.variant_numbers.items()}
    keys = np.array([key_of[number] for number in range(len(key_of))], np.uint64)
    rng = np.random.default_rng(settings.seed)
    # Random contexts and features of everyday size, half of them with a variant's own effect.
    contexts = np.round(rng.normal(0, 1, (CANARIES, n_contexts)), 3)
    variants = rng.random((CANARIES, n_variants)) * (rng.random((CANARIES, n_variants)) < 0.3)
    # Of variants the log does not have Vowpal Wabbit says what others left in their weights.
    seen = _seen(found)
    owns = [seen[rng.integers(len(seen))] if i % 2 else None for i in range(CANARIES)]
    scale = learned.per_logit
    with runner.predictor(model) as predict:
        weights = probing.compile_weights(predict, form, n_contexts, n_variants)
        affinity = probing.compile_affinities(predict, form)
        own = np.zeros((len(keys), 1 + len(form.own_columns)))
        own[seen] = probing.compile_own(predict, form, n_contexts, seen)
        canaries = probing.canaries(predict, form, contexts, variants, owns, key_of, scale)
    if found.start is None:
        # What examples start from, Vowpal Wabbit knows nothing of.
        own[:, 0] += found.expected.own_means
        beyond = [0.0 if of is None else scale * float(found.expected.own_means[of]) for of in owns]
        canaries = [
            msgspec.structs.replace(c, score=c.score + more)
            for c, more in zip(canaries, beyond, strict=True)
        ]
    columns = form.own_columns
    if (start := found.start) is not None:
        weights = weights + start.model.weights
        own, columns = _together(own, columns, start.model.own(keys), start.model.own_columns)
        affinity = affinity + start.affinity
        canaries = [_beyond(c, start.model, scale) for c in canaries]
    compiled = LinearModel(
        context_encoder=found.contexts,
        variant_encoder=found.variants,
        weights=scale * weights,
        own_keys=keys,
        own_effects=scale * own,
        own_columns=columns,
    )
    return Bundle(
        slot=slot.name,
        model=compiled,
        form=settings.form,
        strength=exploring.strength(
            compiled, found, learned.effective_rows, settings.form, settings.seed
        ),
        explored_share=settings.explored_share,
        canaries=canaries,
        vowpal_model=model.read_bytes(),
        vowpal_arguments=_arguments(settings, form),
        learned=msgspec.structs.replace(learned, affinity=Stored.of(affinity)),
    )


def _seen(found: Survey) -> list[int]:
    """Return the numbers of the log's variants: nothing was learned of others."""
    keys = (variant_key(v.title_id, v.slot, v.variant_id) for v in found.shown)
    return sorted(found.variant_numbers[key] for key in keys)


def _together(
    own: Floats, columns: list[int], before: Floats, columns_before: list[int]
) -> tuple[Floats, list[int]]:
    """Return the sum of own effects [variants, 1 + columns] on different context columns."""
    all_columns = [*columns_before, *(c for c in columns if c not in columns_before)]
    at = {column: 1 + i for i, column in enumerate(all_columns)}
    found = np.zeros((len(own), 1 + len(all_columns)))
    found[:, [0, *(at[c] for c in columns_before)]] = before
    found[:, [0, *(at[c] for c in columns)]] += own
    return found, all_columns


def _beyond(canary: Canary, start: LinearModel, scale: float) -> Canary:
    """Return a canary with what the start says added to what Vowpal Wabbit says beyond it."""
    own = start.own(np.array([canary.variant_key or 0], np.uint64))
    row = EncodedVariants.dense(np.array([[1.0, *canary.variant]]), own)
    at = np.zeros(1, np.int64)
    before = start.scores(np.array([canary.context]), row, at, at)
    return msgspec.structs.replace(canary, score=canary.score + scale * float(before[0]))


def _reward_per_logit(found: Survey) -> float:
    """Return the slope of the reward on [0, 1] in the logit at the log's mean: p (1 - p).

    Scores are logits times this: predicted rewards, linearised, up to the title's own level. They
    are shares of what a rule can give whatever its bounds, so that strengths, grids and tolerances
    mean the same under every rule.
    """
    # To ten digits: the others hang on how the log was cut into blocks.
    return float(f"{found.mean * (1 - found.mean):.10g}")
