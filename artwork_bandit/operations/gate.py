"""Whether a candidate goes live: its held-out value against what serves now.

What serves now is the live model, or uniform before there is one; both are valued on log that the
candidate has not seen, by the paired doubly robust difference clustered by member, with its 95%
interval (a challenger that is judged again has a wider one):

    rejected    if the log does not support the comparison (verdict REFUSE), if the estimated
                difference is below -margin x what the incumbent earns, or if it is surely not
                above 0
    live        if the difference is above 0 and its interval above -margin x what the incumbent
                earns (non-inferiority)
    challenger  otherwise: it may be better, and rows that come can tell (`second_look`), or the
                challenger cell, if it has members (`guard.end_challenge`)

What the incumbent earns is its value above the least reward that the rule gives. Where the
candidate knows of a change, the margin is as many times wider as it has learned from more rows
since then than what serves (`MOST_TIMES` at most).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from artwork_bandit.evaluation.results import Judged
from artwork_bandit.evaluation.verdict import Check, Verdict

MARGIN = 0.1
"""Non-inferiority: the candidate may be worse by at most this share of the incumbent's value.

At 2% the noise of a few ten thousand held-out rows kept a better model, trained on three times the
rows, from going live (`simulations.loop`)."""

MOST_TIMES = 3.0
"""The margin after a change is so many times wider at most: as many as the candidate has learned
from more rows since than what serves. The few rows that came since say next to nothing of which is
better, where a model of twice as many is better nearly always: at the same margin the first model
that knew a little of the new world stayed for half of what was left of a stream."""
LEVEL = 0.95
"""Of the interval by which a candidate is judged first."""
NOTHING = 0.01
"""Of the margin: what is surely better by no more is no better, as a model that learned the same
rows in another order."""


def gate(
    candidate: Judged, incumbent: Judged, incumbent_name: str, log: Sequence[Check] = (),
    least: float = 0.0, more: float = 1.0,
) -> tuple[str, str, dict[str, Any]]:  # fmt: skip
    """Return (live, challenger or rejected; why, in a sentence; the numbers it rests on); `log` is
    what was found about the log itself, `least` the smallest reward there can be, `more` how many
    times as much the candidate has learned from since a change."""
    value = candidate.estimators["dr"]
    before = incumbent.estimators["dr"].estimate
    difference = candidate.difference
    times = min(max(more, 1.0), MOST_TIMES)
    as_stated = MARGIN * max((before or 0.0) - least, 0.0)
    margin = times * as_stated
    metrics = {
        "value": value.estimate,
        "lower": value.lower,
        "upper": value.upper,
        "incumbent": incumbent_name,
        "incumbent_value": before,
        "difference": difference.estimate,
        "difference_lower": difference.lower,
        "difference_upper": difference.upper,
        "level": difference.level,
        "margin": as_stated,
        "held_out_rows": candidate.support.rows,
        "effective_sample_size": candidate.support.effective_sample_size,
    }
    refused = next((j for j in (candidate, incumbent) if j.verdict is Verdict.REFUSE), None)
    if refused is not None or difference.estimate is None or difference.lower is None:
        because = refused and next(
            c.message for c in (*refused.checks, *log) if c.status is Verdict.REFUSE
        )
        which = "it" if refused is None or refused is candidate else incumbent_name
        return (
            "rejected",
            f"the held-out log cannot judge {which}: {because or difference.reason}",
            metrics,
        )
    interval = f"{difference.lower:+.4f} to {difference.upper:+.4f}"
    seen = (
        f"held-out value {difference.estimate:+.4f} against {incumbent_name} "
        f"({100 * difference.level:.4g}% interval {interval})"
    )
    if times > 1:
        much = f"{times:.1f} times as much" if more <= MOST_TIMES else "far more"
        seen = f"{seen}, having learned from {much} since the change"
    if difference.estimate < -margin:
        return "rejected", f"{seen}: estimated to be worse by more than {margin:.4f}", metrics
    if difference.estimate == 0 and not difference.standard_error:
        return "rejected", f"it earns on every held-out row what {incumbent_name} does", metrics
    if difference.upper is not None and difference.upper <= margin * NOTHING:
        return "rejected", f"{seen}: no better", metrics
    if difference.lower < -margin:
        because = f"could be worse by more than {margin:.4f}"
    elif difference.estimate <= 0:
        because = "no better"
    else:
        return "live", seen, metrics
    return "challenger", f"{seen}: {because}", metrics
