"""What the gate says of a model by log that it has not seen.

Of a candidate that was just trained, the rows kept from it (`retrain`); of a challenger, all that
have come since it learned (`second_look`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from artwork_bandit.domain import ModelRecord, microseconds
from artwork_bandit.evaluation.evidence import Method
from artwork_bandit.evaluation.question import Question
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.operations import judge
from artwork_bandit.operations.changes import times_learned
from artwork_bandit.operations.database_source import model_target
from artwork_bandit.operations.gate import LEVEL, gate
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.together import together_if_told
from artwork_bandit.policies.policy import Policy, Uniform
from artwork_bandit.slots import Slot
from artwork_bandit.store.engine import Store


def judged(
    store: Store, held_out: ReplaySource, slot: Slot, policy: Policy, learned_to: dt.datetime,
    incumbent: ModelRecord | None, made: Mapping[str, Any], scheduler: str | None = None, *,
    level: float = LEVEL,
) -> tuple[str, str, dict[str, Any]]:  # fmt: skip
    """Return what the gate says of a policy, as `gate` does, against what serves (None: uniform
    choice); `learned_to` is the instant of the last row that the policy learned from, `made` the
    settings of the model that it is, `level` that of the interval."""
    bounds = slot.reward.bounds
    candidate = Target(name="candidate", policy=policy, after=microseconds(learned_to))
    against = (
        Target(name="incumbent", policy=Uniform())
        if incumbent is None
        else model_target(store, slot.name, incumbent.version, "incumbent")
    )
    question = Question(
        targets=(candidate, against), lookup=held_out.lookup, against="incumbent",
        method=Method(bounds=bounds, level=level),
    )  # fmt: skip
    name = "uniform" if incumbent is None else f"model {incumbent.version}"
    more = 1.0
    if incumbent is not None and made.get("changed_at") is not None:
        more = times_learned(made, incumbent.settings)

    def judged_by(part: ReplaySource) -> tuple[str, str, dict[str, Any]]:
        report = judge.answer(part, question, scheduler=scheduler)
        targets = report.targets
        return gate(
            targets["candidate"], targets["incumbent"], name, report.checks, bounds[0], more
        )  # fmt: skip

    # After a change other rows may show next to nothing of what the candidate likes: each of the
    # few that do weighs so much that together they tell less than those drawn at random alone.
    both = together_if_told(held_out)
    parts = (
        (None if both is held_out else both, ""), (held_out, ""),
        (held_out.drawn_by(Uniform().name), "; by what was drawn at random alone"),
    )  # fmt: skip
    told = []
    for part, which in parts:
        if part is None or not part.rows():
            continue
        verdict, reason, metrics = judged_by(part)
        told.append((verdict, reason + which, metrics))
        if verdict != "rejected" or metrics.get("difference") is not None:
            return told[-1]
    return max(told, key=lambda each: each[2].get("effective_sample_size") or 0.0)
