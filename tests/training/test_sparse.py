"""Crosses of genres with emphasis, of which few say much."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from artwork_bandit.policies import precision
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.priors import AFTER_CHANGE, Priors
from artwork_bandit.policies.vowpal import Form
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import information, sparse, train
from artwork_bandit.training.start import Start
from tests.taught import log, lookup
from tests.training.test_going_on import logits

NOTHING = np.empty(0, np.int64)
FORM = Form(Priors(genre_cross=0.1), [(NOTHING, NOTHING)], 2, [2, 3], [], [0, 1], 2)
HOW = train.Settings(priors=lambda rows: AFTER_CHANGE)


def test_a_cross_that_says_much_is_given_room_and_the_others_are_held() -> None:
    effects, told = np.array([[0.5, 0.01], [0.0, -0.02]]), np.full((2, 2), 1e6)
    for _ in range(9):
        form = sparse.sharpened(FORM, effects, told)
    assert form.genre_spreads is not None
    by_hand = np.sqrt((effects**2 + 1e-6 + 0.3 * 0.01) / 1.3)
    assert form.genre_spreads == pytest.approx(by_hand, abs=1e-4)
    assert form.genre_spreads[0, 0] > 0.4 > 0.06 > form.genre_spreads[0, 1]
    assert "-q he" in FORM.interactions
    assert "-q he" not in form.interactions


def test_what_rows_say_nothing_of_keeps_the_common_prior() -> None:
    form = sparse.sharpened(FORM, np.zeros((2, 2)), np.zeros((2, 2)))
    assert form.genre_spreads == pytest.approx(np.full((2, 2), 0.1), abs=1e-4)


def test_going_on_knows_how_far_each_may_move_and_how_it_fades() -> None:
    told = np.array([[0.0, 300.0], [20.0, 0.0]])
    form = sparse.sharpened(FORM, np.array([[0.5, 0.0], [0.01, 0.2]]), told)
    assert form.genre_spreads is not None
    rows = information.nothing(FORM, 1, 2)
    known = sparse.beside_common_prior(form, replace(rows, genre_cross=told)).genre_cross
    posterior = 1 / np.sqrt(told + 1 / form.genre_spreads**2)
    assert precision.spread(0.1, known) == pytest.approx(posterior)
    assert precision.kept(0.1, known, 1.0) == pytest.approx(np.ones((2, 2)))
    assert ((faded := precision.kept(0.1, known, 0.5)) > 0).all()
    assert (faded < 1).all()
    assert sparse.beside_common_prior(FORM, rows) is rows


def test_a_training_that_crosses_genres_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    block = log(4_000)
    seen = []

    def told(what: str, share: float) -> None:
        seen.append((what, round(share, 2)))

    made = train.train(InMemory([block]), lookup, SLOTS["artwork"], HOW, told)
    assert [share for what, share in seen if what == "training"] == [0.0, 0.33, 0.67]
    assert "-q he" not in made.bundle.vowpal_arguments
    monkeypatch.setattr(sparse, "STEPS", 0)
    once = train.train(InMemory([block]), lookup, SLOTS["artwork"], HOW)
    assert "-q he" in once.bundle.vowpal_arguments
    # Who likes one genre likes its pictures 1.5 more than others', in truth.
    gaps = []
    for each in (made, once):
        scores = logits(each.bundle)
        gaps.append(
            float((scores[0] - scores[1])[:, ::2].mean() - (scores[0] - scores[1])[:, 1::2].mean())
        )
    assert abs(gaps[0] - 3.0) <= abs(gaps[1] - 3.0) + 0.02
    later = log(2_000, seed=2)
    later = replace(later, occurred_at=later.occurred_at + 86_400_000_000)
    start = Start.of(made.bundle)
    then = train.train(InMemory([later]), lookup, SLOTS["artwork"], HOW, start=start)
    assert then.rows == 6_000
    assert msgspec.msgpack.decode(then.bundle.encode())["format"] == 4
