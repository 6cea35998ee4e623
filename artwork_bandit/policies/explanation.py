"""Why a variant was chosen: the decision made again from what was logged.

A score is a sum over pairs (context column, variant column) of weight x value x value, plus the
variant's own effect. What distinguishes the chosen variant is each pair's part in it minus the
mean of the same pair over the action set: parts that all variants share decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from artwork_bandit.domain import ActionSet, Context, Floats, Variant
from artwork_bandit.policies import exploration
from artwork_bandit.policies.linear import LinearModel, contributions, own_of
from artwork_bandit.policies.policy import BoundModel, Policy
from artwork_bandit.policies.rendezvous import draw, gumbel_noise
from artwork_bandit.policies.variants import VariantColumns

STRONGEST = 8
ANY = "any member"
SELF = "this very variant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One part of a chosen variant's score."""

    context: str
    """Context column, `any member` for the constant."""
    variant: str
    """Variant column, `any variant` for the constant, `this very variant` for the own effect."""
    value: float
    """Score it adds over the mean of the action set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A choice made again."""

    index: int
    """Place of the variant drawn in the action set."""
    pmf: list[float]
    scores: list[float] | None
    """Predicted rewards up to a constant of the title; None for a policy without a model."""
    reasons: list[Reason]
    """The strongest parts of the drawn variant's score, the strongest first."""


def explain(
    policy: Policy, context: Context, action_set: ActionSet, variants: Sequence[Variant],
    member_key: int, *, certain: bool = False,
) -> Explanation:  # fmt: skip
    """Make a choice again. `variants` are the action set's, with the features of that time; it was
    `certain` where it was not drawn, as exploration was paused."""
    as_then = [
        replace(v, is_default=i == action_set.default and action_set.default is not None)
        for i, v in enumerate(variants)
    ]
    columns = VariantColumns.of(as_then)
    rows, offsets = np.arange(len(as_then)), np.array([0, len(as_then)])
    none = np.zeros(1, np.int64)
    bound = policy.bind(columns)
    pmf = bound.pmf([context], none, rows, offsets)
    exploration.check(pmf, offsets, bound.floor_share)
    index = int(draw(pmf, gumbel_noise(member_key, columns.keys), offsets)[0])
    if certain:
        index = exploration.likeliest(pmf, columns.is_default)
        pmf = np.eye(len(pmf))[index]
    scores = None
    reasons: list[Reason] = []
    if isinstance(bound, BoundModel):
        scores = bound.scorer.scores([context], none, rows, offsets).tolist()
        reasons = _reasons(bound.policy.model, context, action_set.title_id, columns, index)
    return Explanation(index=index, pmf=pmf.tolist(), scores=scores, reasons=reasons)


def _reasons(
    model: LinearModel, context: Context, title_id: str, columns: VariantColumns, chosen: int
) -> list[Reason]:
    encoded = model.context_encoder.encode([context])[0]
    if (watched := model.context_encoder.watched_column) is not None:
        encoded[watched] = context.played.get(title_id, 0.0)
    variants = model.variant_encoder.encode(columns.features)
    parts: list[Floats] = [
        contributions(model.weights, encoded, np.concatenate([[1.0], row])) for row in variants
    ]
    above_mean = parts[chosen] - np.mean(parts, axis=0)
    own = own_of(model, columns)
    own_above = own[chosen] - own.mean(axis=0)
    own_above[1:] *= encoded[model.own_columns]
    names = [ANY, *model.context_encoder.columns]
    shown = ["any variant", *model.variant_encoder.columns]
    found = [
        Reason(context=names[i], variant=shown[j], value=float(above_mean[i, j]))
        for i, j in np.argwhere(above_mean)
    ]
    acting = [ANY, *(names[1 + i] for i in model.own_columns)]
    for name, value in zip(acting, own_above.tolist(), strict=True):
        if value:
            found.append(Reason(context=name, variant=SELF, value=value))
    return sorted(found, key=lambda r: -abs(r.value))[:STRONGEST]
