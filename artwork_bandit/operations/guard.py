"""What cells say: a live model that does worse than one fixed picture, or than chance, must not
stay; and a model that the gate could not judge goes live, or challenges no more.

Mean rewards, by the rule in force, of what models chose in their cells are compared: the live
model's with the baseline and the explore cell's since it went live, the challenger's with the live
model's since it challenges. Members of different cells are different people, so these are plain A/B
comparisons, clustered by member, at whatever moment the worker looks: the intervals are confidence
sequences (`estimators.sequence`), or looking every few minutes would demote and promote by chance.

Where the log says that what is live has ceased to be true (`operations.changes`), it goes unless
its cell has done clearly better since than the others: until then next to all rows show what it
likes, by which no better model can be judged.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping

from artwork_bandit.errors import BrokenModel, DamagedModel, Overtaken
from artwork_bandit.estimators.mean import Mean, mean_reward
from artwork_bandit.estimators.sequence import half_width
from artwork_bandit.operations import changes
from artwork_bandit.operations.model_editing import CELLS_SET, GUARD, ModelEditor, named_by
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.slots import Slot
from artwork_bandit.store import aggregates, registry, rules
from artwork_bandit.store import changes as change_log
from artwork_bandit.store.engine import Connection, Store

RIVALS = ("baseline", "explore")
"""Cells that a live model must not be worse than."""
ALPHA = 0.01
"""Probability that a model no worse than a cell is ever demoted by what that cell says, that a
challenger no better than the live model ever takes its place, and that one no worse ever ends."""
FEWEST_PAID = 60
"""Units with a reward other than 0 in the better cell before the first look, and in the other if it
were as good: a model whose pictures are broken has none."""
FEWEST_SINCE = 20
"""The same since a change that the live model knows nothing of."""
AHEAD = 1.0
"""Standard errors that the cell of such a model must be ahead of the others, or it goes: half of
those that are worth nothing are ahead by chance."""
TIGHTEST = 20_000
"""Units at which the interval is tightest."""


def demote_if_worse(store: Store, slot: Slot, now: dt.datetime) -> str | None:
    """Roll the slot's live model back if its cell is surely below the baseline or the explore cell:
    to the one before it that is no older than the last change that models know of, if there is one.

    Returns the reason, which the registry keeps, or None.
    """
    # Counting takes longer than serving waits to write.
    with store.read() as connection:
        live = registry.live(connection, slot.name)
        last = registry.last_promotion(connection, slot.name)
        if live is None or last is None:
            return None
        ceased = _ceased(store, slot, connection)
        since = _since(connection, slot, last.promoted_at, ceased)
        if since is None:
            return None
        # What the model before chose while this one was trained is not this one's.
        its_own = aggregates.by_cell(connection, slot.name, since, None, live.version)
        others = aggregates.by_cell(connection, slot.name, since, None)
    found, *rivals = _mean(its_own, "live"), *(_mean(others, cell) for cell in RIVALS)
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

    One that somebody has named is theirs to end, and one that learned another rule's rewards goes
    live by hand only. Returns the reason, which the registry keeps, or None.
    """
    with store.read() as connection:
        challenge = registry.challenged_since(connection, slot.name)
        if challenge is None:
            return None
        version, since = challenge
        learned = registry.get(connection, version).settings.get("reward_rule")
        live = registry.live(connection, slot.name)
        last = registry.last_promotion(connection, slot.name)
        compared = _since(connection, slot, since, last and last.promoted_at)
        if compared is None:
            return None
        its_own = aggregates.by_cell(connection, slot.name, compared, None, version)
        serves = 0 if live is None else live.version
        others = aggregates.by_cell(connection, slot.name, compared, None, serves or None)
    found, rival = _mean(its_own, "challenger"), _mean(others, "live")
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
            if not still or named_by(connection, slot.name):
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


def _since(connection: Connection, slot: Slot, *moments: dt.datetime | None) -> dt.datetime | None:
    """Return from when on cells can be compared: the last of these, of when members were last moved
    between them, and of when the rule came in force; None while it has paid nothing yet."""
    ruled = rules.since(connection, slot.name, slot.reward)
    if ruled is None:
        return None
    moved = change_log.last(connection, CELLS_SET)
    known = (*moments, ruled, None if moved is None else moved.changed_at)
    return max(at for at in known if at is not None)


def _mean(counts: Mapping[str, aggregates.Counts], cell: str) -> Mean:
    found = counts.get(cell) or aggregates.Counts.none()
    return mean_reward(found.units, found.paid, found.reward, found.reward2)


def _ceased(store: Store, slot: Slot, connection: Connection) -> dt.datetime | None:
    """Return when what is live ceased to be true by what later models of the same log know."""
    log = ReplaySource.of(store, None, slot.name, rule=slot.reward)
    models = changes.alike(registry.recent(connection, slot.name), slot, log)
    return None if changes.live(models) is None else changes.unlearned(models)


def surely_worse(live: Mean, baseline: Mean, where: str = "the baseline cell") -> str | None:
    """Return why the live cell is surely below the baseline cell, or another, or None if it is
    not."""
    if live.mean is None or baseline.mean is None:
        return None
    if min(1, live.count / baseline.count) * baseline.paid < FEWEST_PAID:
        return None
    difference = live.mean - baseline.mean
    # Next to no rewards say next to nothing of how much they vary: as the baseline's do, at least.
    as_baseline = baseline.standard_error * math.sqrt(baseline.count / live.count)
    error = math.hypot(max(live.standard_error, as_baseline), baseline.standard_error)
    upper = difference + half_width(error, live.count + baseline.count, 2 * ALPHA, TIGHTEST)
    if upper >= 0:
        return None
    return (
        f"mean reward {live.mean:.4f} against {baseline.mean:.4f} in {where}; at any "
        f"look the difference is below {upper:+.4f} with {1 - ALPHA:.0%} confidence"
    )


def _no_better(live: Mean, rival: Mean, where: str, ceased: dt.datetime | None) -> str | None:
    """Return why a model that has ceased to be true is to go: its cell has done little better
    since, if at all. The log says that it tells nothing; what cells could say against that is that
    it earns more."""
    if ceased is None or live.mean is None or rival.mean is None:
        return None
    ahead = live.mean - rival.mean
    by_chance = math.hypot(live.standard_error, rival.standard_error)
    if rival.paid < FEWEST_SINCE or ahead > AHEAD * by_chance:
        return None
    return (
        f"what it had learned ceased to be true at {ceased:%Y-%m-%d %H:%M}Z, and since then its "
        f"mean reward is {live.mean:.4f}, no standard error ({by_chance:.4f}) above "
        f"{rival.mean:.4f} in {where}"
    )
