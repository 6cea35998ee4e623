"""Corrected rates: by hand, against the truth, and whatever the order or the split."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artwork_bandit.estimators.contrast import (
    FEWEST_PLAYS,
    Contrast,
    Drawn,
    chance_to_be_best,
    contrast,
)

BUCKETS = 64


def drawn(
    shown: np.ndarray, propensity: np.ndarray, played: np.ndarray, bucket: np.ndarray, *,
    variants: int, day: np.ndarray | None = None, cell: np.ndarray | None = None,
    action_set: np.ndarray | None = None, eligible: np.ndarray | None = None,
    even_share: tuple[float, ...] = (1.0,),
) -> Drawn:  # fmt: skip
    """Rows as they come: sums of one decision each."""
    none = np.zeros(len(shown), np.int64)
    weight, played = 1 / propensity, played.astype(np.float64)
    return Drawn(
        day=none if day is None else day, cell=none if cell is None else cell,
        action_set=none if action_set is None else action_set, bucket=bucket, variant=shown,
        rows=np.ones(len(shown)), plays=played, weight=weight, weight2=weight**2,
        weighted_plays=weight * played,
        eligible=np.ones((1, variants), bool) if eligible is None else eligible,
        even_share=np.array(even_share), buckets=BUCKETS,
    )  # fmt: skip


def uniform(rng: np.random.Generator, rows: int, rates: list[float]) -> Drawn:
    shown = rng.integers(len(rates), size=rows)
    played = rng.random(rows) < np.array(rates)[shown]
    propensity = np.full(rows, 1 / len(rates))
    return drawn(shown, propensity, played, rng.integers(BUCKETS, size=rows), variants=len(rates))


def test_on_a_uniform_log_values_are_the_plain_rates() -> None:
    log = uniform(np.random.default_rng(1), 4000, [0.1, 0.2, 0.3])
    found = contrast(log)
    for v in range(3):
        plain = log.plays[log.variant == v].mean()
        assert found.value[v] == pytest.approx(plain, abs=1e-12)
        plays = log.plays[log.variant == v]
        assert found.value_error[v] == pytest.approx(plays.std() / math.sqrt(len(plays)), rel=0.3)
    assert found.difference[2, 0] == pytest.approx(found.value[2] - found.value[0])
    assert np.allclose(found.difference, -found.difference.T)
    assert found.enough.all()


def test_by_hand_with_two_days_and_propensities() -> None:
    # Day 0 predicts nothing (q = 0); on day 1 q = (plays + 20 mean) / (rows + 20) of day 0.
    shown = np.array([0, 1, 0, 1])
    propensity = np.array([0.5, 0.5, 0.8, 0.2])
    played = np.array([1, 0, 0, 1])
    log = drawn(shown, propensity, played, np.arange(4), variants=2, day=np.array([0, 0, 1, 1]))
    q = np.array([(1 + 20 * 0.5) / 21, (0 + 20 * 0.5) / 21])
    mean_q = 2 * q / 4  # two of four rows are of day 1
    weight = np.array([2 + 1.25, 2 + 5])
    surprise = np.array([2 * 1 - 1.25 * q[0], 5 * (1 - q[1])])
    assert contrast(log).value == pytest.approx(mean_q + surprise / weight, abs=1e-12)


def contextual(rng: np.random.Generator, rows: int) -> tuple[Drawn, np.ndarray]:
    """A policy shows variant 1 to those who play a lot and 0 to the others; 0 is truly better."""
    eager = rng.random(rows) < 0.5
    explores = rng.random(rows) < 0.2
    wanted = eager.astype(np.int64)
    floor = 0.1 / 2
    p_wanted = np.where(explores, 0.5, 1 - floor)
    shown = np.where(rng.random(rows) < p_wanted, wanted, 1 - wanted)
    propensity = np.where(shown == wanted, p_wanted, 1 - p_wanted)
    chance = np.where(eager, 0.4, 0.1) * np.where(shown == 0, 1.2, 1.0)
    played = rng.random(rows) < chance
    truth = np.array([1.2, 1.0]) * 0.25
    bucket = rng.integers(BUCKETS, size=rows)
    return drawn(shown, propensity, played, bucket, variants=2, cell=explores.astype(np.int64),
                 even_share=(0.1, 1.0)), truth  # fmt: skip


def test_where_raw_rates_rank_wrongly_corrected_ones_do_not() -> None:
    log, truth = contextual(np.random.default_rng(3), 60_000)
    raw = [log.plays[log.variant == v].mean() for v in range(2)]
    found = contrast(log)
    assert raw[1] > raw[0]  # the truth is the other way round
    assert found.difference[0, 1] > 3 * found.difference_error[0, 1]
    assert np.all(np.abs(found.value - truth) < 4 * found.value_error)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_and_split_of_the_sums_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log, _ = contextual(rng, 500)
    names = [f.name for f in fields(Drawn) if f.name not in ("eligible", "even_share", "buckets")]
    order = rng.permutation(500)
    mixed = replace(log, **{name: getattr(log, name)[order] for name in names})
    key = (log.cell * BUCKETS + log.bucket) * 2 + log.variant
    keys, at = np.unique(key, return_inverse=True)
    sums = ("rows", "plays", "weight", "weight2", "weighted_plays")
    summed = replace(
        log, day=np.zeros(len(keys), np.int64), action_set=np.zeros(len(keys), np.int64),
        cell=keys // (2 * BUCKETS), bucket=keys // 2 % BUCKETS, variant=keys % 2,
        **{name: np.bincount(at, getattr(log, name)) for name in sums},
    )  # fmt: skip
    for other in (mixed, summed):
        a, b = contrast(log), contrast(other)
        for f in fields(Contrast):
            assert np.allclose(getattr(a, f.name), getattr(b, f.name), equal_nan=True), f.name


def test_a_variant_added_later_is_contrasted_on_decisions_where_both_might_be_shown() -> None:
    # Everybody plays ten times as much after the change: variant 2 is shown only then, and equal.
    rng = np.random.default_rng(5)
    rows = 20_000
    late = np.arange(rows) >= rows // 2
    shown = np.where(late, rng.integers(3, size=rows), rng.integers(2, size=rows))
    propensity = np.where(late, 1 / 3, 1 / 2)
    played = rng.random(rows) < np.where(late, 0.3, 0.03)
    eligible = np.array([[True, True, False], [True, True, True]])
    log = drawn(
        shown, propensity, played, rng.integers(BUCKETS, size=rows), variants=3,
        action_set=late.astype(np.int64), day=late.astype(np.int64), eligible=eligible,
    )  # fmt: skip
    found = contrast(log)
    assert found.value[2] - found.value[0] > 0.1  # of other times, and not to be compared
    assert abs(found.difference[2, 0]) < 4 * found.difference_error[2, 0]
    assert found.difference_error[2, 0] < 0.02
    assert found.rows[2, 0] == rows // 2
    assert found.rows[1, 0] == rows


def test_where_the_heavy_rows_have_not_come_the_error_says_so() -> None:
    # A policy that shows variant 1 to nobody but its floor of one in a thousand, and it was lucky.
    rng = np.random.default_rng(7)
    rows = 4000
    shown = np.zeros(rows, np.int64)
    shown[:200] = 1
    propensity = np.where(shown == 0, 0.9995, 0.9)  # those 200 were wanted
    played = rng.random(rows) < 0.2
    log = drawn(shown, propensity, played, rng.integers(BUCKETS, size=rows), variants=2,
                even_share=(0.001,))  # fmt: skip
    found = contrast(log)
    naive = math.sqrt(0.2 * 0.8 / 200)
    assert found.value_error[1] > 5 * naive
    assert found.effective_rows[1] < 5
    assert not found.told[1]


def test_too_few_rows_or_buckets_are_not_enough() -> None:
    rng = np.random.default_rng(2)
    log = uniform(rng, 4000, [0.2, 0.2])
    assert contrast(log).enough.all()
    few = uniform(rng, 150, [0.5, 0.5])
    assert not contrast(few).enough.any()
    rare = contrast(replace(log, plays=np.zeros(4000), weighted_plays=np.zeros(4000)))
    assert rare.enough.all()  # that nobody plays it is known
    assert rare.value_error == pytest.approx(math.sqrt(FEWEST_PLAYS) / rare.effective_rows, rel=0.1)
    assert np.isnan(rare.lift(0, 1, 0.05)).all()
    crowded = replace(log, bucket=log.bucket % 10)
    assert not contrast(crowded).enough.any()


def test_a_variant_nobody_was_shown_is_unknown_and_harms_no_other() -> None:
    log = uniform(np.random.default_rng(1), 2000, [0.1, 0.3])
    with_third = replace(log, eligible=np.ones((1, 3), bool))
    found, alone = contrast(with_third), contrast(log)
    assert not found.told[2]
    assert found.value[:2] == pytest.approx(alone.value, abs=1e-12)
    assert found.difference[0, 1] == pytest.approx(alone.difference[0, 1])


def test_the_chance_to_be_best_is_of_the_best_and_adds_up() -> None:
    found = contrast(uniform(np.random.default_rng(1), 6000, [0.1, 0.3, 0.1]))
    chance = chance_to_be_best(found, np.array([0, 1, 2]))
    assert chance.sum() == pytest.approx(1.0)
    assert chance[1] > 0.99


@pytest.mark.parametrize("rates", [(0.002, 0.05), (0.02, 0.08), (0.05, 0.15), (0.05, 0.1)])
def test_lifts_cover_the_truth_at_one_look(rates: tuple[float, float]) -> None:
    rng = np.random.default_rng(11)
    truth, covered, values = rates[1] / rates[0] - 1, [], []
    for _ in range(300):
        found = contrast(uniform(rng, 3000, list(rates)))
        half = 1.96 * found.value_error
        values.append(np.abs(found.value - rates) <= half)
        lift, lower, upper = found.lift(1, 0, 0.05)
        if not math.isnan(lift):
            covered.append(lower <= truth <= upper)
    assert np.mean(values, axis=0).min() >= 0.93
    assert np.mean(covered) >= 0.96  # a confidence sequence: more than 95% at any one look
    assert len(covered) > 200


def test_a_lift_is_over_the_baselines_rate_on_the_same_decisions() -> None:
    """For a month a alone, at 10%; then a at 2% and c at 4%: the lift is +100%, not +20%."""
    rng = np.random.default_rng(12)
    rows, late = 60_000, np.arange(60_000) >= 30_000
    shown = np.where(late, rng.integers(2, size=rows), 0)
    chance = np.where(late, np.array([0.02, 0.04])[shown], 0.1)
    log = drawn(
        shown, np.where(late, 0.5, 1.0), rng.random(rows) < chance,
        rng.integers(BUCKETS, size=rows), variants=2, day=late.astype(np.int64),
        action_set=late.astype(np.int64), eligible=np.array([[True, False], [True, True]]),
    )  # fmt: skip
    found = contrast(log)
    lift, lower, upper = found.lift(1, 0, 0.05)
    assert lower < 1.0 < upper
    assert lift == pytest.approx(1.0, abs=0.3)
    assert found.common[0, 1] == pytest.approx(0.02, abs=0.003)
