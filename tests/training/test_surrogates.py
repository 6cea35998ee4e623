"""What clicks stand for, in the place of what few of them come to."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from artwork_bandit.domain import Floats, Ints, ReplayBlock
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import train, tuning
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.start import Start
from artwork_bandit.training.surrogates import Clicks, Expected
from artwork_bandit.training.survey import Survey, survey
from tests.taught import log, lookup, variants

ARTWORK = SLOTS["artwork"]
AGEING = Ageing(half_life=dt.timedelta(days=30))
DAY = 86_400_000_000


def clicked(rows: int, *, comes_to: float = 0.4, seed: int = 1, liking: float = 1.5) -> ReplayBlock:
    """A log of clicks by taste, of which some share comes to a play."""
    block = log(rows, seed=seed, liking=liking)
    played = np.random.default_rng([seed, 1]).random(rows) < comes_to
    return replace(block, clicked=block.reward, reward=block.reward * played)


def shown(block: ReplayBlock, found: Survey) -> Ints:
    """Return the number of each row's variant."""
    keys = VariantColumns.of([v for title in variants() for v in title]).keys.tolist()
    of = np.array([found.variant_numbers[key] for key in keys])
    return of[4 * block.set_of_row + block.chosen]


def labels(block: ReplayBlock, expected: Expected, numbers: Ints) -> Floats:
    return expected.by_clicks(block.reward, expected.clicked(block, numbers), numbers)


def how(surrogate: float) -> train.Settings:
    return train.Settings(priors=lambda rows: Priors(surrogate=surrogate))


def scores(block: ReplayBlock, surrogate: float) -> np.ndarray:
    """Return what a member who likes each genre sees of each variant, in logits."""
    made = train.train(InMemory([block]), lookup, ARTWORK, how(surrogate)).bundle
    assert made.learned is not None
    columns = VariantColumns.of([v for title in variants() for v in title])
    contexts = [*block.contexts][:20]
    rows, offsets = np.tile(np.arange(12), 20), np.arange(0, 241, 12)
    found = BoundScorer.of(made.model, columns).scores(contexts, np.arange(20), rows, offsets)
    return found / made.learned.per_logit


def test_a_clicked_row_is_taken_for_what_clicks_on_its_variant_come_to() -> None:
    block = clicked(4_000)
    found = survey(InMemory([block]), lookup, (0.0, 1.0))
    numbers = shown(block, found)
    worth = found.expected.worth[numbers]
    assert found.expected.worth == pytest.approx(np.full(12, 0.4), abs=0.1)
    by_clicks = labels(block, found.expected, numbers)
    was = block.clicked == 1
    assert by_clicks[was] == pytest.approx(worth[was])
    assert not by_clicks[~was].any()
    # Nobody knows of these whether they were clicked; these are of another picture.
    unknown = replace(block, clicked=np.where(np.arange(4_000) < 50, np.nan, block.clicked))
    since = np.full(12, block.occurred_at[100])
    later = replace(found.expected, since=since)
    assert (labels(unknown, later, numbers)[:100] == block.reward[:100]).all()
    assert (labels(unknown, later, numbers)[100:] == by_clicks[100:]).all()
    # What surely misleads is asked for its outcomes, what may, for both.
    half = replace(found.expected, misleads=np.where(np.arange(12) < 6, 1.0, 0.5))
    some = labels(block, half, numbers)
    assert (some == block.reward)[numbers < 6].all()
    assert some[numbers >= 6] == pytest.approx((block.reward + by_clicks)[numbers >= 6] / 2)


def test_models_learn_from_what_clicks_stand_for() -> None:
    """All of it is a log of that, none of it a log without clicks; the half is in between."""
    block = clicked(4_000)
    alone = scores(replace(block, clicked=None), 1.0)
    assert scores(block, 0.0) == pytest.approx(alone, abs=1e-9)
    found = survey(InMemory([block]), lookup, (0.0, 1.0))
    by_clicks = labels(block, found.expected, shown(block, found))
    given = replace(block, reward=by_clicks, clicked=None)
    wholly, half = scores(block, 1.0), scores(block, 0.5)
    assert wholly == pytest.approx(scores(given, 0.0), abs=0.02)  # titles' levels are outcomes'
    assert np.abs(wholly - alone).max() > 0.05
    assert half == pytest.approx((wholly + alone) / 2, abs=0.01)


def test_tastes_are_told_with_less_noise() -> None:
    """The twelfth part of clicks are played: what plays say differs from log to log."""
    errors = []
    for surrogate in (0.0, 1.0):
        of_seeds = [
            scores(clicked(3_000, comes_to=1 / 12, seed=seed, liking=0.0), surrogate)
            for seed in range(6)
        ]
        # Nobody likes anything: all differences between variants of a title are noise.
        noise = [np.ptp(s.reshape(20, 3, 4), axis=2).mean() for s in of_seeds]
        errors.append(np.array(noise))
    assert (errors[1] < errors[0]).all()
    assert errors[1].mean() < 0.7 * errors[0].mean()


@pytest.mark.parametrize("lure", [False, True])
def test_how_far_clicks_stand_for_plays_is_chosen_by_plays(
    lure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "MOVES", {"surrogate": tuning.MOVES["surrogate"]})
    block = clicked(8_000, comes_to=0.25, liking=2.0)
    if lure:  # whoever likes what is shown clicks, and whoever does not finds it a good film
        flag = np.array([c.genres.get("TV Horror", 0.0) > 0 for c in block.contexts])
        suits = (block.chosen % 2 == 0) == flag
        clicks = np.random.default_rng(2).random(8_000) < np.where(suits, 0.6, 0.3)
        played = np.random.default_rng(3).random(8_000) < np.where(suits, 0.15, 0.9)
        block = replace(block, clicked=clicks.astype(float), reward=(clicks & played).astype(float))
    made = train.train(InMemory([block]), lookup, ARTWORK, train.Settings())
    assert made.tuned is not None
    assert made.priors.surrogate < 0.2 if lure else made.priors.surrogate >= 0.5
    assert "surrogate 1" in made.tuned.losses
    again = train.train(InMemory([replace(block, clicked=None)]), lookup, ARTWORK, train.Settings())
    assert again.tuned is not None
    assert "surrogate 1" not in again.tuned.losses


def test_a_titles_labels_come_to_what_it_earned() -> None:
    """Where titles differ widely in what clicks come to, and clicks are few."""
    block = clicked(4_000)
    rng = np.random.default_rng(4)
    played = rng.random(4_000) < np.array([0.1, 0.4, 0.9])[block.set_of_row]
    block = replace(block, reward=block.clicked * played)
    found = survey(InMemory([block]), lookup, (0.0, 1.0))
    by_clicks = labels(block, found.expected, shown(block, found))
    assert not np.array_equal(by_clicks, block.reward)
    # Rows age by next to nothing within seconds.
    for title in range(3):
        of = block.set_of_row == title
        assert by_clicks[of].sum() == pytest.approx(block.reward[of].sum(), rel=1e-3)


def test_what_judges_is_not_asked_what_clicks_come_to(tmp_path: Path) -> None:
    """The later rows earn twice as much by a click, of which labels of the earlier know nothing."""
    block = clicked(4_000, comes_to=0.3)
    late = np.arange(4_000) >= 3_000
    block = replace(block, reward=np.where(late, block.clicked, block.reward))
    found = survey(InMemory([block]), lookup, (0.0, 1.0))
    trial = tuning.Trial(
        tmp_path, InMemory([block]), lookup, found, ARTWORK, AGEING, train.Settings().arguments, 1
    )
    trial.cut(0.25)
    was = (block.clicked == 1) & ~late
    assert trial._by_clicks[was].mean() == pytest.approx(block.reward[was].mean(), rel=0.01)
    assert trial.has_surrogates
    assert labels(block, found.expected, shown(block, found))[was].mean() > 0.4


def test_what_clicks_came_to_before_a_change_is_forgotten() -> None:
    block = clicked(12_000)
    odd, before = block.chosen % 2 == 1, np.arange(12_000) < 10_000
    comes_to = np.where(odd == before, 0.6, 0.1)
    played = np.random.default_rng(5).random(12_000) < comes_to
    block = replace(
        block, reward=block.clicked * played,
        occurred_at=block.occurred_at + np.where(before, 0, DAY),
    )  # fmt: skip
    ageing = replace(AGEING, changed_at=int(block.occurred_at[10_000]))
    expected = survey(InMemory([block]), lookup, (0.0, 1.0), ageing=ageing).expected
    parts = [block.take(np.arange(i, i + 1_500)) for i in range(0, 12_000, 1_500)]
    cut = survey(InMemory(parts), lookup, (0.0, 1.0), ageing=ageing).expected
    assert (cut.worth == expected.worth).all()
    known = survey(InMemory([block]), lookup, (0.0, 1.0)).expected
    keys = VariantColumns.of([v for title in variants() for v in title]).keys.tolist()
    of = np.array([sorted(keys).index(key) for key in keys]).reshape(3, 4)
    assert (expected.worth[of][:, ::2] > 0.4).all()
    assert (expected.worth[of][:, 1::2] < 0.25).all()
    assert (known.worth[of][:, ::2] < known.worth[of][:, 1::2]).all()


def test_rows_that_age_faster_go_by_outcomes() -> None:
    """What clicks come to is counted by the half-life as it is."""
    block = clicked(4_000)
    found = []
    for some in (block, replace(block, clicked=None)):
        how = train.Settings(priors=lambda rows: Priors(ageing=3.0))
        found.append(train.train(InMemory([some]), lookup, ARTWORK, how).bundle.model.weights)
    assert (found[0] == found[1]).all()


def test_clicks_stand_for_nothing_where_few_are_known_or_rules_take_away() -> None:
    for block, bounds in (
        (clicked(500), (0.0, 1.0)), (clicked(4_000), (-0.5, 1.0)),
        (replace(clicked(4_000), clicked=None), (0.0, 1.0)),
    ):  # fmt: skip
        found = survey(InMemory([block]), lookup, bounds)
        assert np.isnan(found.expected.worth).all()
    # Most was earned without a click.
    block = clicked(4_000)
    unclicked = replace(block, reward=np.where(block.clicked == 1, block.reward, 1.0))
    assert np.isnan(survey(InMemory([unclicked]), lookup, (0.0, 1.0)).expected.worth).all()


def test_a_training_that_goes_on_asks_outcomes_alone(tmp_path: Path) -> None:
    block = clicked(4_000)
    start = Start.of(train.train(InMemory([block]), lookup, ARTWORK, how(0.5)).bundle)
    later = clicked(4_000, seed=2)
    later = replace(later, occurred_at=later.occurred_at + DAY)
    found = [
        train.train(InMemory([some]), lookup, ARTWORK, how(0.5), start=start).bundle.encode()
        for some in (later, replace(later, clicked=None))
    ]
    assert found[0] == found[1]


def test_what_clicks_on_an_earlier_picture_came_to_is_left_out() -> None:
    none = [0.0] * 4
    first = Clicks(1, 10 * DAY, 20 * DAY, np.array([none, [100.0, 50.0, 5.0, 5.0]]))
    second = Clicks(2, 30 * DAY, 40 * DAY, np.array([none, [80.0, 20.0, 10.0, 10.0]]))
    assert first.beside(second, AGEING) is second
    assert second.beside(first, AGEING) is second
    earlier = Clicks(2, 25 * DAY, 29 * DAY, np.array([none, [8.0, 4.0, 2.0, 2.0]]))
    both = second.beside(earlier, AGEING)
    assert (both.first, both.at) == (25 * DAY, 40 * DAY)
    faded = 2 ** (-11 / 30)
    assert both.sums[1] == pytest.approx([80 + 8 * faded, 20 + 4 * faded, *[10 + 2 * faded] * 2])
    kept = Expected.of({7: both}, {7: "t"}, {3: 0, 7: 1}, 40 * DAY, AGEING)
    assert kept.since.tolist() == [0, 25 * DAY]
    assert np.isnan(kept.worth).all()  # some dozen clicks


def test_models_of_before_say_half() -> None:
    assert msgspec.json.decode(b'{"own": 0.2}', type=Priors).surrogate == 0.5
