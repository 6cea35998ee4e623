"""Mean rewards of members who repeat: standard errors that widen when they must."""

import numpy as np
import pytest

from artwork_bandit.estimators.mean import Mean, mean_reward
from artwork_bandit.estimators.proportion import proportion


def test_nothing_counted_is_no_data_not_zero() -> None:
    nothing = np.zeros(64)
    found = mean_reward(nothing, nothing, nothing, nothing)
    assert found == Mean(count=0, paid=0, mean=None, standard_error=0.0)


def test_rewards_of_one_are_a_proportion() -> None:
    rng = np.random.default_rng(1)
    units = rng.poisson(200, 64).astype(float)
    plays = rng.binomial(units.astype(int), 0.2).astype(float)
    found, rate = mean_reward(units, plays, plays, plays), proportion(units, plays)
    assert (found.count, found.paid, found.mean) == (rate.count, rate.successes, rate.rate)
    half = (rate.upper - rate.lower) / 2
    assert 1.96 * found.standard_error == pytest.approx(half, rel=0.03)


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_the_error_is_the_spread_over_other_members(spread: float) -> None:
    """Rewards below 0 and above 1, and members who like more or less of everything."""
    rng = np.random.default_rng(2)
    means, errors = [], []
    for _ in range(1_000):
        looks = 1 + rng.poisson(4, 400)
        bucket = np.repeat(np.arange(400) % 64, looks)
        liking = np.repeat(rng.normal(0.0, spread, 400), looks)
        reward = (rng.random(len(bucket)) < 0.3) * rng.normal(1.0 + liking, 2.0)
        sums = (np.bincount(bucket, x, 64) for x in (reward != 0, reward, reward**2))
        found = mean_reward(np.bincount(bucket, minlength=64).astype(float), *sums)
        means.append(found.mean)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
