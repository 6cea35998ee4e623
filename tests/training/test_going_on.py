"""Going on from a model: as good as learning from all rows again, and exact where it can be."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy.optimize import minimize

from artwork_bandit.domain import (
    ActionSet,
    Context,
    Contexts,
    Floats,
    ReplayBlock,
    Variant,
    microseconds,
)
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.bundle import Bundle, decode, sha256
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.policies.precision import NAMES
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import train
from artwork_bandit.training.start import Start
from tests.samples import NOW
from tests.taught import GENRES, log, lookup, variants

ARTWORK = SLOTS["artwork"]
CONVERGED = train.Settings().arguments.replace("--passes 12", "--passes 60")
HOW = train.Settings(
    arguments=CONVERGED, priors=lambda rows: Priors(), half_life=dt.timedelta(days=30)
)
DAY = 86_400_000_000


def rows(block: ReplayBlock, first: int, last: int) -> InMemory:
    return InMemory([block.take(np.arange(first, last))])


def logits(bundle: Bundle, titles: int = 3) -> Floats:
    """Scores of horror's and drama's fans and a stranger, in logits, [3, titles, 4]."""
    columns = VariantColumns.of([v for title in variants(titles) for v in title])
    bound = BoundScorer.of(bundle.model, columns)
    contexts = [Context(genres={g: 8.0}, played={"film-1": 1.0}) for g in GENRES] + [Context()]
    n = titles * 4
    found = [
        bound.scores([c], np.zeros(titles, int), np.arange(n), np.arange(0, n + 1, 4))
        for c in contexts
    ]
    assert bundle.learned is not None
    return np.array(found).reshape(3, titles, 4) / bundle.learned.per_logit


def centered(scores: Floats) -> Floats:
    return scores - scores.mean(axis=-1, keepdims=True)


def test_going_on_comes_to_what_all_rows_say_together() -> None:
    block = log(8_000)
    whole = train.train(rows(block, 0, 8_000), lookup, ARTWORK, HOW).bundle
    made = train.train(rows(block, 0, 2_000), lookup, ARTWORK, HOW)
    begun = made.bundle
    for first in range(2_000, 8_000, 1_000):
        data = made.bundle.encode()  # as the registry keeps it
        start = Start.of(decode(data, sha256(data)))
        made = train.train(rows(block, first, first + 1_000), lookup, ARTWORK, HOW, start=start)
    assert (made.rows, made.new_rows) == (8_000, 1_000)
    wanted, first, last = (centered(logits(b)) for b in (whole, begun, made.bundle))
    assert np.abs(first - wanted).max() > 0.12
    assert np.abs(last - wanted).max() < 0.05


def test_what_is_found_is_the_maximum_that_scipy_finds() -> None:
    """Own effects alone: their prior after the first rows, then the second rows' maximum."""
    priors = Priors(cross=0, own_cross=0, affinity=0, variant=0, watched=0, own=0.4)
    how = replace(HOW, priors=lambda rows: priors, with_audiences=False)
    block = log(3_000)
    first = train.train(rows(block, 0, 2_000), lookup, ARTWORK, how).bundle
    then = train.train(rows(block, 2_000, 3_000), lookup, ARTWORK, how, start=Start.of(first))
    mean = [block.reward[:2_000][block.set_of_row[:2_000] == t].mean() for t in range(3)]
    n_t = [(block.set_of_row[:2_000] == t).sum() for t in range(3)]
    overall = block.reward[:2_000].mean()
    level = [(n * m + 20 * overall) / (n + 20) for n, m in zip(n_t, mean, strict=True)]
    shown = block.set_of_row * 4 + block.chosen
    seen = np.bincount(shown[:2_000], minlength=12).reshape(3, 4)
    information = seen * np.array([[p * (1 - p)] for p in level])
    learned = first.learned
    assert learned is not None
    order = np.argsort(first.model.own_keys)
    keys = VariantColumns.of([v for title in variants(3) for v in title]).keys
    at = np.searchsorted(first.model.own_keys[order], keys)
    found = learned.information["own"].array()[at].reshape(3, 4)
    assert np.allclose(found, information, rtol=1e-3)
    # The titles' levels, learned from all rows so far, and the first model's scores are the base.
    rows_of = np.bincount(block.set_of_row)
    earned = np.bincount(block.set_of_row, block.reward)
    share = (earned + 20 * block.reward.mean()) / (rows_of + 20)
    before = logits(first)[2].ravel()
    new = np.arange(2_000, 3_000)
    base = np.log(share / (1 - share))[block.set_of_row[new]] + before[shown[new]]
    spread = (0.4 / np.sqrt(1 + 0.16 * information)).ravel()
    design = np.concatenate(
        [
            np.ones((1_000, 1)), 0.5 * np.eye(3)[block.set_of_row[new]],
            np.eye(12)[shown[new]] * spread,
        ],
        axis=1,
    )  # fmt: skip

    def loss(w: Floats) -> tuple[float, Floats]:
        z = base + design @ w
        slope = 1 / (1 + np.exp(-z)) - block.reward[new]
        return np.logaddexp(0, z).sum() - block.reward[new] @ z + w @ w / 2, design.T @ slope + w

    best = minimize(loss, np.zeros(16), jac=True, method="BFGS").x
    expected = (before + spread * best[4:]).reshape(3, 4)
    assert np.abs(centered(expected - before.reshape(3, 4))).max() > 0.02
    # Up to a constant of each title.
    assert np.abs(centered(logits(then.bundle)[2] - expected)).max() < 1e-3


def test_new_titles_are_learned_and_old_ones_keep_what_they_had() -> None:
    block = log(6_000, titles=6)
    old = block.set_of_row < 3
    first = train.train(InMemory([block.take(np.flatnonzero(old))]), lookup, ARTWORK, HOW).bundle
    new = InMemory([block.take(np.flatnonzero(~old))])
    then = train.train(new, lookup, ARTWORK, HOW, start=Start.of(first)).bundle
    assert then.learned is not None
    assert then.learned.titles == [f"t{i}" for i in range(6)]
    assert then.learned.title_rows.array().tolist() == np.bincount(block.set_of_row).tolist()
    assert len(then.model.own_keys) == 2 * len(first.model.own_keys) == 24
    # Own effects of variants nobody saw again move only as far as rows aged: not at all here.
    kept = np.isin(then.model.own_keys, first.model.own_keys)
    assert first.learned is not None
    before = first.model.own_effects / first.learned.per_logit
    after = then.model.own_effects[kept] / then.learned.per_logit
    # But where two features share a place in Vowpal Wabbit's table.
    assert np.isclose(before, after, atol=1e-6).mean() > 0.95
    assert np.abs(then.model.own_effects[~kept]).max() > 0
    told = {n: then.learned.information[n].array().sum() for n in NAMES}
    whole = train.train(InMemory([block]), lookup, ARTWORK, HOW).bundle.learned
    assert whole is not None
    for name in ("variant", "own", "affinity"):
        assert told[name] == pytest.approx(whole.information[name].array().sum(), rel=0.05), name


@pytest.mark.parametrize("genre_cross", [0.0, 0.1])
def test_what_is_known_fades_as_rows_do(genre_cross: float) -> None:
    block = log(3_000)
    how = replace(HOW, priors=lambda rows: Priors(genre_cross=genre_cross))
    made = train.train(rows(block, 0, 3_000), lookup, ARTWORK, how).bundle
    start = Start.of(made)
    last = int(block.occurred_at[-1])
    same, month, ages = (start.aged(last + days * DAY) for days in (0, 30, 3_000))
    for name in NAMES:
        known = getattr(start.information, name)
        assert np.array_equal(getattr(same.information, name), known), name
        assert np.allclose(getattr(month.information, name), known / 2), name
    assert np.array_equal(same.model.weights, start.model.weights)
    columns = made.model.variant_encoder.columns
    at = (1, 1 + columns.index("emphasised:TV Dramas"))
    assert at[0] + made.model.context_encoder.columns.index("genre:TV Dramas") == 1
    well_known = month.model.weights[at] / start.model.weights[at]
    assert 0.95 < well_known < 1.0  # hundreds of rows still say so
    assert np.abs(ages.model.weights.ravel()[1:]).max() < 1e-6  # the constant is no effect
    assert np.abs(ages.model.own_effects).max() < 1e-6


def test_a_model_of_an_earlier_release_is_refused_in_words() -> None:
    made = train.train(rows(log(400), 0, 400), lookup, ARTWORK, HOW).bundle
    data = msgspec.msgpack.decode(made.encode())
    del data["learned"]
    old = msgspec.msgpack.encode(data)
    found = decode(old, sha256(old))
    assert found.learned is None
    with pytest.raises(NotEnoughData, match="earlier release"):
        Start.of(found)


def test_too_few_new_rows_are_refused_though_there_were_many_before() -> None:
    block = log(1_100)
    start = Start.of(train.train(rows(block, 0, 1_000), lookup, ARTWORK, HOW).bundle)
    with pytest.raises(NotEnoughData, match="100 rows that can teach"):
        train.train(rows(block, 1_000, 1_100), lookup, ARTWORK, HOW, start=start)


def test_pictures_that_nobody_is_shown_any_more_keep_no_model_from_going_on() -> None:
    """Of them Vowpal Wabbit says what others left in their weights: no canary is to ask for that,
    with so many that weights are shared."""
    rng = np.random.default_rng(1)
    genres = [f"g{i}" for i in range(12)]
    likings = [dict(zip(genres, rng.normal(0, 0.5, 12), strict=True)) for _ in range(400)]
    contexts = [Context(genres={g: float(np.exp(2 * x)) for g, x in of.items()}) for of in likings]
    shown = [
        [
            Variant(
                variant_id=f"{t}-{i}", title_id=f"t{t}", slot="artwork", uri="/x",
                features={"genre": str(rng.choice(genres)), "faces": i},
            )
            for i in range(6)
        ]
        for t in range(120)
    ]  # fmt: skip

    def rows_of(count: int, variants: int, after: int) -> InMemory:
        member, title = rng.integers(len(contexts), size=count), rng.integers(120, size=count)
        chosen = rng.integers(variants, size=count)
        liking = [
            likings[m][str(shown[t][v].features["genre"])]
            for m, t, v in zip(member.tolist(), title.tolist(), chosen.tolist(), strict=True)
        ]
        chance = 1 / (1 + np.exp(2 - np.array(liking)))
        sets = tuple(
            ActionSet(
                action_set_id=t, title_id=f"t{t}", slot="artwork", revision_ids=(),
                variant_ids=tuple(v.variant_id for v in of[:variants]),
            )
            for t, of in enumerate(shown)
        )  # fmt: skip
        block = ReplayBlock(
            decision_ids=np.array([f"{after}-{i}" for i in range(count)], object),
            occurred_at=microseconds(NOW) + after + np.arange(count) * 1_000_000,
            member_ids=np.array([f"m{m}" for m in member], object),
            action_sets=sets, set_of_row=title, chosen=chosen,
            propensity=np.full(count, 1 / variants),
            reward=(rng.random(count) < chance).astype(float),
            contexts=Contexts(contexts, member), cells=np.full(count, "explore", object),
        )  # fmt: skip
        return InMemory([block])

    def known(sets: Sequence[ActionSet]) -> list[list[Variant]]:
        return [shown[s.action_set_id][: len(s.variant_ids)] for s in sets]

    how = train.Settings(priors=lambda rows: Priors())
    first = train.train(rows_of(6_000, 6, 0), known, ARTWORK, how).bundle
    made = train.train(rows_of(2_500, 4, DAY), known, ARTWORK, how, start=Start.of(first)).bundle
    assert len(made.model.own_keys) == len(first.model.own_keys) == 720
