"""A world in which pictures mislead, and policies that know which do.

What misleads draws twice the clicks and a third of the quality plays; twice as many clicks as
quality plays are normal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats
from simulations.greedy import greedy_rate, learned, scores_of, table
from simulations.worlds import UniformLog

WHICH = ("one of each title", "each by chance", "half of every third title")
"""Of six variants; one in six altogether."""
KNOW_WHICH = ("knows which, learns from plays", "knows which, learns as ours")

Mask = npt.NDArray[np.bool_]


def which_mislead(how: str, shape: tuple[int, int], seed: int) -> Mask:
    """Return [titles, width]."""
    assert how in WHICH, how
    titles, width = shape
    if how == "one of each title":
        return np.tile(np.arange(width) == 2, (titles, 1))
    if how == "half of every third title":
        return (np.arange(titles)[:, None] % 3 == 0) & (np.arange(width) % 2 == 0)
    found: Mask = np.random.default_rng([titles, width, seed]).random(shape) < 1 / 6
    found[found.all(axis=1)] = False  # somebody has to be honest
    return found


def misled(log: UniformLog, bad: Mask) -> tuple[UniformLog, Floats]:
    """Return the log in which these variants [titles, width] mislead, and each row's click."""
    truth = table(log)
    clicked, row = np.minimum(2 * truth, 1), np.arange(len(truth))
    lying = bad[log.block.set_of_row]
    twice, played = _misled(truth, clicked)
    truth = np.where(lying, twice * played, truth)
    clicked = np.where(lying, twice, clicked)
    rng = np.random.default_rng(len(truth))
    clicks = rng.random(len(truth)) < clicked[row, log.block.chosen]
    finished = rng.random(len(truth)) < (truth / clicked)[row, log.block.chosen]
    block = replace(
        log.block, reward=(clicks & finished).astype(np.float64), clicked=clicks.astype(np.float64)
    )
    return replace(log, truth=truth.ravel(), block=block), clicks.astype(np.float64)


def _misled(rate: Floats, clicks: Floats) -> tuple[Floats, Floats]:
    """Return how likely a click is, and a play by a click, where these lie: twice the clicks, a
    third of the plays."""
    twice = np.minimum(2 * clicks, 1)
    return twice, rate / 3 / twice


def expected_by_chances(honest: UniformLog, log: UniformLog, how: str) -> Floats:
    """Return [titles, width], what variants' effects are expected to be, as logits, by the chance
    that they mislead: Bayes' rule with the true chances of each row's click and play, and of which
    variants of a title mislead, but that these of every third title are any three of six."""
    block, width = log.block, table(log).shape[1]
    rate = table(honest)[np.arange(len(block)), block.chosen]
    clicks = np.minimum(2 * rate, 1)
    both = []
    for clicked, played in ((clicks, rate / clicks), _misled(rate, clicks)):
        seen = np.where(block.reward > 0, played, 1 - played)
        chances = np.where(block.clicked, clicked * seen, 1 - clicked)
        logs = np.log(np.maximum(chances, 1e-12))
        of = block.set_of_row * width + block.chosen
        both.append(np.bincount(of, logs, len(log.variants) * width).reshape(-1, width))
    ways = np.array(list(np.ndindex(*[2] * width)))
    how_many = ways.sum(axis=1)
    if how == "one of each title":
        prior = np.where(how_many == 1, 0.0, -np.inf)
    elif how == "half of every third title":
        of_three = np.count_nonzero(how_many == 3)
        prior = np.select(
            [how_many == 0, how_many == 3], [np.log(2 / 3), np.log(1 / 3 / of_three)], -np.inf
        )
    else:
        prior = how_many * np.log(1 / 6) + (width - how_many) * np.log(5 / 6)
    logs = (both[1] - both[0]) @ ways.T + prior
    chance = np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True)) @ ways
    found: Floats = np.log(1 - chance + chance / 3)
    return found


def misleading(honest: UniformLog, how: str, seed: int) -> dict[str, float]:
    """Return the quality plays per impression of policies in the world that misleads."""
    bad = which_mislead(how, (len(honest.variants), table(honest).shape[1]), seed)
    log, clicks = misled(honest, bad)
    truth, block = table(log), log.block
    honest_only = without(log, bad)
    by_plays = learned(replace(honest_only, block=replace(honest_only.block, clicked=None)))
    knows = learned(honest_only)
    assert knows.bundle.learned is not None, "it was trained by this release"
    effects = knows.bundle.learned.per_logit * expected_by_chances(honest, log, how)
    likeliest = (scores_of(log, knows) + effects[block.set_of_row]).argmax(axis=1)
    by_clicks = learned(replace(log, block=replace(block, reward=clicks)))

    def honest_rate(scores: Floats) -> float:
        """Return what the greedy policy earns that shows none that misleads."""
        best = np.where(bad[block.set_of_row], -np.inf, scores).argmax(axis=1)
        return float(truth[np.arange(len(truth)), best].mean())

    return {
        "uniform": float(truth.mean()),
        "trained on clicks": greedy_rate(log, by_clicks),
        "ours": greedy_rate(log, learned(log)),
        "knows all chances": float(truth[np.arange(len(truth)), likeliest].mean()),
        KNOW_WHICH[0]: honest_rate(scores_of(log, by_plays)),
        KNOW_WHICH[1]: honest_rate(scores_of(log, knows)),
        "oracle": float(truth.max(axis=1).mean()),
    }


def without(log: UniformLog, bad: Mask) -> UniformLog:
    """Return the rows on others than these variants, of which their titles know nothing."""
    kept = [
        [v for v, left in zip(some, out, strict=True) if not left]
        for some, out in zip(log.variants, bad, strict=True)
    ]
    sets = {
        s.title_id: replace(s, variant_ids=tuple(v.variant_id for v in some))
        for s, some in zip(log.block.action_sets, kept, strict=True)
    }
    at = np.cumsum(~bad, axis=1) - 1
    block = log.block
    honest = ~bad[block.set_of_row, block.chosen]
    part, moved = block.take(honest), at[block.set_of_row, block.chosen][honest]
    return replace(
        log, variants=kept,
        block=replace(
            part, chosen=moved, action_sets=tuple(sets[s.title_id] for s in part.action_sets)
        ),
    )  # fmt: skip
