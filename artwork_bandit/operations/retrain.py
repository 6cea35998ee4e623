"""Retraining: join rewards, train a candidate, judge it on log it has not seen, promote or not.

The gate, a first simple one: the candidate is trained on the earlier part of the log and valued
on the later part against what serves now (the live model, or uniform before there is one), by the
paired doubly robust difference clustered by member. It goes live if

    the log supports the comparison (verdict not REFUSE), and
    the estimated difference is above 0, and
    its 95% interval is above -margin x the incumbent's value (non-inferiority).

The promoted model is the one that was judged: it is not trained again on all of the log.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artwork_bandit.domain import microseconds
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.evaluation.evaluate import Judged, evaluate
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import Verdict
from artwork_bandit.operations import judge
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.policy import Uniform
from artwork_bandit.settings import Settings
from artwork_bandit.slots import Slot
from artwork_bandit.store import registry, rewards
from artwork_bandit.store.engine import Store
from artwork_bandit.training import train as training
from artwork_bandit.training.train import Trained

HELD_OUT_SHARE = 0.25
"""Share of the log, at its end, that judges the candidate."""
MARGIN = 0.1
"""Non-inferiority: the candidate may be worse by at most this share of the incumbent's value.

At 2% the noise of a few ten thousand held-out rows kept a better model, trained on three times the
rows, from going live (`simulations.loop`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a retraining did."""

    joined: int
    """Rewards joined first."""
    version: int
    promoted: bool
    reason: str
    rows: int
    """Rows trained on."""
    metrics: dict[str, Any]


def join_rewards(store: Store, slot: Slot, settings: Settings, now: dt.datetime) -> int:
    """Attach outcomes to every impression whose window has closed; return the new units."""
    window = settings.attribution_window_seconds
    length = dt.timedelta(seconds=window) if window else slot.attribution_window
    return rewards.join(store, slot, length, now)


def retrain(
    store: Store, slot: Slot, settings: Settings, now: dt.datetime, *, seed: int = 1,
    log: Path | None = None,
) -> Outcome:  # fmt: skip
    """Run the whole flow, on the database's log or a Parquet log made elsewhere.

    Raises NotEnoughData if the log is too small to train on.
    """
    joined = join_rewards(store, slot, settings, now)
    source = ReplaySource.of(store, log, slot.name, settled_by=now)
    split = source.quantile(1 - HELD_OUT_SHARE)
    with store.read() as connection:
        incumbent = registry.live(connection, slot.name)
    if split is None:
        raise NotEnoughData("the replay log is empty: no impression's window has closed yet")
    how = training.Settings(
        half_life=dt.timedelta(days=settings.training_half_life_days),
        explored_share=settings.explored_share,
        products=tuple(p for p in settings.context_products.split(",") if p),
        seed=seed,
    )
    trained = training.train(source.narrowed(None, split).blocks, source.lookup, slot, how)
    version = _register(store, slot, trained, how, now)
    candidate = Target(
        name="candidate",
        policy=trained.bundle.policy(version),
        after=microseconds(trained.window_to),
    )
    against = (
        Target(name="incumbent", policy=Uniform())
        if incumbent is None
        else judge.model_target(store, incumbent.version, "incumbent")
    )
    held_out = source.narrowed(split, None).blocks()
    report = evaluate(held_out, [candidate, against], source.lookup, "incumbent")
    promoted, reason, metrics = gate(
        report.targets["candidate"],
        report.targets["incumbent"],
        "uniform" if incumbent is None else f"model {incumbent.version}",
    )
    with store.write() as connection:
        if promoted:
            registry.promote(connection, version, reason, now, metrics)
        else:
            registry.judge(connection, version, "rejected", reason, metrics)
    return Outcome(
        joined=joined, version=version, promoted=promoted, reason=reason, rows=trained.rows,
        metrics=metrics,
    )  # fmt: skip


def _register(
    store: Store, slot: Slot, trained: Trained, how: training.Settings, now: dt.datetime
) -> int:
    """Store a candidate with how it was made; return its version."""
    with store.write() as connection:
        return registry.register(
            connection,
            slot=slot.name,
            data=trained.bundle.encode(),
            window=(trained.window_from, trained.window_to),
            rows=trained.rows,
            settings={
                "vowpal_arguments": trained.bundle.vowpal_arguments,
                "half_life_days": how.half_life / dt.timedelta(days=1),
                "context_products": list(how.products),
                "exploration": how.form,
                "strength": trained.bundle.strength,
                "explored_share": how.explored_share,
                "seed": how.seed,
                "rows_left_out": trained.left_out,
            },
            now=now,
        )


def gate(
    candidate: Judged, incumbent: Judged, incumbent_name: str
) -> tuple[bool, str, dict[str, Any]]:
    """Return (promote?, the reason in a sentence, the numbers it rests on)."""
    value = candidate.estimators["dr"]
    before = incumbent.estimators["dr"].estimate
    difference = candidate.difference
    metrics = {
        "value": value.estimate,
        "lower": value.lower,
        "upper": value.upper,
        "incumbent": incumbent_name,
        "incumbent_value": before,
        "difference": difference.estimate,
        "difference_lower": difference.lower,
        "difference_upper": difference.upper,
        "held_out_rows": candidate.support.rows,
        "effective_sample_size": candidate.support.effective_sample_size,
    }
    refused = next((j for j in (candidate, incumbent) if j.verdict is Verdict.REFUSE), None)
    if refused is not None or difference.estimate is None or difference.lower is None:
        because = refused and next(
            (c.message for c in refused.checks if c.status is Verdict.REFUSE), "the log is refused"
        )
        return False, f"the held-out log cannot judge it: {because or difference.reason}", metrics
    margin = -MARGIN * abs(before or 0.0)
    seen = (
        f"held-out value {difference.estimate:+.4f} against {incumbent_name} "
        f"(95% interval {difference.lower:+.4f} to {difference.upper:+.4f})"
    )
    if difference.lower < margin:
        return False, f"{seen}: could be worse by more than {-margin:.4f}", metrics
    if difference.estimate <= 0:
        return False, f"{seen}: no better", metrics
    return True, seen, metrics
