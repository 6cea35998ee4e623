"""The compiled model equals Vowpal Wabbit itself; hostile values never reach it."""

from pathlib import Path

import numpy as np
import pytest

from artwork_bandit.policies import vowpal
from artwork_bandit.policies.linear import EncodedVariants, scores
from artwork_bandit.training import vowpal as runner


@pytest.mark.parametrize("seed", range(3))
def test_compiled_scores_equal_vw_on_random_models_contexts_and_variants(
    seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    n_context, n_variant, n_own = 12, 9, 20
    pairs = (np.array([0, 3, 5]), np.array([1, 2, 7]))
    lines = []
    for _ in range(3_000):
        u, x = rng.normal(size=n_context), (rng.random(n_variant) < 0.4) * rng.random(n_variant)
        own = int(rng.integers(n_own))
        reward = float(rng.random() < 1 / (1 + np.exp(-(u[0] * x[1] + u[3] - 0.5))))
        label = vowpal.labels(reward, 1.0)[0]
        lines.append(f"{label} |t 1 {vowpal.line(u, x, own, pairs).strip()}\n")
    text, model = tmp_path / "examples.txt", tmp_path / "model.vw"
    text.write_text("".join(lines))
    runner.train(text, model, runner.ARGUMENTS, seed)
    contexts = rng.normal(size=(200, n_context)) * 2
    variants = rng.random((200, n_variant))
    numbers = rng.integers(n_own, size=200)
    with runner.predictor(model) as predict:
        weights = vowpal.compile_weights(predict, n_context, n_variant, pairs)
        own = vowpal.compile_own(predict, range(n_own))
        expected = [
            predict(vowpal.line(u, x, int(k), pairs))
            for u, x, k in zip(contexts, variants, numbers, strict=True)
        ]
    table = np.hstack([np.ones((200, 1)), variants])
    index = np.arange(200)
    found = scores(weights, contexts, EncodedVariants.dense(table, own[numbers]), index, index)
    # float32: about 1e-7 of the sum of some hundred terms of size 1.
    assert np.max(np.abs(found - expected)) < 5e-5
    assert np.std(expected) > 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_never_reach_vw(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        vowpal.columns_text(np.array([0.0, bad]))
    with pytest.raises(ValueError, match="not finite"):
        vowpal.affinity_text(bad)


@pytest.mark.parametrize(
    ("reward", "weight"), [(np.nan, 1), (1.1, 1), (-0.1, 1), (1, 0), (1, np.inf)]
)
def test_labels_out_of_range_never_reach_vw(reward: float, weight: float) -> None:
    with pytest.raises(ValueError, match="label"):
        vowpal.labels(reward, weight)


def test_a_reward_between_0_and_1_is_a_part_of_each_class() -> None:
    assert vowpal.labels(0.25, 2.0) == ["1 0.5", "-1 1.5"]
    assert vowpal.labels(0.0, 1.0) == ["-1 1"]


def test_a_weight_that_vw_lost_to_nan_is_seen_though_vw_answers_zero() -> None:
    def predict(line: str) -> float:  # VW with a NaN weight for variant number 1
        return 0.0 if "|o 1:" in line else -0.4 + 0.5 * line.count("|o")

    assert vowpal.compile_own(predict, [0, 1, 2]) == pytest.approx([0.5, np.nan, 0.5], nan_ok=True)
