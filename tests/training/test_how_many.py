"""How many of a title's variants are of a kind, beside every way in which they could be."""

from itertools import product

import numpy as np
import pytest
from scipy.special import comb, expit

from artwork_bandit.training.how_many import AS_TITLES, HowMany, Which

TOLD = {4: np.array([30.0, 0.0, 12.5, 2.0, 0.0])}


def every_way(
    how: HowMany, title: np.ndarray, odds: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    chances, at_level = np.zeros(odds.shape), np.zeros(levels.shape)
    numbers: dict[int, np.ndarray] = {}
    for t in np.unique(title):
        at = np.flatnonzero(title == t)
        n = len(at)
        k = np.arange(n + 1)
        likely = comb(n, k) ** how.nu * np.exp(how.theta * k)
        likely /= likely.sum()
        if n in how.told:
            likely = (AS_TITLES * likely + how.told[n]) / (AS_TITLES + how.told[n].sum())
        likely /= comb(n, k)
        found = {
            (g, some): likely[sum(some)] * np.exp(levels[g, t] + odds[g, at] @ some)
            for g in range(len(levels))
            for some in product((0, 1), repeat=n)
        }
        total = sum(found.values())
        numbers.setdefault(n, np.zeros(n + 1))
        for (g, some), chance in found.items():
            chances[g, at] += np.array(some) * chance / total
            at_level[g, t] += chance / total
            numbers[n][sum(some)] += chance / total
    return chances, at_level, numbers


@pytest.mark.parametrize("how", [HowMany(-1.6), HowMany(-20.0, 14.0), HowMany(-0.7, 0.1, TOLD)])
def test_which_are_of_the_kind_is_added_up_over_all_ways(how: HowMany) -> None:
    rng = np.random.default_rng(1)
    title = rng.permutation(np.repeat(np.arange(12), rng.integers(1, 7, 12)))
    odds = rng.normal(-1, 4, (3, len(title)))
    levels = rng.normal(-500, 3, (3, 12))
    found = how.which(title, odds, levels)
    chances, at_level, numbers = every_way(how, title, odds, levels + 500)
    assert found.chances == pytest.approx(chances, abs=1e-12)
    assert found.levels == pytest.approx(at_level, abs=1e-12)
    assert found.numbers.keys() == numbers.keys()
    for n, titles in numbers.items():
        assert found.numbers[n] == pytest.approx(titles, abs=1e-11)


def test_each_by_itself_is_bayes_rule_however_sure_and_however_many() -> None:
    rng = np.random.default_rng(2)
    title = np.repeat(np.arange(4), [1, 7, 60, 1_000])
    odds = rng.normal(0, 30, (1, len(title)))
    share = 0.07
    found = HowMany.independent(share).which(title, odds, np.zeros((1, 4)))
    expected = expit(np.log(share / (1 - share)) + odds)
    assert found.chances == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found.numbers[1_000] @ np.arange(1_001) == pytest.approx(expected[0, -1_000:].sum())


def numbers(how_many: np.ndarray, n: int) -> Which:
    told = np.bincount(how_many, minlength=n + 1).astype(float)
    return Which(np.zeros(0), np.zeros(0), {n: told})


def likely(how: HowMany, n: int) -> np.ndarray:
    """Return how likely each number is, by asking where nothing was seen."""
    return how.which(np.zeros(n, int), np.zeros((1, n)), np.zeros((1, 1))).numbers[n]


def test_what_fits_is_one_each_or_by_chance_or_most_of_a_few() -> None:
    rng = np.random.default_rng(3)
    start = HowMany.independent(0.1)
    one_each = start.fitted(numbers(np.ones(300, int), 6))
    assert likely(one_each, 6)[1] > 0.98
    by_chance = start.fitted(numbers(rng.binomial(6, 0.2, 5_000), 6))
    assert by_chance.nu == pytest.approx(1, abs=0.15)
    assert likely(by_chance, 6) @ np.arange(7) == pytest.approx(1.2, abs=0.05)
    of_few = start.fitted(numbers(np.where(np.arange(300) % 10 == 0, 5, 0), 6))
    assert of_few.nu < 0.3
    assert likely(of_few, 6)[[0, 5]] == pytest.approx([0.9, 0.1], abs=0.02)


def test_numbers_that_no_curve_follows_are_told_where_titles_are_many() -> None:
    many = numbers(np.where(np.arange(300) % 3 == 0, 3, 0), 6)
    found = HowMany.independent(0.1).fitted(many)
    assert likely(found, 6)[[0, 3]] == pytest.approx([2 / 3, 1 / 3], abs=0.02)
    few = HowMany.independent(0.1).fitted(Which(many.chances, many.levels, {6: np.eye(7)[3]}))
    assert likely(few, 6)[3] < 0.5


def test_a_few_titles_say_little_of_how_many() -> None:
    assert HowMany.independent(0.2).fitted(numbers(np.ones(2, int), 6)).nu < 3


def test_titles_of_several_sizes_are_fitted_together() -> None:
    rng = np.random.default_rng(4)
    told = {n: np.bincount(rng.binomial(n, 0.3, 4_000), minlength=n + 1) * 1.0 for n in (2, 5, 40)}
    found = HowMany.independent(0.05).fitted(Which(np.zeros(0), np.zeros(0), told))
    assert found.nu == pytest.approx(1, abs=0.1)
    for n in told:
        assert likely(found, n) @ np.arange(n + 1) == pytest.approx(0.3 * n, rel=0.05)
