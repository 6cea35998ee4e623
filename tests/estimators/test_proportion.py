"""Rates on members who repeat: intervals that widen when they must."""

import numpy as np
import pytest

from artwork_bandit.estimators.proportion import Proportion, difference, proportion, wilson


def test_wilson_by_hand() -> None:
    # 8 of 10, z = 1.96: the textbook's (0.490, 0.943).
    assert wilson(0.8, 10, 1.96) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_nothing_counted_is_no_data_not_zero() -> None:
    assert proportion(np.zeros(256), np.zeros(256)) == Proportion(
        count=0, successes=0, rate=None, lower=None, upper=None
    )


def test_members_who_repeat_themselves_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    independent = rng.binomial(100, 0.3, 256).astype(float)
    clumped = 100.0 * (rng.random(256) < 0.3)
    counts = np.full(256, 100.0)
    narrow, wide = proportion(counts, independent), proportion(counts, clumped)
    assert wide.upper - wide.lower > 5 * (narrow.upper - narrow.lower)


def test_interval_covers_with_repeating_members() -> None:
    rng = np.random.default_rng(2)
    covered, runs = 0, 2_000
    for _ in range(runs):
        rate = rng.beta(2, 18, 256)  # members differ: mean 0.1
        counts = rng.poisson(8, 256).astype(float)
        found = proportion(counts, rng.binomial(counts.astype(int), rate).astype(float))
        covered += found.lower <= 0.1 <= found.upper
    # At coverage .95 the share is above .94 with probability .98 in 2,000 runs.
    assert covered / runs > 0.94


def test_difference_covers_and_is_none_without_data() -> None:
    rng = np.random.default_rng(3)
    covered, runs = 0, 2_000
    for _ in range(runs):
        rates = []
        for mean in (0.1, 0.12):
            rate = rng.beta(20 * mean, 20 * (1 - mean), 256)
            counts = rng.poisson(8, 256).astype(float)
            rates.append(proportion(counts, rng.binomial(counts.astype(int), rate).astype(float)))
        found = difference(rates[1], rates[0])
        assert found is not None
        covered += found[1] <= 0.02 <= found[2]
    assert covered / runs > 0.94
    assert difference(rates[0], proportion(np.zeros(256), np.zeros(256))) is None
