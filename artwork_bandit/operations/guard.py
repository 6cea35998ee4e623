"""What cells say: a live model that does worse than one fixed picture, or than chance, must not
stay; and a model that the gate could not judge goes live, or challenges no more.

Take fractions of what models chose in their cells are compared: the live model's with the baseline
and the explore cell's since it went live, the challenger's with the live model's since it
challenges. Members of different cells are different people, so these are plain A/B comparisons,
clustered by member, at whatever moment the worker looks: the intervals are confidence sequences
(`estimators.sequence`), or looking every few minutes would demote and promote by chance.

Where the log says that what is live has ceased to be true (`operations.changes`), it goes unless
its cell has done better since than the others: until then next to all rows show what it likes, by
which no better model can be judged.
"""

from __future__ import annotations

import datetime as dt
import math

from artwork_bandit.errors import BrokenModel, DamagedModel, Overtaken
from artwork_bandit.estimators.proportion import Proportion, proportion
from artwork_bandit.estimators.sequence import half_width
from artwork_bandit.operations import changes
from artwork_bandit.operations.model_editing import CELLS_SET, GUARD, ModelEditor
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.slots import Slot
from artwork_bandit.store import aggregates, registry
from artwork_bandit.store import changes as change_log
from artwork_bandit.store.engine import Connection, Store

RIVALS = ("baseline", "explore")
"""Cells that a live model must not be worse than."""
ALPHA = 0.01
"""Probability that a model no worse than a cell is ever demoted by what that cell says, that a
challenger no better than the live model ever takes its place, and that one no worse ever ends."""
FEWEST_PLAYS = 60
"""Quality plays in the better cell before the first look, and in the other if it were as good: a
model whose pictures are broken has none."""
FEWEST_SINCE = 20
"""The same since a change that the live model knows nothing of."""
TIGHTEST = 20_000
"""Units at which the interval is tightest."""
Z_95 = 1.96


def demote_if_worse(store: Store, slot: Slot, now: dt.datetime) -> str | None:
    """Roll the slot's live model back if its cell is surely below the baseline or the explore cell:
    to the one before it that is no older than the last change that models know of, if there is one.

    Returns the reason, which the registry keeps, or None. Cells are compared by quality plays:
    where the rule in force pays for something else, what does as it asks may have fewer, and stays.
    """
    if not slot.reward.pays_quality:
        return None
    # Counting takes longer than serving waits to write.
    with store.read() as connection:
        live = registry.live(connection, slot.name)
        last = registry.last_promotion(connection, slot.name)
        if live is None or last is None:
            return None
        ceased = _ceased(store, slot, connection)
        since = _since(connection, last.promoted_at, ceased)
        # What the model before chose while this one was trained is not this one's.
        its_own = aggregates.by_cell(connection, slot.name, since, None, live.version)
        others = aggregates.by_cell(connection, slot.name, since, None)
    none = aggregates.Counts.none()
    found, *rivals = (
        proportion(each.units, each.quality_plays)
        for each in (its_own.get("live", none), *(others.get(cell, none) for cell in RIVALS))
    )
    told = (
        surely_worse(found, rival, f"the {cell} cell")
        or _no_better(found, rival, f"the {cell} cell", ceased)
        for cell, rival in zip(RIVALS, rivals, strict=True)
    )
    if (worse := next(filter(None, told), None)) is None:
        return None
    return _demote(store, slot, now, live.version, f"model {live.version} demoted: {worse}")


def end_challenge(store: Store, slot: Slot, now: dt.datetime) -> str | None:
    """Make the slot's challenger the live model if its cell is surely above what is live, or end
    its challenge if it is surely below.

    One that somebody has named is theirs to end, and one that learned another rule's rewards, or
    under a rule that does not pay for quality plays first, goes live by hand only. Returns the
    reason, which the registry keeps, or None.
    """
    if not slot.reward.pays_quality:
        return None
    with store.read() as connection:
        challenge = registry.challenged_since(connection, slot.name)
        if challenge is None:
            return None
        version, since = challenge
        learned = registry.get(connection, version).settings.get("reward_rule")
        live = registry.live(connection, slot.name)
        last = registry.last_promotion(connection, slot.name)
        since = _since(connection, since, last and last.promoted_at)
        its_own = aggregates.by_cell(connection, slot.name, since, None, version)
        serves = 0 if live is None else live.version
        others = aggregates.by_cell(connection, slot.name, since, None, serves or None)
    none = aggregates.Counts.none()
    counts = its_own.get("challenger", none), others.get("live", none)
    found, rival = (proportion(each.units, each.quality_plays) for each in counts)
    against = f"model {serves}" if serves else "uniform choice"
    better = surely_worse(rival, found, "the challenger cell")
    worse = surely_worse(found, rival, "the live cell")
    if learned != slot.reward.version or not (better or worse):
        return None
    reason = (
        f"model {version} did better than {against}: {better}" if better
        else f"model {version} challenges no more: {worse}"
    )  # fmt: skip
    try:
        with store.write() as connection:
            editor = ModelEditor(connection=connection, author=GUARD, now=now)
            editor.take_turn(slot.name)
            still = registry.challenged_since(connection, slot.name) == challenge
            if not still or editor.named_by(slot.name):
                return None
            if better:
                editor.promote(version, reason, seen=serves)
            else:
                editor.end_challenge(slot.name, reason)
    except (Overtaken, BrokenModel):  # another model is live by now, or it is damaged
        return None
    return reason


def demote_if_damaged(store: Store, slot: Slot, now: dt.datetime) -> str | None:
    """Roll the slot's live model back if it is not what was registered, or predicts otherwise:
    nothing could be judged against it. Returns the reason, or None."""
    with store.read() as connection:
        live = registry.live(connection, slot.name)
        why = None if live is None else _damage(connection, live.version)
    if live is None or why is None:
        return None
    return _demote(store, slot, now, live.version, f"model {live.version} demoted: {why}")


def end_damaged_challenge(store: Store, slot: Slot, now: dt.datetime) -> str | None:
    """End the challenge of a challenger that is damaged, whoever named it: its cell is served as
    the live one. Returns the reason, or None."""
    with store.read() as connection:
        challenge = registry.challenged_since(connection, slot.name)
        why = None if challenge is None else _damage(connection, challenge[0])
    if challenge is None or why is None:
        return None
    reason = f"model {challenge[0]} challenges no more: {why}"
    with store.write() as connection:
        editor = ModelEditor(connection=connection, author=GUARD, now=now)
        editor.take_turn(slot.name)
        if registry.challenged_since(connection, slot.name) != challenge:
            return None
        editor.end_challenge(slot.name, reason)
    return reason


def _damage(connection: Connection, version: int) -> str | None:
    """Return how a model is damaged, or None."""
    try:
        registry.load(connection, version)
    except DamagedModel as error:
        return str(error)
    except BrokenModel:  # of a later release, say, which can read it
        return None
    return None


def _demote(
    store: Store, slot: Slot, now: dt.datetime, version: int, reason: str
) -> str | None:  # fmt: skip
    try:
        with store.write() as connection:
            editor = ModelEditor(connection=connection, author=GUARD, now=now)
            ceased = _ceased(store, slot, connection)
            editor.roll_back(slot.name, reason, seen=version, knowing=ceased)
    except Overtaken:  # somebody has let it go, or promoted another, meanwhile
        return None
    return reason


def _since(connection: Connection, *moments: dt.datetime | None) -> dt.datetime:
    """Return from when on cells can be compared: the last of these, and of when members were last
    moved between them."""
    moved = change_log.last(connection, CELLS_SET)
    known = [at for at in moments if at is not None]
    return max(known if moved is None else [*known, moved.changed_at])


def _ceased(store: Store, slot: Slot, connection: Connection) -> dt.datetime | None:
    """Return when what is live ceased to be true by what later models of the same log know."""
    log = ReplaySource.of(store, None, slot.name, rule=slot.reward)
    models = changes.alike(registry.recent(connection, slot.name), slot, log)
    return None if changes.live(models) is None else changes.unlearned(models)


def surely_worse(
    live: Proportion, baseline: Proportion, where: str = "the baseline cell"
) -> str | None:
    """Return why the live cell is surely below the baseline cell, or another, or None if it is
    not."""
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
        f"take fraction {live.rate:.4f} against {baseline.rate:.4f} in {where}; at any "
        f"look the difference is below {upper:+.4f} with {1 - ALPHA:.0%} confidence"
    )


def _no_better(
    live: Proportion, rival: Proportion, where: str, ceased: dt.datetime | None
) -> str | None:
    """Return why a model that has ceased to be true is to go: its cell has done no better since.
    The log says that it tells nothing; what cells could say against that is that it earns more."""
    if ceased is None or live.rate is None or rival.rate is None:
        return None
    if rival.successes < FEWEST_SINCE or live.rate > rival.rate:
        return None
    return (
        f"what it had learned ceased to be true at {ceased:%Y-%m-%d %H:%M}Z, and since then its "
        f"take fraction is {live.rate:.4f}, against {rival.rate:.4f} in {where}"
    )


def _error(rate: Proportion) -> float:
    """Return the standard error of a rate, from its interval."""
    assert rate.lower is not None, "a rate that was counted"
    assert rate.upper is not None, "a rate that was counted"
    return (rate.upper - rate.lower) / (2 * Z_95)
