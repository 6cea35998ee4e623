"""Decisions as the API shows them: why, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from artwork_bandit.serving.audit import Audited, Derived
from artwork_bandit.web import schema


def explanation(derived: Derived) -> schema.ExplanationBody:
    """Return why a choice was made."""
    again, variant_ids = derived.explanation, derived.action_set.variant_ids
    scores: Sequence[float | None] = again.scores or [None] * len(again.pmf)
    return schema.ExplanationBody(
        same=derived.same,
        variants=[
            schema.VariantScoreBody(variant_id=v, probability=p, score=s)
            for v, p, s in zip(variant_ids, again.pmf, scores, strict=True)
        ],
        reasons=[
            schema.ReasonBody(context=r.context, variant=r.variant, value=r.value)
            for r in again.reasons
        ],
    )


def body(decision_id: str, found: Audited) -> schema.DecisionBody:
    """Return all that is known of a decision."""
    made, choice, from_ = found.decisions, found.choice, found.action_set
    derived = found.derived
    return schema.DecisionBody(
        decision_id=decision_id,
        request_id=made.request_id,
        member_id=made.member_id,
        occurred_at=made.occurred_at,
        slot=made.slot,
        cell=made.cell,
        policy=made.policy,
        model_version=made.model_version,
        context=msgspec.to_builtins(made.context),
        title_id=choice.title_id,
        variant_id=choice.variant_id,
        propensity=choice.propensity,
        fallback=choice.fallback,
        reason=choice.reason,
        action_set=None if from_ is None else list(from_.variant_ids),
        explanation=None if derived is None else explanation(derived),
        not_explained=found.why_not,
        shown_at=found.shown_at,
        events=[
            schema.DecisionEventBody(
                event_id=e.event_id,
                type=e.type.value,
                occurred_at=e.occurred_at,
                seconds_watched=e.seconds_watched,
                unjoined=e.unjoined,
            )
            for e in found.events
        ],
        reward=found.reward,
        reward_rule=found.reward_rule,
        why_no_reward=found.why_no_reward,
        counts_for=found.counts_for,
    )
