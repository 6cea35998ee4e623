"""Every estimator: hand-checkable numbers, merging, and the reference values of another's code."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artwork_bandit.estimators import ESTIMATORS, BucketSums, Rows, estimate
from artwork_bandit.estimators.clipped_ips import ClippedIPS
from artwork_bandit.estimators.diagnostics import Support
from artwork_bandit.estimators.dr_os import DROS
from artwork_bandit.estimators.sums import standard_error, value
from artwork_bandit.estimators.switch_dr import SwitchDR
from tests.samples import SHARED

BY_NAME = {e.name: e for e in ESTIMATORS}


def random_rows(rng: np.random.Generator, n: int) -> Rows:
    return Rows(
        weight=rng.exponential(size=n),
        reward=rng.random(n),
        cluster=rng.integers(256, size=n),
        target_q=rng.random(n),
        shown_q=rng.random(n),
        matched=(rng.random(n) < 0.5).astype(float),
    )


def part(rows: Rows, kept: slice) -> Rows:
    return Rows(**{name: getattr(rows, name)[kept] for name in Rows.__slots__})


def two_rows() -> Rows:
    return Rows(
        weight=np.array([2.0, 0.5]), reward=np.array([1.0, 0.0]), cluster=np.array([0, 1]),
        target_q=np.array([0.4, 0.2]), shown_q=np.array([0.5, 0.1]), matched=np.array([1.0, 0.0]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ips", (2 * 1 + 0) / 2),
        ("snips", 2 / 2.5),
        ("dm", 0.3),
        ("dr", ((0.4 + 2 * 0.5) + (0.2 - 0.5 * 0.1)) / 2),
        ("sndr", 0.3 + (2 * 0.5 - 0.5 * 0.1) / 2.5),
        ("rejection", 1.0),
    ],
)
def test_by_hand(name: str, expected: float) -> None:
    rows = two_rows()
    sums = BucketSums.of(BY_NAME[name].columns(rows), rows.bucket)
    assert value(sums) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: e.name)
class TestContract:
    @given(seed=st.integers(0, 2**32), cut=st.integers(1, 99))
    def test_parts_merge_to_the_whole(self, estimator: object, seed: int, cut: int) -> None:
        rows = random_rows(np.random.default_rng(seed), 100)
        whole = BucketSums.of(estimator.columns(rows), rows.bucket)
        parts = [part(rows, slice(cut)), part(rows, slice(cut, None))]
        a, b = (BucketSums.of(estimator.columns(p), p.bucket) for p in parts)
        assert value(a + b) == pytest.approx(value(whole), rel=1e-12)
        assert standard_error(a + b) == pytest.approx(standard_error(whole), rel=1e-9)

    def test_no_interval_without_a_reason(self, estimator: object) -> None:
        rows = random_rows(np.random.default_rng(1), 1000)
        found = estimate(estimator, BucketSums.of(estimator.columns(rows), rows.bucket))
        assert (found.lower is None) == (found.reason is not None)

    def test_on_policy_rows_give_the_mean_reward_where_unbiased(self, estimator: object) -> None:
        rng = np.random.default_rng(2)
        n, q = 500, 0.3
        rows = Rows(
            weight=np.ones(n), reward=rng.random(n), cluster=rng.integers(256, size=n),
            target_q=np.full(n, q), shown_q=np.full(n, q), matched=np.ones(n),
        )  # fmt: skip
        if estimator.name in ("dm", "dr_os"):  # rest on q, or shrink weights of 1 as well
            return
        sums = BucketSums.of(estimator.columns(rows), rows.bucket)
        assert value(sums) == pytest.approx(rows.reward.mean(), abs=1e-12)


def test_ips_standard_error_without_clusters_is_the_textbook_one() -> None:
    rng = np.random.default_rng(3)
    rows = random_rows(rng, 200)
    sums = BucketSums.of(BY_NAME["ips"].columns(rows), np.arange(200))
    product = rows.weight * rows.reward
    assert standard_error(sums) == pytest.approx(product.std(ddof=1) / np.sqrt(200), rel=1e-12)


def test_the_numbers_worked_by_hand_for_20_rows() -> None:
    path = SHARED / "data" / "off-policy-by-hand" / "tiny20.json"
    if not path.exists():
        pytest.skip("the data folder with tiny20.json is not here")
    data = json.loads(path.read_text())
    expected, logged = data["expected"], data["rows"]
    pi = np.array([r["pi_e"] for r in logged])
    q = np.array([r["q_hat"] for r in logged])
    index, action = np.arange(20), np.array([r["action"] for r in logged])
    rows = Rows(
        weight=pi[index, action] / [r["pscore"] for r in logged],
        reward=np.array([r["reward"] for r in logged], float),
        cluster=index,
        target_q=(pi * q).sum(axis=1),
        shown_q=q[index, action],
        matched=(pi.argmax(axis=1) == action).astype(float),
    )
    named = {
        "ips": BY_NAME["ips"], "snips": BY_NAME["snips"], "dm": BY_NAME["dm"],
        "dr": BY_NAME["dr"], "sndr": BY_NAME["sndr"], "clip2": ClippedIPS(2.0),
        "switch_dr_2": SwitchDR(2.0), "dros_2": DROS(2.0), "replay_argmax": BY_NAME["rejection"],
    }  # fmt: skip
    sums = {name: BucketSums.of(e.columns(rows), rows.bucket) for name, e in named.items()}
    found = {name: value(each) for name, each in sums.items()}
    support = Support.of(rows)
    found |= {
        "ess": support.effective_sample_size,
        "w_mean": support.mean_weight,
        "w_max": support.largest,
        "ips_se": standard_error(sums["ips"]),
        "dr_se": standard_error(sums["dr"]),
        # The reference divides by n, ours by n - 1.
        "snips_se_delta": standard_error(sums["snips"]) * np.sqrt(19 / 20),
    }
    assert found.keys() == expected.keys()
    for name, number in expected.items():
        assert found[name] == pytest.approx(number, abs=1e-12), name
