"""The compiled model equals Vowpal Wabbit itself; hostile values never reach it."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies import probing, vowpal_text
from artwork_bandit.policies.doubtful import Doubtful
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.linear import EncodedVariants, LinearModel
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.vowpal import Form, Narrowed
from artwork_bandit.training import vowpal as runner

NOTHING = np.empty(0, np.int64)
FORM = Form(Priors(), [(NOTHING, NOTHING)], 2, [0, 1], [1], [0, 1], 0)


@pytest.mark.parametrize(("seed", "one_by_one"), [(0, False), (1, False), (2, False), (3, True)])
def test_compiled_scores_equal_vw_on_random_models_contexts_and_variants(
    seed: int, one_by_one: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    n_context, n_variant, n_own = 12, 9, 20
    pairs = [(np.array([0, 3, 5]), np.array([1, 2, 7])), (np.array([1, 3]), np.array([8, 6]))]
    priors = Priors(cross=0.3, own_cross=0.3, genre_cross=0.2 * seed, title_tastes=[0.4])
    form = Form(
        priors,
        pairs,
        7,
        list(range(4, 12)),
        [6, 7],
        [0, 1, 4],
        4,
        [1],
        doubtful=Doubtful(np.arange(n_own) % 4, np.arange(30) % 4),
        genre_spreads=rng.random((4, 2)) if one_by_one else None,
        narrowed=Narrowed(affinity=[0.5, 0.8]),
    )
    assert ("-q he" in form.interactions) == (seed in (1, 2))
    acting = [6, 7, 0, 1, 2, 3]  # taste factors, and the genres that doubtful variants may show
    assert form.own_columns == acting
    assert form.own_cross_priors.round(6).tolist() == [0.3, 0.32]  # the latter says much
    lines = []
    for _ in range(3_000):
        u, x = rng.normal(size=n_context), (rng.random(n_variant) < 0.4) * rng.random(n_variant)
        own = int(rng.integers(n_own))
        reward = float(
            rng.random() < 1 / (1 + np.exp(-(u[0] * x[1] + u[6] * (own - 10) / 5 - 0.5)))
        )
        label = vowpal_text.labels(*np.array([[reward], [1.0], [-0.2]]))[0][0]
        lines.append(f"{label} {form.title_text(1)} {form.line(u, x, own)}\n")
    text, model = tmp_path / "examples.txt", tmp_path / "model.vw"
    text.write_text("".join(lines))
    runner.train(text, model, f"{runner.ARGUMENTS} {form.interactions}", seed, 18)
    contexts = rng.normal(size=(200, n_context)) * 2
    variants = rng.random((200, n_variant))
    numbers = rng.integers(n_own, size=200)
    with runner.predictor(model) as predict:
        weights = probing.compile_weights(predict, form, n_context, n_variant)
        own = probing.compile_own(predict, form, n_context, range(n_own))
        affinity = probing.compile_affinities(predict, form)
        crosses = probing.compile_genre_crosses(predict, form, 2)
        expected = [
            predict(form.line(u, x, int(k)))
            for u, x, k in zip(contexts, variants, numbers, strict=True)
        ]
    table = np.hstack([np.ones((200, 1)), variants])
    index = np.arange(200)
    compiled = LinearModel(
        context_encoder=ContextEncoder({}, []), variant_encoder=VariantEncoder([], {}),
        weights=weights, own_keys=np.empty(0, np.uint64), own_effects=own, own_columns=acting,
    )  # fmt: skip
    encoded = EncodedVariants.dense(table, own[numbers])
    found = compiled.scores(contexts, encoded, index, index)
    # float32: about 1e-7 of the sum of some hundred terms of size 1.
    assert np.max(np.abs(found - expected)) < 5e-5
    assert np.std(expected) > 0.1
    if form.genre_crosses:  # beside them an affinity adds to two
        liked = np.zeros((4, 2))
        for (i, j), effect in zip(pairs, affinity, strict=True):
            for context, variant in zip(i, j, strict=True):
                if context < 4 and variant >= 7:
                    liked[context, variant - 7] += effect
        assert np.allclose(weights[1:5, 8:], crosses + liked, atol=1e-4)
        assert np.abs(crosses).max() > 0.01
    assert (np.abs(own[:, 3:]).max(axis=1) > 1e-3).tolist() == [k % 4 > 1 for k in range(n_own)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_never_reach_vw(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        vowpal_text.columns_texts(np.array([[0.0, bad]]))
    with pytest.raises(ValueError, match="not finite"):
        FORM.affinity_texts(np.array([[bad]]))


@pytest.mark.parametrize(
    ("reward", "weight", "base"),
    [(np.nan, 1, 0), (1.1, 1, 0), (-0.1, 1, 0), (1, 0, 0), (1, np.inf, 0), (1, 1, np.nan)],
)
def test_labels_out_of_range_never_reach_vw(reward: float, weight: float, base: float) -> None:
    with pytest.raises(ValueError, match="label"):
        vowpal_text.labels(*np.array([[0.5, reward], [1, weight], [0, base]], float))


def test_a_reward_between_0_and_1_is_a_part_of_each_class() -> None:
    rows = np.array([[0.25, 0.0], [2.0, 1.0], [-1.5, 0.0]])
    assert vowpal_text.labels(*rows) == [["1 0.5 -1.50000", "-1 1.5 -1.50000"], ["-1 1 0.00000"]]


def test_a_training_that_fails_while_it_is_told_says_why(tmp_path: Path) -> None:
    model = tmp_path / "model.vw"
    many = ["1 |a b:1\n"] * 100_000
    wrong = "--no_such_option"
    with pytest.raises(BrokenModel, match=wrong), runner.training(model, wrong, 1, 18) as out:
        out.writelines(many)
    with pytest.raises(ZeroDivisionError), runner.training(model, runner.ARGUMENTS, 1, 18) as out:
        out.write(f"{1 / 0}")
    assert not model.exists()
    with runner.training(model, runner.ARGUMENTS, 1, 18) as out:
        out.writelines(f"{1 if i % 2 else -1} 1 0 |a {i % 2}\n" for i in range(100))
    with runner.predictor(model) as predict:
        assert predict("|a 1") > 1 > -1 > predict("|a 0")


def test_a_model_with_numbers_that_are_not_finite_is_refused() -> None:
    def predict(line: str) -> float:
        return np.nan if " 1" in line.partition("|o")[2] else -0.4

    with pytest.raises(BrokenModel, match="not finite"):
        probing.compile_own(predict, FORM, 2, [0, 1, 2])


def test_a_prior_of_0_leaves_a_group_out() -> None:
    assert "gv" in FORM.interactions
    none = msgspec.structs.replace(FORM, priors=Priors(cross=0, own_cross=0, own_genre=0))
    assert "gv" not in none.interactions
    assert "fo" not in none.interactions
    assert "x" in none.interactions.partition("--ignore_linear")[2]
    assert "x" not in FORM.interactions.partition("--ignore_linear")[2]


def test_columns_are_written_once_each_and_zeros_not_at_all() -> None:
    rows = np.array([[0.5, 0.0], [-1.25, 3.0], [0.0, 0.0]])
    assert vowpal_text.columns_texts(rows) == [" 0:0.5", " 0:-1.25 1:3", ""]
