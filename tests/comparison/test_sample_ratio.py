"""Were variants shown as often as logged? False alarms and missed breaks are both counted."""

import csv
import gzip
from collections import defaultdict

import numpy as np
import pytest

from artwork_bandit.comparison import sample_ratio
from artwork_bandit.comparison.sample_ratio import NOTHING, check
from artwork_bandit.domain import ActionSet
from artwork_bandit.store.rollups import Rollup
from tests.samples import SHARED


def sums(shown: np.ndarray, propensity: np.ndarray, variants: int) -> tuple[np.ndarray, ...]:
    counts = np.bincount(shown, minlength=variants).astype(float)
    weight = np.bincount(shown, 1 / propensity, variants)
    return counts, weight, np.bincount(shown, 1 / propensity**2, variants)


def test_on_a_uniform_log_it_is_pearsons() -> None:
    counts = np.array([100.0, 120.0, 80.0])
    found = check(counts, counts * 3, counts * 9, 1.0)
    assert found.degrees == 2
    assert found.statistic == pytest.approx(20**2 / 100 * 2)
    assert found.p_value == pytest.approx(np.exp(-found.statistic / 2))


def test_of_another_system_only_what_was_drawn_evenly_is_checked() -> None:
    """Nobody knows how rarely it may have shown a variant."""
    rng = np.random.default_rng(1)
    assert check(*policy_log(rng, 4_000, lost=0.9), None) == NOTHING
    counts = np.array([100.0, 300.0, 80.0])
    assert check(counts, counts * 3, counts * 9, None).broken


def policy_log(rng: np.random.Generator, rows: int, lost: float = 0.0) -> tuple[np.ndarray, ...]:
    """A policy with its floor; `lost` of the impressions of variant 2 never arrive."""
    wanted = rng.integers(3, size=rows)
    pmf = np.full((rows, 4), 0.05)
    pmf[np.arange(rows), wanted] = 0.85
    shown = (rng.random(rows)[:, None] > pmf.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    kept = (shown != 2) | (rng.random(rows) >= lost)
    return sums(shown[kept], pmf[np.arange(rows), shown][kept], 4)


def test_false_alarms_of_a_learning_policy_are_rarer_than_promised() -> None:
    found = [check(*policy_log(np.random.default_rng(i), 3000), 0.2) for i in range(1500)]
    values = np.array([f.p_value for f in found])
    assert np.mean(values < 0.05) < 0.05
    assert not any(f.broken for f in found)


@pytest.mark.parametrize(
    ("rows", "likely"), [(199, 0.95), (199, 0.958), (500, 0.98), (1000, 0.9625)]
)
def test_a_policy_that_is_nearly_sure_of_itself_is_no_false_alarm(rows: int, likely: float) -> None:
    rng = np.random.default_rng(8)
    pmf = np.array([likely, *[(1 - likely) / 3] * 3])
    counts = rng.multinomial(rows, pmf, size=4000).astype(float)
    found = [check(c, c / pmf, c / pmf**2, 4 * (1 - likely) / 3) for c in counts]
    assert np.mean([f.broken for f in found]) < 0.001


@pytest.mark.parametrize("rows", [200, 400, 2000])
@pytest.mark.parametrize("variants", [6, 9])
def test_members_whose_favourites_differ_are_no_false_alarm(rows: int, variants: int) -> None:
    """Most variants are now nearly certain, now hardly ever shown: none of the few rows that carry
    the weight may have come."""
    rng, broken = np.random.default_rng(2), 0
    for _ in range(400):
        favourite = rng.integers(variants, size=8)[rng.integers(8, size=rows)]
        at_random = rng.random(rows) < 0.05
        shown = np.where(at_random, rng.integers(variants, size=rows), favourite)
        propensity = 0.05 / variants + 0.95 * (shown == favourite)
        broken += check(*sums(shown, propensity, variants), 0.05).broken
    assert broken == 0


def test_lost_impressions_are_seen() -> None:
    # What the floor draws varies a lot: it takes more to be seen under a policy than at random.
    found = [check(*policy_log(np.random.default_rng(i), 20_000, lost=0.4), 0.2) for i in range(50)]
    assert np.mean([f.broken for f in found]) > 0.9
    found = [check(*policy_log(np.random.default_rng(i), 2_000, lost=1.0), 0.2) for i in range(50)]
    assert np.mean([f.broken for f in found]) > 0.9
    rng = np.random.default_rng(1)
    shown = rng.integers(4, size=6000)
    kept = (shown != 2) | (rng.random(6000) > 0.15)
    assert check(*sums(shown[kept], np.full(6000, 0.25)[kept], 4), 1.0).broken


def test_little_says_nothing() -> None:
    assert check(np.array([3.0, 1.0]), np.array([6.0, 2.0]), np.array([12.0, 4.0]), 1.0) == NOTHING
    assert check(np.array([50.0]), np.array([50.0]), np.array([50.0]), 1.0) == NOTHING
    assert NOTHING.p_value is None
    assert not NOTHING.broken


def row(day: int, variant: str, counts: int) -> Rollup:
    return Rollup(
        day=day, action_set_id=1, cell="explore", variant_id=variant, bucket=0,
        impressions=counts, units=counts, plays=0, drawn=counts, drawn_plays=0,
        weight=2.0 * counts, weight2=4.0 * counts, weighted_plays=0.0,
    )  # fmt: skip


def test_the_broken_week_is_named_and_no_other() -> None:
    sets = {1: ActionSet(action_set_id=1, title_id="t", slot="artwork", revision_ids=(1, 2),
                         variant_ids=("a", "b"))}  # fmt: skip
    monday = 20_000 - (20_000 + 3) % 7
    rows = [row(monday + d, v, n) for d in (0, 6) for v, n in (("a", 500), ("b", 510))]
    rows += [row(monday + 7, "a", 500), row(monday + 7, "b", 300)]
    found = sample_ratio.by_week(rows, sets, 0.2)
    assert set(found) == {monday, monday + 7}
    assert not found[monday].broken
    assert found[monday + 7].broken


# To 201402 in the whole archive; of that week this half has no test that is off.
BROKEN = {f"2013{week}" for week in range(25, 53)} | {"201400", "201401"}
UPWORTHY = SHARED / "data" / "upworthy" / "packages.csv.gz"


@pytest.mark.skipif(not UPWORTHY.exists(), reason="the Upworthy archive is not here")
def test_on_real_tests_every_broken_week_fires_and_hardly_any_other() -> None:
    arms: dict[tuple[str, str], list[int]] = defaultdict(list)
    with gzip.open(UPWORTHY, "rt", newline="") as file:
        for line in csv.DictReader(file):
            arms[line["test_week"], line["clickability_test_id"]].append(int(line["impressions"]))
    weeks = defaultdict(lambda: NOTHING)
    for (week, _test), shown in arms.items():
        counts = np.array(shown, float)
        weeks[week] += check(counts, counts * len(counts), counts * len(counts) ** 2, 1.0)
    broken = {week for week, found in weeks.items() if found.broken}
    assert broken == {w for w in weeks if w in BROKEN}
