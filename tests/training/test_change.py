"""Whether what a model has learned is still true."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from artwork_bandit.domain import Context, ReplayBlock
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.policies.priors import AFTER_CHANGE, Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import change, train
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.start import Start
from simulations.changes import World, bound, found
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


def apart(*blocks: ReplayBlock) -> list[ReplayBlock]:
    """Return rows ten seconds apart that were a microsecond apart."""
    first = int(blocks[0].occurred_at[0])
    return [replace(b, occurred_at=first + (b.occurred_at - first) * 10_000_000) for b in blocks]


@pytest.mark.parametrize("liking", [-1.5, 0.0], ids=["reversed", "gone"])
def test_a_change_is_found_at_the_row_where_it_began(known: Start, liking: float) -> None:
    still, no_longer = later(1_500, 2, 1.5, 4_000), later(2_500, 3, liking, 5_500)
    found = change.looked_for([still, no_longer], lookup, known, BOUNDS)
    assert found is not None
    assert abs(found.at - no_longer.occurred_at[0]) <= 100
    assert found.rows == no_longer.occurred_at[-1] - found.at + 1
    shuffled = np.random.default_rng(1).permutation(2_500)
    parts = [no_longer.take(shuffled[:300]), still, no_longer.take(shuffled[300:])]
    again = change.looked_for(parts, lookup, known, BOUNDS)
    assert again is not None
    assert (again.at, again.rows) == (found.at, found.rows)
    assert again.evidence == pytest.approx(found.evidence, abs=1e-9)
    # Where it was found before it stays if that is as likely, and only then.
    near, far = found.at + 2, int(no_longer.occurred_at[0]) + 1_500
    for asked, expected in ((near, near), (far, found.at)):
        once_more = change.looked_for(parts, lookup, known, BOUNDS, asked)
        assert once_more is not None
        assert once_more.at == expected


def test_what_a_model_has_learned_from_says_nothing(known: Start) -> None:
    assert change.looked_for([log(4_000, liking=-1.5)], lookup, known, BOUNDS) is None
    assert change.looked_for([], lookup, known, BOUNDS) is None
    few = later(900, 2, -1.5, 4_000)
    assert change.looked_for([few], lookup, known, BOUNDS) is None


def test_no_change_is_found_where_there_is_none(known: Start) -> None:
    """Not by chance, and not where everything is played half as often, or by members whose taste
    decides less."""
    rng = np.random.default_rng(9)
    for seed in range(2, 22):
        for block in (
            later(4_000, seed, 1.5, 4_000),
            later(4_000, seed, 1.2, 4_000),
            halved(later(4_000, seed, 1.5, 4_000), rng),
        ):
            assert change.looked_for([block], lookup, known, BOUNDS) is None


def halved(block: ReplayBlock, rng: np.random.Generator) -> ReplayBlock:
    return replace(block, reward=block.reward * (rng.random(len(block)) < 0.5))


@pytest.mark.parametrize("members", [2, 5, 8])
def test_a_few_members_whom_the_model_does_not_know_are_no_change(
    known: Start, members: int
) -> None:
    rows = later(4_000, 2, 1.5, 4_000)
    other = later(2_500, 3, -1.5, 8_000)
    visitors = np.array([f"m{i % members}" for i in range(2_500)], object)
    assert change.looked_for([rows, other], lookup, known, BOUNDS) is not None
    few = replace(other, member_ids=visitors)
    assert change.looked_for([rows, few], lookup, known, BOUNDS) is None


def test_false_alarms_are_as_rare_as_said() -> None:
    """And titles may fade, each by itself; `simulations.changes` prints more."""
    for world in (World(rows=5_000), World(rows=5_000, true=0.7), World(rows=8_000, fallen=0.2)):
        expected = 500 * bound(world.true)
        assert 500 * found(world, 500, 1) <= expected + 3 * np.sqrt(expected)
    assert found(World(rows=12_000, changed=0.5), 50, 1) > 0.8


def test_after_a_change_what_came_since_is_learned_from() -> None:
    old, new = apart(log(6_000), later(1_500, 3, -1.5, 6_000))
    both = InMemory([old, new])
    columns = VariantColumns.of(variants(1)[0])
    fan = Context(genres={"TV Horror": 8.0})

    def prefers_horror(settings: train.Settings) -> float:
        made = train.train(both, lookup, ARTWORK, settings)
        bound = BoundScorer.of(made.bundle.model, columns)
        zero = np.zeros(4, np.int64)
        scores = bound.scores([fan], zero, np.arange(4), np.array([0, 1, 2, 3, 4]))
        return float(scores[::2].mean() - scores[1::2].mean())

    assert prefers_horror(DEFAULT) > 0
    knowing = replace(DEFAULT, changed_at=int(new.occurred_at[0]))
    assert prefers_horror(knowing) < 0
    made = train.train(both, lookup, ARTWORK, knowing)
    assert made.rows == 7_500
    assert 1_500 < made.effective_rows < 2_500


def test_after_a_change_what_was_before_weighs_little_however_much_it_is() -> None:
    """Or the next look would find the same change again, of what was learned of it."""
    old, new, more = apart(
        log(60_000), later(2_500, 3, -1.5, 60_000), later(4_000, 4, -1.5, 63_000)
    )
    knowing = replace(DEFAULT, changed_at=int(new.occurred_at[0]), priors=lambda rows: AFTER_CHANGE)
    made = train.train(InMemory([old, new]), lookup, ARTWORK, knowing)
    assert made.effective_rows < 3_500
    learned = Start.of(made.bundle)
    assert change.looked_for([more], lookup, learned, BOUNDS) is None


def test_rows_from_before_a_change_are_older_by_some_half_lives() -> None:
    day, half_life = 86_400_000_000, dt.timedelta(days=1)
    at = np.array([0, day, 2 * day])
    aged = Ageing.since(day, half_life, before=1_000, since=1_000)
    assert aged.weights(at, 2 * day).tolist() == [2.0**-7, 0.5, 1.0]
    assert replace(aged, times=2.0).weights(at, 2 * day).tolist() == [2.0**-14, 0.25, 1.0]
    many = Ageing.since(day, half_life, before=1_000_000, since=1_000)
    assert many.weights(at, 2 * day) == pytest.approx([1e-4 / 4, 0.5, 1.0])
