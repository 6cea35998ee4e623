"""A confidence sequence covers at every look at once."""

import numpy as np

from artwork_bandit.estimators.sequence import half_width


def test_looking_often_raises_no_false_alarm() -> None:
    """1,000 streams of no difference, looked at 60 times each."""
    rng = np.random.default_rng(1)
    looks = np.arange(1_000, 61_000, 1_000)
    steps = rng.normal(0, np.sqrt(1_000), (1_000, len(looks)))
    means = steps.cumsum(axis=1) / looks
    se = 1 / np.sqrt(looks)
    width = np.array([half_width(s, n, 0.05, 20_000) for s, n in zip(se, looks, strict=True)])
    ever = (np.abs(means) > width).any(axis=1).mean()
    plainly = (np.abs(means) > 1.96 * se).any(axis=1).mean()
    assert plainly > 0.2
    assert ever <= 0.05


def test_it_narrows_with_rows_and_widens_with_confidence() -> None:
    assert half_width(0.01, 40_000, 0.05, 20_000) < 2 * half_width(0.005, 160_000, 0.05, 20_000)
    assert half_width(1.0, 1_000, 0.01, 1_000) > half_width(1.0, 1_000, 0.05, 1_000)
