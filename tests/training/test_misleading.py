"""Variants that are clicked more and come to less: found by what clicks came to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from artwork_bandit.domain import ActionSet, Context, ReplayBlock, Variant
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.bundle import decode, sha256
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import train
from artwork_bandit.training.misleading import Clicked, asked
from artwork_bandit.training.start import Start
from tests.taught import log, lookup, variants

ARTWORK = SLOTS["artwork"]
HOW = train.Settings(priors=lambda rows: Priors())
TITLES, EACH = 100, 6
ONE_EACH = np.tile(np.arange(EACH) == 2, TITLES)
DAY = 86_400_000_000


def clicked(
    seed: int, *, rho: float = 1 / 6, delta: float = 2.0, rows: int = 60, spread: float = 0.0,
    by_title: float = 0.5, bad: np.ndarray = ONE_EACH,
) -> Clicked:  # fmt: skip
    """Return what clicks came to where the third variant of each title misleads, or others do."""
    rng = np.random.default_rng(seed)
    title = np.repeat(np.arange(TITLES), EACH)
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
    bad = ONE_EACH
    for seed in range(5):
        means, m, _ = asked(clicked(seed))
        assert (m[bad] > 0.5).mean() > 0.8
        assert (m[~bad] > 0.5).mean() < 0.03
        assert -1.3 < means[bad].mean() < -0.7  # clicked twice for a sixth: log 1/3 is -1.1
        assert means[~bad].mean() > -0.06


def test_where_one_of_each_title_misleads_the_likeliest_is_it() -> None:
    for seed in range(5):
        _, m, _ = asked(clicked(seed))
        of_title = m.reshape(TITLES, EACH)
        assert (np.abs(of_title.sum(axis=1) - 1) < 0.1).mean() > 0.97
        assert (of_title.argmax(axis=1) == 2).mean() > 0.9
    _, m, _ = asked(clicked(1, bad=np.random.default_rng(1).random(len(ONE_EACH)) < 1 / 6))
    assert m.reshape(TITLES, EACH).sum(axis=1).std() > 0.5


def test_a_new_picture_is_not_suspected_because_its_title_s_others_are_honest() -> None:
    """Where each title has one that misleads, it stands in the place of it in three titles."""
    bad = ONE_EACH & (np.arange(TITLES * EACH) >= 3 * EACH)
    for new in ((0.0, 0.0, 0.0), (5.0, 1.0, 1.0), (10.0, 2.0, 1.0)):
        chances = []
        for seed in range(5):
            seen = clicked(seed, bad=bad, rows=300)
            rows, clicks, earned = (
                np.where(ONE_EACH & ~bad, some, old)
                for some, old in zip(new, (seen.rows, seen.clicks, seen.earned), strict=True)
            )
            _, m, _ = asked(replace(seen, rows=rows, clicks=clicks, earned=earned))
            chances.append(m[ONE_EACH & ~bad])
        assert np.mean(chances) < 0.2


@pytest.mark.parametrize("share", [1.0, 0.02, 0.004])
def test_what_is_expected_does_not_hang_on_how_little_clicks_earn(share: float) -> None:
    rng = np.random.default_rng(1)
    seen = clicked(1, rows=20_000)
    earned = rng.binomial(seen.earned.astype(int), share).astype(float)
    means, m, _ = asked(replace(seen, earned=earned, all_earned=float(earned.sum())))
    assert (m[ONE_EACH] > 0.5).mean() > 0.95
    assert (m[~ONE_EACH] > 0.5).mean() < 0.01
    assert means[ONE_EACH].mean() == pytest.approx(np.log(1 / 3), abs=0.3)


@pytest.mark.parametrize(("spread", "rows"), [(0.0, 300), (0.3, 300), (0.5, 1_000)])
def test_three_of_six_hundred_are_found(spread: float, rows: int) -> None:
    bad = np.isin(np.arange(TITLES * EACH), [7, 100, 350])
    found = []
    for seed in range(5):
        _, m, _ = asked(clicked(seed, bad=bad, spread=spread, rows=rows))
        found.append((m[bad] > 0.5).mean())
        assert (m[~bad] > 0.5).sum() <= 2
    assert np.mean(found) > 0.8


@pytest.mark.parametrize("earns", [1.0, 0.999, 0.9, 0.05])
def test_few_titles_are_enough_where_nothing_is_left_to_chance(earns: float) -> None:
    title, bad = np.repeat(np.arange(10), EACH), ONE_EACH[: 10 * EACH]
    clicks = np.where(bad, 4_000.0, 2_000.0)
    earned = clicks * np.where(bad, earns / 6, earns)
    rows = np.full(len(title), 10_000.0)
    seen = Clicked(
        title=title, rows=rows, clicks=clicks, earned=earned, all_earned=float(earned.sum())
    )
    means, m, _ = asked(seen)
    assert m == pytest.approx(bad.astype(float), abs=1e-3)
    assert means[bad] == pytest.approx(np.log(1 / 3), abs=0.15)


def test_what_clicks_come_to_is_shrunken_as_much_at_any_level_by_what_was_seen() -> None:
    nearer = []
    for share, rows in ((1.0, 1.0), (0.02, 25.0)):  # a click tells a 25th as much of logits
        seen = clicked(1, rho=1.0, delta=1.0, rows=100_000, spread=0.3, by_title=0.0)
        part, earned = rows / 1_000, share * seen.earned
        seen = replace(
            seen, rows=part * seen.rows, clicks=part * seen.clicks, earned=part * earned,
            all_earned=float(part * earned.sum()),
        )  # fmt: skip
        of_title = np.bincount(seen.title, seen.earned) / np.bincount(seen.title, seen.clicks)
        told = asked(seen).worth - of_title[seen.title]
        apart = seen.earned / seen.clicks - of_title[seen.title]
        nearer.append(told @ apart / (apart @ apart))
    assert 0.05 < nearer[0] < 0.7
    assert nearer[1] == pytest.approx(nearer[0], abs=0.1)


def test_titles_of_very_many_variants_are_told_beside_the_others() -> None:
    seen = clicked(1)
    title = np.where(seen.title < 40, 0, seen.title)  # one of 240
    means, m, _ = asked(replace(seen, title=title))
    assert np.isfinite(means).all()
    assert (m[ONE_EACH & (title == 0)] > 0.5).mean() > 0.6
    assert (m[~ONE_EACH] > 0.5).mean() < 0.05


def test_most_of_a_few_titles_may_mislead() -> None:
    bad = (np.arange(TITLES) % 4 == 0)[:, None] & (np.arange(EACH) < 4)
    for seed in range(5):
        _, m, _ = asked(clicked(seed, rows=200, bad=bad.ravel()))
        told = m.reshape(TITLES, EACH) > 0.5
        assert told[bad].mean() > 0.85
        assert told[~bad].mean() < 0.01


@pytest.mark.parametrize("titles", [1, 2, 5])
def test_a_title_that_is_given_up_whatever_picture_shows_it_is_not_told_of(titles: int) -> None:
    """Where all others are alike: a few of a hundred are hard, whose variants are honest."""
    hard = np.arange(TITLES * EACH) < titles * EACH
    bad = ONE_EACH & ~hard
    told = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        seen = clicked(seed, rows=300, by_title=0.0)
        rates = np.where(hard | bad, 0.08, 0.5)
        earned = rng.binomial(seen.clicks.astype(int), rates).astype(float)
        _, m, _ = asked(replace(seen, earned=earned, all_earned=float(earned.sum())))
        assert (m[bad] > 0.5).mean() > 0.95
        told.append((m[hard] > 0.5).mean())
    assert np.mean(told) < 0.2


def test_what_is_clicked_so_often_that_it_earns_as_much_is_not_held_back() -> None:
    means, m, _ = asked(clicked(1, rho=0.3, delta=3.5))
    assert (m > 0.5).sum() > 50
    assert means.min() > -0.15


@pytest.mark.parametrize(
    "unlike",
    [{}, {"by_title": 1.5}, {"spread": 0.2}, {"spread": 0.5}, {"spread": 0.8}, {"rows": 400},
     {"rows": 1_000, "spread": 0.4}, {"rows": 400, "spread": 0.8},
     {"rows": 600, "spread": 1.0}],
)  # fmt: skip
def test_where_none_misleads_none_is_said_to(unlike: dict[str, Any]) -> None:
    """Titles that are given up whatever picture shows them are not told of, nor are differences."""
    for seed in range(6):
        seen = clicked(seed, rho=1.0, delta=1.0, **unlike)
        for width in (2, EACH):
            means, m, _ = asked(replace(seen, title=np.arange(TITLES * EACH) // width))
            assert not means.any()
            assert not m.any()


def test_where_clicks_say_little_or_are_not_how_it_was_earned_nothing_is_said() -> None:
    seen = clicked(1)
    for other in (clicked(1, rows=3), replace(seen, all_earned=1.2 * seen.all_earned),
                  replace(seen, clicks=0 * seen.clicks, earned=0 * seen.earned)):  # fmt: skip
        means, m, _ = asked(other)
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
    assert own_effects(made)[:, 2].mean() < own_effects(blind)[:, 2].mean() - 0.6
    assert own_effects(made)[:, 2].mean() == pytest.approx(np.log(1 / 3), abs=0.3)
    assert made.misleading is not None
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
    assert then.misleading is None
    assert then.bundle.learned is not None
    assert then.bundle.learned.own_means == bundle.learned.own_means


def test_those_that_mislead_are_told_from_namesakes_of_other_titles() -> None:
    block = misleading_log(12_000)
    honest = block.set_of_row < 15
    earned = np.random.default_rng(3).random(12_000) < 0.1
    clicks = np.random.default_rng(4).random(12_000) < 0.2
    block = replace(
        block, reward=np.where(honest, earned & clicks, block.reward),
        clicked=np.where(honest, clicks, block.clicked),
        action_sets=tuple(
            replace(s, variant_ids=("a0", "a1", "a2", "a3")) for s in block.action_sets
        ),
    )  # fmt: skip

    def namesakes(sets: Sequence[ActionSet]) -> list[list[Variant]]:
        return [
            [replace(v, variant_id=v.variant_id.split("-")[1]) for v in some]
            for some in lookup(sets)
        ]

    made = train.train(InMemory([block]), namesakes, ARTWORK, HOW)
    assert made.misleading is not None
    assert made.misleading.get("a2", 0.0) > 0.9


def test_clicks_that_nobody_knows_of_are_left_out() -> None:
    block = misleading_log(6_000)
    half = np.arange(6_000) % 2 == 0
    unknown = replace(block, clicked=np.where(half, block.clicked, np.nan))
    made = train.train(InMemory([unknown]), lookup, ARTWORK, HOW)
    assert made.misleading is not None
    assert len(made.misleading) > 5
    parts = [unknown.take(np.arange(i, i + 1_500)) for i in range(0, 6_000, 1_500)]
    again = train.train(InMemory(parts), lookup, ARTWORK, HOW)
    assert again.bundle.encode() == made.bundle.encode()


def test_priors_are_chosen_beside_what_is_expected() -> None:
    made = train.train(InMemory([misleading_log(6_000)]), lookup, ARTWORK, train.Settings())
    assert made.tuned is not None
    assert own_effects(made)[:, 2].mean() == pytest.approx(np.log(1 / 3), abs=0.3)


def test_what_was_said_of_another_picture_is_forgotten() -> None:
    """Ten half-lives later the same variants are honest; or another picture stands there."""
    first, then = misleading_log(6_000), log(6_000, seed=8, titles=30, liking=0.0)
    rng = np.random.default_rng(9)
    clicks = rng.random(6_000) < 0.2
    then = replace(
        then, clicked=clicks.astype(float),
        reward=(clicks & (rng.random(6_000) < 0.5)).astype(float),
        occurred_at=first.occurred_at + 300 * DAY,
    )  # fmt: skip
    made = train.train(InMemory([first, then]), lookup, ARTWORK, HOW)
    assert made.misleading == {}
    soon = replace(then, occurred_at=first.occurred_at + DAY)
    assert train.train(InMemory([first, soon]), lookup, ARTWORK, HOW).misleading

    def replaced(sets: Sequence[ActionSet]) -> list[list[Variant]]:
        """Return the later picture for sets of later ids."""
        found = zip(lookup(sets), sets, strict=True)
        return [
            [replace(v, revision=2) if s.action_set_id >= 100 else v for v in some]
            for some, s in found
        ]

    sets = tuple(replace(s, action_set_id=s.action_set_id + 100) for s in soon.action_sets)
    made = train.train(
        InMemory([first, replace(soon, action_sets=sets)]), replaced, ARTWORK, HOW
    )  # fmt: skip
    assert made.misleading == {}


def test_losses_under_a_rule_are_not_taken_for_earnings_of_what_was_not_clicked() -> None:
    block = misleading_log(6_000)
    lost = replace(block, reward=block.reward - 0.2 * block.clicked * (block.reward == 0))
    hours = replace(ARTWORK, reward=replace(ARTWORK.reward, bounds=(-0.2, 1.0)))
    made = train.train(InMemory([lost]), lookup, hours, HOW)
    assert made.misleading is not None
    assert len(made.misleading) > 20
