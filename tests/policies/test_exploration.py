"""Closed forms: sums, floors, and hand-checkable numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies import exploration, ragged
from artwork_bandit.policies.exploration import FORMS, Exploration

pages = st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=12), min_size=1, max_size=6)


def flat(page: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([np.array(s) for s in page]), np.cumsum([0, *(len(s) for s in page)])


@given(pages, st.sampled_from(FORMS), st.floats(0, 1e5), st.floats(1e-3, 1))
def test_pmf_sums_to_1_and_keeps_its_floor(
    page: list[list[float]], form: str, strength: float, share: float
) -> None:
    scores, offsets = flat(page)
    pmf = Exploration(form=form, strength=strength, explored_share=share).pmf(scores, offsets)
    exploration.check(pmf, offsets, share)


@given(pages, st.sampled_from(FORMS), st.floats(0, 1e4))
def test_a_page_and_its_single_titles_give_the_same_pmf(
    page: list[list[float]], form: str, strength: float
) -> None:
    how = Exploration(form=form, strength=strength, explored_share=0.05)
    together = how.pmf(*flat(page))
    alone = np.concatenate([how.pmf(*flat([scores])) for scores in page])
    assert np.allclose(together, alone, rtol=0, atol=1e-15)


def test_squarecb_by_hand() -> None:
    pmf = exploration.squarecb(np.array([0.3, 0.1, 0.2]), np.array([0, 3]), 10.0)
    assert pmf == pytest.approx([1 - 1 / 5 - 1 / 4, 1 / 5, 1 / 4])


def test_softmax_by_hand() -> None:
    pmf = exploration.softmax(np.array([np.log(2.0), 0.0]), np.array([0, 2]), 1.0)
    assert pmf == pytest.approx([2 / 3, 1 / 3])


def test_floor_is_additive() -> None:
    pmf = exploration.with_floor(np.array([1.0, 0, 0, 0]), np.array([0, 4]), 0.2)
    assert pmf == pytest.approx([0.85, 0.05, 0.05, 0.05])


def test_greedy_breaks_ties_by_order() -> None:
    assert exploration.greedy(np.array([1.0, 1.0, 0.0]), np.array([0, 3])).tolist() == [1, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    how = Exploration(form="greedy", strength=0, explored_share=0.1)
    with pytest.raises(ArithmeticError):
        how.pmf(np.array([0.1, bad]), np.array([0, 2]))


@pytest.mark.parametrize("pmf", [[0.5, 0.4], [np.nan, 1.0], [0.999, 0.001], [1.2, -0.2]])
def test_a_pmf_that_could_lie_is_refused(pmf: list[float]) -> None:
    with pytest.raises(ArithmeticError):
        exploration.check(np.array(pmf), np.array([0, 2]), 0.1)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_explored_share_must_be_a_share(share: float) -> None:
    with pytest.raises(InvalidInput, match="explored share"):
        Exploration(form="greedy", strength=0, explored_share=share)


@pytest.mark.parametrize(
    ("arguments", "form", "strength", "share"),
    [
        ("--epsilon 0.2", "greedy", 0.0, 0.2),
        ("--softmax --lambda 4", "softmax", 4.0, 0.0),
        ("--squarecb --gamma_scale 30 --gamma_exponent 0", "squarecb", 30.0, 0.0),
    ],
)
def test_the_closed_forms_are_vws_own_formulas_given_its_scores(
    arguments: str, form: str, strength: float, share: float
) -> None:
    import vowpalwabbit

    rng = np.random.default_rng(1)
    vw = vowpalwabbit.Workspace(
        f"--cb_explore_adf {arguments} --cb_type mtr --quiet --noconstant -l 0.3 --power_t 0"
    )
    for _ in range(400):
        some, shown = rng.permutation(6)[:4], int(rng.integers(4))
        cost = -float(rng.random() < 0.1 * (some[shown] + 1))
        label = f"{shown}:{cost}:0.25 "
        vw.learn([f"{label if i == shown else ''}|a v{v}" for i, v in enumerate(some)])
    costs = np.array([vw.get_weight_from_name(f"v{v}", "a") for v in range(6)])
    assert np.std(costs) > 0.1
    offsets = np.array([0, 4])
    for _ in range(20):
        some = rng.permutation(6)[:4]
        scores = -costs[some]  # VW speaks of costs
        match form:
            case "greedy":
                ours = exploration.greedy(scores, offsets)
            case "softmax":
                ours = exploration.softmax(scores, offsets, strength)
            case _:
                ours = exploration.squarecb(scores, offsets, strength)
        if share:
            ours = exploration.with_floor(ours, offsets, share)
        theirs = vw.predict([f"|a v{v}" for v in some])
        assert ours == pytest.approx(theirs, abs=1e-6)  # float32
    vw.finish()


@pytest.mark.parametrize("form", ["softmax", "squarecb"])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_a_strength_costs_what_was_allowed_however_large_rewards_are(
    form: exploration.Form, scale: float
) -> None:
    rng = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 9, 500))])
    scores = scale * rng.normal(0, 0.02, offsets[-1])
    strength = exploration.strength_that_costs(0.03, form, scores, offsets)
    pmf = exploration.weigh(form, scores, offsets, strength)
    best = ragged.maximum(scores, offsets).sum()
    gain = best - (scores * exploration.uniform(offsets)).sum()
    assert (best - (scores * pmf).sum()) / gain == pytest.approx(0.03, rel=1e-3)


def test_where_nothing_is_to_be_gained_any_strength_will_do() -> None:
    offsets = np.array([0, 3, 5])
    strength = exploration.strength_that_costs(0.03, "squarecb", np.zeros(5), offsets)
    assert np.isfinite(strength)
    pmf = exploration.weigh("squarecb", np.zeros(5), offsets, strength)
    assert pmf == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)
