"""Variants that are clicked more and come to less: found by what clicks came to."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from artwork_bandit.domain import Context, ReplayBlock
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.bundle import decode, sha256
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import train
from artwork_bandit.training.misleading import Clicked, expected_effects, misleads
from artwork_bandit.training.start import Start
from tests.taught import log, lookup, variants

ARTWORK = SLOTS["artwork"]
HOW = train.Settings(priors=lambda rows: Priors())
TITLES, EACH = 100, 6
DAY = 86_400_000_000


def clicked(
    seed: int, *, rho: float = 1 / 6, delta: float = 2.0, rows: int = 60, spread: float = 0.0,
    by_title: float = 0.5,
) -> Clicked:  # fmt: skip
    """Return what clicks came to where the third variant of each title misleads."""
    rng = np.random.default_rng(seed)
    title = np.repeat(np.arange(TITLES), EACH)
    bad = np.tile(np.arange(EACH) == 2, TITLES)
    rate = 0.15 * np.exp(rng.normal(0, 0.3, TITLES))[title] * np.exp(rng.normal(0, 0.15, len(bad)))
    odds = rng.normal(0, by_title, TITLES)[title] + rng.normal(0, spread, len(bad))
    earns = 1 / (1 + np.exp(-odds))
    shown = rng.poisson(rows, len(bad)).astype(float)
    clicks = rng.binomial(shown.astype(int), np.minimum(rate * np.where(bad, delta, 1), 1))
    earned = rng.binomial(clicks, earns * np.where(bad, rho, 1)).astype(float)
    return Clicked(
        title=title, rows=shown, clicks=clicks.astype(float), earned=earned,
        all_earned=float(earned.sum()),
    )  # fmt: skip


def test_those_that_mislead_are_found_and_few_others_are() -> None:
    bad = np.tile(np.arange(EACH) == 2, TITLES)
    for seed in range(5):
        m, rho = misleads(clicked(seed))
        assert rho == pytest.approx(1 / 6, abs=0.04)
        assert (m[bad] > 0.5).mean() > 0.85
        assert (m[~bad] > 0.5).mean() < 0.03
        means, _ = expected_effects(clicked(seed))
        assert means[bad].mean() < -1.2
        assert means[~bad].mean() > -0.06


@pytest.mark.parametrize("unlike", [{}, {"by_title": 1.5}, {"spread": 0.2}, {"rows": 400}])
def test_where_none_misleads_none_is_said_to(unlike: dict[str, Any]) -> None:
    """Titles that are given up whatever picture shows them are not told of, nor are differences."""
    for seed in range(10):
        m, rho = misleads(clicked(seed, rho=1.0, delta=1.0, **unlike))
        assert rho == 1.0
        assert not m.any()


def test_where_clicks_say_little_or_are_not_how_it_was_earned_nothing_is_said() -> None:
    seen = clicked(1)
    for other in (clicked(1, rows=3), replace(seen, all_earned=1.2 * seen.all_earned),
                  replace(seen, clicks=0 * seen.clicks, earned=0 * seen.earned)):  # fmt: skip
        means, m = expected_effects(other)
        assert not means.any()
        assert not m.any()


def misleading_log(rows: int) -> ReplayBlock:
    """The third variant of each of thirty titles is clicked twice as often, for a sixth."""
    rng = np.random.default_rng(7)
    block = log(rows, titles=30, liking=0.0)
    bad = block.chosen == 2
    clicks = rng.random(rows) < np.where(bad, 0.4, 0.2)
    earned = clicks & (rng.random(rows) < np.where(bad, 1 / 12, 1 / 2))
    return replace(block, reward=earned.astype(float), clicked=clicks.astype(float))


def own_effects(made: train.Trained, titles: int = 30) -> np.ndarray:
    learned = made.bundle.learned
    assert learned is not None
    columns = VariantColumns.of([v for title in variants(titles) for v in title])
    return made.bundle.model.own(columns.keys)[:, 0].reshape(titles, 4) / learned.per_logit


def test_a_model_expects_little_of_what_misleads_and_goes_on_to() -> None:
    block = misleading_log(6_000)
    made = train.train(InMemory([block]), lookup, ARTWORK, HOW)
    blind = train.train(InMemory([replace(block, clicked=None)]), lookup, ARTWORK, HOW)
    assert own_effects(made)[:, 2].mean() < own_effects(blind)[:, 2].mean() - 0.7
    others = [0, 1, 3]
    assert np.abs(own_effects(made)[:, others] - own_effects(blind)[:, others]).mean() < 0.1
    assert set(made.misleading) <= {v.variant_id for title in variants(30) for v in title}
    assert np.mean([name.endswith("a2") for name in made.misleading]) > 0.9
    assert len(made.misleading) > 20
    # Stored, bound and scored; canaries are checked.
    data = made.bundle.encode()
    bundle = decode(data, sha256(data))
    columns = VariantColumns.of([v for title in variants(30) for v in title])
    scores = BoundScorer.of(bundle.model, columns).scores(
        [Context()], np.zeros(30, int), np.arange(120), np.arange(0, 121, 4)
    )  # fmt: skip
    assert (scores.reshape(30, 4).argmin(axis=1) == 2).mean() > 0.8
    # What rows told fades; what is expected of a variant does not.
    assert bundle.learned is not None
    start = Start.of(bundle).aged(bundle.learned.last + 3_650 * DAY)
    assert start.model.own_effects[:, 0] == pytest.approx(start.own_means, abs=1e-3)
    later = replace(block, occurred_at=block.occurred_at + DAY, clicked=None)
    then = train.train(InMemory([later]), lookup, ARTWORK, HOW, start=Start.of(bundle))
    assert own_effects(then)[:, 2].mean() < own_effects(blind)[:, 2].mean() - 0.5
    assert then.bundle.learned is not None
    assert then.bundle.learned.own_means == bundle.learned.own_means


def test_clicks_that_nobody_knows_of_are_left_out() -> None:
    block = misleading_log(6_000)
    half = np.arange(6_000) % 2 == 0
    unknown = replace(block, clicked=np.where(half, block.clicked, np.nan))
    made = train.train(InMemory([unknown]), lookup, ARTWORK, HOW)
    assert len(made.misleading) > 5
    parts = [unknown.take(np.arange(i, i + 1_500)) for i in range(0, 6_000, 1_500)]
    again = train.train(InMemory(parts), lookup, ARTWORK, HOW)
    assert again.bundle.encode() == made.bundle.encode()


def test_priors_are_chosen_beside_what_is_expected() -> None:
    made = train.train(InMemory([misleading_log(6_000)]), lookup, ARTWORK, train.Settings())
    assert made.tuned is not None
    assert own_effects(made)[:, 2].mean() < -1.0
