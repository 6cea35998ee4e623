"""Whether what a model has learned is still true."""

from dataclasses import replace

import numpy as np
import pytest

from artwork_bandit.domain import Context, ReplayBlock
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import change, train
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.start import Start
from tests.taught import log, lookup, variants

ARTWORK = SLOTS["artwork"]
BOUNDS = ARTWORK.reward.bounds
DEFAULT = train.Settings(priors=lambda rows: Priors())


@pytest.fixture(scope="module")
def known() -> Start:
    """What a model knows that has learned 4,000 rows of a world where taste decides."""
    return Start.of(train.train(InMemory([log(4_000)]), lookup, ARTWORK, DEFAULT).bundle)


def later(rows: int, seed: int, liking: float, after: int) -> ReplayBlock:
    """Return rows that come so many microseconds after the model's first."""
    block = log(rows, seed=seed, liking=liking)
    return replace(block, occurred_at=block.occurred_at + after)


@pytest.mark.parametrize("liking", [-1.5, 0.0], ids=["reversed", "gone"])
def test_a_change_is_found_at_the_row_where_it_began(known: Start, liking: float) -> None:
    still, no_longer = later(1_500, 2, 1.5, 4_000), later(1_000, 3, liking, 5_500)
    found = change.looked_for(InMemory([still, no_longer]), lookup, known, BOUNDS)
    assert found is not None
    assert abs(found.at - no_longer.occurred_at[0]) <= 100
    assert found.rows == no_longer.occurred_at[-1] - found.at + 1
    shuffled = np.random.default_rng(1).permutation(1_000)
    parts = [no_longer.take(shuffled[:300]), still, no_longer.take(shuffled[300:])]
    again = change.looked_for(InMemory(parts), lookup, known, BOUNDS)
    assert again is not None
    assert (again.at, again.rows) == (found.at, found.rows)
    assert again.evidence == pytest.approx(found.evidence, abs=1e-9)


def test_what_a_model_has_learned_from_says_nothing(known: Start) -> None:
    assert change.looked_for(InMemory([log(4_000, liking=-1.5)]), lookup, known, BOUNDS) is None
    few = later(400, 2, -1.5, 4_000)
    assert change.looked_for(InMemory([few]), lookup, known, BOUNDS) is None


def test_no_change_is_found_where_there_is_none(known: Start) -> None:
    """Not by chance, and not where everything is played half as often, or by members whose taste
    decides less."""
    rng = np.random.default_rng(9)
    for seed in range(2, 22):
        for block in (
            later(2_000, seed, 1.5, 4_000),
            later(2_000, seed, 1.0, 4_000),
            halved(later(2_000, seed, 1.5, 4_000), rng),
        ):
            assert change.looked_for(InMemory([block]), lookup, known, BOUNDS) is None


def halved(block: ReplayBlock, rng: np.random.Generator) -> ReplayBlock:
    return replace(block, reward=block.reward * (rng.random(len(block)) < 0.5))


def test_a_few_members_whom_the_model_does_not_know_are_no_change(known: Start) -> None:
    rows = later(2_000, 2, 1.5, 4_000)
    other = later(400, 3, -1.5, 6_000)
    visitors = np.array([f"m{i % 2}" for i in range(400)], object)
    few = InMemory([rows, replace(other, member_ids=visitors)])
    many = InMemory([rows, other])
    assert change.looked_for(many, lookup, known, BOUNDS) is not None
    assert change.looked_for(few, lookup, known, BOUNDS) is None


def test_false_alarms_are_as_rare_as_said() -> None:
    """Of a true model: at most exp(-EVIDENCE), at any length of log; so many logs would show five
    times as many."""
    rng = np.random.default_rng(1)
    logs, n, found = 3_000, 1_000, 0
    for _ in range(logs):
        said = rng.normal(0, 0.3, n)
        title = rng.integers(20, size=n)
        chance = 1 / (1 + np.exp(2.0 - said))
        seen = change._Seen(
            at=np.arange(n), member=np.arange(n), title=title, base=np.full(n, -2.0), said=said,
            share=(rng.random(n) < chance).astype(float),
        )  # fmt: skip
        found += change.told(seen) is not None
    expected = logs * np.exp(-change.EVIDENCE)
    assert found <= expected + 3 * np.sqrt(expected)


def test_after_a_change_what_came_since_is_learned_from() -> None:
    old, new = log(6_000), later(1_500, 3, -1.5, 6_000)
    both = InMemory([old, new])
    columns = VariantColumns.of(variants(1)[0])
    fan = Context(genres={"TV Horror": 8.0})

    def prefers_horror(settings: train.Settings) -> float:
        made = train.train(both, lookup, ARTWORK, settings)
        bound = ModelPolicy(made.bundle.model, made.bundle.policy(1).exploration).bind(columns)
        zero = np.zeros(4, np.int64)
        scores = bound.scores([fan], zero, np.arange(4), np.array([0, 1, 2, 3, 4]))
        return float(scores[::2].mean() - scores[1::2].mean())

    assert prefers_horror(DEFAULT) > 0
    knowing = replace(DEFAULT, changed_at=int(new.occurred_at[0]))
    assert prefers_horror(knowing) < 0
    made = train.train(both, lookup, ARTWORK, knowing)
    assert made.rows == 7_500
    assert 1_500 < made.effective_rows < 2_500


def test_rows_from_before_a_change_are_older_by_some_half_lives() -> None:
    day = 86_400_000_000
    at = np.array([0, day, 2 * day])
    aged = Ageing(half_life=np.timedelta64(1, "D").item(), changed_at=day)
    assert aged.weights(at, 2 * day).tolist() == [2.0**-7, 0.5, 1.0]
    assert replace(aged, times=2.0).weights(at, 2 * day).tolist() == [2.0**-14, 0.25, 1.0]
