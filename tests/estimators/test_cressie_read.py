"""The Cressie-Read interval beside another's code, and what it must do whatever the numbers."""

import numpy as np
import pytest
from estimators.bandits import cressieread, ips, snips

from artwork_bandit.estimators import BucketSums, bootstrap, cressie_read
from artwork_bandit.estimators.cressie_read import Corner
from artwork_bandit.estimators.ips import IPS
from artwork_bandit.estimators.snips import SNIPS
from artwork_bandit.estimators.sums import Rows, estimate, value


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return weights, rewards and the largest weight there can be."""
    rng = np.random.default_rng(seed)
    n, heaviest = int(rng.integers(5, 400)), float(rng.choice([2.5, 10, 50]))
    weight = np.minimum(rng.exponential(rng.choice([0.5, 1, 1.4]), n), heaviest)
    reward = (rng.random(n) < rng.choice([0.05, 0.3, 0.9])) * 1.0
    return weight, rng.random(n) if seed % 3 == 0 else reward, heaviest


def ours(weight: np.ndarray, reward: np.ndarray, heaviest: float) -> cressie_read.Estimate:
    n = len(weight)
    sums = BucketSums.of(np.stack([weight, weight * reward], axis=1), np.arange(n), n)
    corners = [
        Corner(weight=w, lowest=0.0, likely=w * reward.mean(), highest=w) for w in (0.0, heaviest)
    ]
    return cressie_read.estimate(sums, corners, (0.0, 1.0))


@pytest.mark.parametrize("seed", range(40))
def test_with_clusters_of_one_row_it_is_vw_estimators_interval(seed: int) -> None:
    weight, reward, heaviest = draw(seed)
    point, interval = cressieread.Estimator(0, heaviest), cressieread.Interval(0, heaviest)
    for w, r in zip(weight.tolist(), reward.tolist(), strict=True):
        point.add_example(1.0, r, w)
        interval.add_example(1.0, r, w)
    found = ours(weight, reward, heaviest)
    lower, upper = interval.get()
    assert found.estimate == pytest.approx(point.get(), abs=1e-9)
    # Where their interval has no width they leave 1.42e-9 on each side.
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=1.5e-9)


@pytest.mark.parametrize("seed", range(5))
def test_ips_and_snips_are_vw_estimators(seed: int) -> None:
    weight, reward, _ = draw(seed)
    none = np.zeros(len(weight))
    rows = Rows(
        weight=weight, reward=reward, cluster=np.arange(len(weight)), target_q=none, shown_q=none,
        matched=none,
    )  # fmt: skip
    for own, other in ((IPS(), ips.Estimator()), (SNIPS(), snips.Estimator())):
        for w, r in zip(weight.tolist(), reward.tolist(), strict=True):
            other.add_example(1.0, r, w)
        sums = BucketSums.of(own.columns(rows), rows.bucket)
        assert value(sums) == pytest.approx(other.get(), abs=1e-9)


def test_rows_repeated_within_members_do_not_narrow_it() -> None:
    rng = np.random.default_rng(1)
    weight, reward = rng.exponential(size=500), (rng.random(500) < 0.2) * 1.0
    alone, naive = ours(weight, reward, 3.0), ours(np.tile(weight, 5), np.tile(reward, 5), 3.0)
    columns = np.repeat(np.stack([weight, weight * reward], axis=1), 5, axis=0)
    sums = BucketSums.of(columns, np.repeat(np.arange(500), 5), 500)
    corners = [
        Corner(weight=w, lowest=0.0, likely=w * reward.mean(), highest=w) for w in (0.0, 3.0)
    ]
    repeated = cressie_read.estimate(sums, corners, (0.0, 1.0))
    assert repeated.upper - repeated.lower == pytest.approx(alone.upper - alone.lower, rel=0.1)
    assert naive.upper - naive.lower < 0.55 * (alone.upper - alone.lower)


def test_a_heavier_row_that_could_come_widens_it() -> None:
    weight, reward, _ = draw(2)
    widths = [e.upper - e.lower for e in (ours(weight, reward, h) for h in (50.0, 500.0))]
    assert widths[1] > widths[0]


def test_an_interval_stays_within_the_rewards_bounds() -> None:
    found = ours(np.array([1.0, 30.0, 0.1]), np.array([1.0, 1.0, 0.0]), 50.0)
    assert 0.0 <= found.lower <= found.upper <= 1.0


def test_the_bootstrap_agrees_with_the_delta_method_on_an_easy_log() -> None:
    rng = np.random.default_rng(3)
    n = 20_000
    none = np.zeros(n)
    rows = Rows(
        weight=rng.uniform(0.5, 1.5, n), reward=(rng.random(n) < 0.3) * 1.0,
        cluster=rng.integers(65_536, size=n), target_q=none, shown_q=none, matched=none,
    )  # fmt: skip
    sums = BucketSums.of(SNIPS().columns(rows), rows.bucket)
    delta = estimate(SNIPS(), sums)
    lower, upper = bootstrap.interval(sums, 0.95, rng)
    assert upper - lower == pytest.approx(delta.upper - delta.lower, rel=0.15)
