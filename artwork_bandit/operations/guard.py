"""Automatic demotion: a live model that does worse than one fixed picture must not stay.

The take fraction of what the live model chose in its cell is compared with the baseline cell's
since it went live. Members of different cells are different people, so this is a plain A/B
comparison, clustered by member, at whatever moment the worker looks: the interval is a confidence
sequence (`estimators.sequence`), or looking every few minutes would demote good models by chance.
"""

from __future__ import annotations

import datetime as dt
import math

from artwork_bandit.errors import BrokenModel, DamagedModel, Overtaken
from artwork_bandit.estimators.proportion import Proportion, proportion
from artwork_bandit.estimators.sequence import half_width
from artwork_bandit.operations.model_editing import GUARD, ModelEditor
from artwork_bandit.slots import Slot
from artwork_bandit.store import aggregates, registry
from artwork_bandit.store.engine import Store

ALPHA = 0.01
"""Probability that a model no worse than the baseline is ever demoted."""
FEWEST_PLAYS = 60
"""Quality plays in the baseline cell before the first look, and in the live cell if it were as
good: a model whose pictures are broken has none."""
TIGHTEST = 20_000
"""Units at which the interval is tightest."""
Z_95 = 1.96


def demote_if_worse(store: Store, slot: Slot, now: dt.datetime) -> str | None:
    """Roll the slot's live model back if its cell is surely below the baseline cell.

    Returns the reason, which the registry keeps, or None.
    """
    # Counting takes longer than serving waits to write.
    with store.read() as connection:
        live = registry.live(connection, slot.name)
        last = registry.last_promotion(connection, slot.name)
        if live is None or last is None:
            return None
        since = last.promoted_at
        # What the model before chose while this one was trained is not this one's.
        its_own = aggregates.by_cell(connection, slot.name, since, None, live.version)
        others = aggregates.by_cell(connection, slot.name, since, None)
    none = aggregates.Counts.none()
    counts = its_own.get("live", none), others.get("baseline", none)
    found, baseline = (proportion(each.units, each.quality_plays) for each in counts)
    if (worse := surely_worse(found, baseline)) is None:
        return None
    return _demote(store, slot, now, live.version, f"model {live.version} demoted: {worse}")


def demote_if_damaged(store: Store, slot: Slot, now: dt.datetime) -> str | None:
    """Roll the slot's live model back if its bytes are not those that were registered: nothing
    could be judged against it. Returns the reason, or None."""
    with store.read() as connection:
        live = registry.live(connection, slot.name)
        if live is None:
            return None
        try:
            registry.load(connection, live.version)
            return None
        except DamagedModel as error:
            reason = f"model {live.version} demoted: {error}"
        except BrokenModel:  # of a later release, say, which can read it
            return None
    return _demote(store, slot, now, live.version, reason)


def _demote(
    store: Store, slot: Slot, now: dt.datetime, version: int, reason: str
) -> str | None:  # fmt: skip
    try:
        with store.write() as connection:
            editor = ModelEditor(connection=connection, author=GUARD, now=now)
            editor.roll_back(slot.name, reason, seen=version)
    except Overtaken:  # somebody has let it go, or promoted another, meanwhile
        return None
    return reason


def surely_worse(live: Proportion, baseline: Proportion) -> str | None:
    """Return why the live cell is surely below the baseline cell, or None if it is not."""
    if live.rate is None or baseline.rate is None:
        return None
    if min(baseline.successes, live.count * baseline.rate) < FEWEST_PLAYS:
        return None
    difference = live.rate - baseline.rate
    # Next to no plays say next to nothing of how much they vary: as the baseline's do, at least.
    as_baseline = _error(baseline) * math.sqrt(baseline.count / live.count)
    error = math.hypot(max(_error(live), as_baseline), _error(baseline))
    upper = difference + half_width(error, live.count + baseline.count, 2 * ALPHA, TIGHTEST)
    if upper >= 0:
        return None
    return (
        f"take fraction {live.rate:.4f} against {baseline.rate:.4f} in the baseline cell; at any "
        f"look the difference is below {upper:+.4f} with {1 - ALPHA:.0%} confidence"
    )


def _error(rate: Proportion) -> float:
    """Return the standard error of a rate, from its interval."""
    assert rate.lower is not None, "a rate that was counted"
    assert rate.upper is not None, "a rate that was counted"
    return (rate.upper - rate.lower) / (2 * Z_95)
