"""From a log to a model: priors that hold back, priors chosen on the log, similar audiences."""

import datetime as dt
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from artwork_bandit.domain import ActionSet, Context, Contexts, ReplayBlock, microseconds
from artwork_bandit.errors import InvalidInput, NotEnoughData
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.bundle import decode, sha256
from artwork_bandit.policies.encoding import ContextEncoder
from artwork_bandit.policies.explanation import explain
from artwork_bandit.policies.exploration import Exploration
from artwork_bandit.policies.linear import LinearModel
from artwork_bandit.policies.policy import BoundScorer, ModelPolicy
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import audiences, train, tuning
from artwork_bandit.training.ageing import Ageing
from artwork_bandit.training.likelier import likelier
from artwork_bandit.training.survey import base_logits, survey
from tests.samples import NOW
from tests.taught import GENRES, log, lookup, variants

ARTWORK = SLOTS["artwork"]
DEFAULT = train.Settings(priors=lambda rows: Priors())
GREEDY = Exploration(form="greedy", strength=0, explored_share=0.1)


def test_a_model_learns_who_likes_what_and_survives_storing() -> None:
    block = log(3_000)
    made = train.train(InMemory([block]), lookup, ARTWORK, DEFAULT)
    data = made.bundle.encode()
    model = decode(data, sha256(data)).model
    assert model.own_columns == made.bundle.model.own_columns != []
    fan = model.context_encoder.encode([Context(genres={"TV Horror": 8.0})])[0]
    x = np.array([[1.0, *row] for row in np.eye(len(model.variant_encoder.columns))])
    score = np.array([1.0, *fan]) @ model.weights @ x.T
    columns = model.variant_encoder.columns
    assert (
        score[columns.index("emphasised:TV Horror")] > score[columns.index("emphasised:TV Dramas")]
    )


def test_a_temporary_folder_may_have_a_space_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my jobs").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "my jobs"))
    block = log(300)
    assert train.train(InMemory([block]), lookup, ARTWORK, DEFAULT).rows == 300


@pytest.mark.parametrize("rewards", [[0.0, 1.0], [0.0, 0.3, 1.0]])
def test_the_log_in_one_block_or_in_many_gives_the_same_model(rewards: list[float]) -> None:
    block = log(2_000)
    block = replace(block, reward=np.random.default_rng(1).choice(rewards, 2_000))
    parts = [block.take(np.arange(i, i + 500)) for i in range(0, 2_000, 500)]
    whole, cut = (
        train.train(InMemory(blocks), lookup, ARTWORK, DEFAULT).bundle.encode()
        for blocks in ([block], parts)
    )
    assert whole == cut


def test_the_same_rewards_on_another_scale_give_the_same_model() -> None:
    """Seconds watched up to an hour, or the share of an hour: strengths, grids and canaries too."""
    block = log(2_000)
    block = replace(block, reward=np.random.default_rng(1).choice([0.0, 0.25, 1.0], 2_000))
    seconds = replace(block, reward=3_600 * block.reward)
    hours = replace(ARTWORK, reward=replace(ARTWORK.reward, bounds=(0.0, 3_600.0)))
    found = [
        train.train(InMemory([rows]), lookup, slot, DEFAULT).bundle.encode()
        for rows, slot in ((block, ARTWORK), (seconds, hours))
    ]
    assert found[0] == found[1]
    decode(found[1], sha256(found[1]))


def test_what_members_watched_of_the_very_title_is_learned_of() -> None:
    """Who has watched a title wants many faces there, whatever it is; elsewhere, and of others,
    faces do not matter."""
    rng = np.random.default_rng(5)
    block = log(6_000, liking=0.0)
    knows = rng.random(6_000) < 0.4
    titles = [s.title_id for s in block.action_sets]
    played = [
        {titles[t] if k else titles[(t + 1) % 3]: 1.0}
        for t, k in zip(block.set_of_row.tolist(), knows.tolist(), strict=True)
    ]
    chance = 1 / (1 + np.exp(1.5 - 1.0 * knows * (block.chosen - 1.5)))
    block = replace(
        block, contexts=Contexts.of([Context(played=p) for p in played]),
        reward=(rng.random(6_000) < chance).astype(float),
    )  # fmt: skip
    data = train.train(InMemory([block]), lookup, ARTWORK, DEFAULT).bundle.encode()
    model = decode(data, sha256(data)).model
    columns = VariantColumns.of([v for title in variants(3) for v in title])
    bound = BoundScorer.of(model, columns)
    rows, offsets = np.arange(12), np.arange(0, 13, 4)
    contexts = [Context(played={"t1": 1.0}), Context(played={"t1": 0.5, "t2": 1.0, "?": 1.0})]
    page = np.array([0, 0, 0, 1, 1, 1])
    found = bound.scores(contexts, page, np.tile(rows, 2), np.arange(0, 25, 4)).reshape(6, 4)
    nobody = bound.scores([Context()], np.zeros(3, int), rows, offsets).reshape(3, 4)
    slopes = found[:, 3] - found[:, 0] - np.tile(nobody[:, 3] - nobody[:, 0], 2)
    per_logit = block.reward.mean() * (1 - block.reward.mean())
    assert slopes[1] > 1.0 * per_logit  # 3 faces more are 3 logits; the prior holds back
    assert slopes[4] == pytest.approx(slopes[1] / 2, abs=0.02)
    assert slopes[5] == pytest.approx(slopes[1], abs=0.02)
    assert slopes[[0, 2, 3]] == pytest.approx([0, 0, 0], abs=0.02)
    # One by one as in a page, to the last digit: a decision must be made again as it was made.
    one = [
        bound.scores([contexts[c]], np.zeros(1, int), rows[4 * (i % 3) :][:4], np.array([0, 4]))
        for i, c in enumerate(page.tolist())
    ]
    assert np.array_equal(np.stack(one), found)
    told = explain(ModelPolicy(model, GREEDY), contexts[0], block_set(1),
                   variants(3)[1], 7)  # fmt: skip
    assert told.scores == found[1].tolist()
    assert any(r.context == "watched" for r in told.reasons)


def test_habits_are_learned_of() -> None:
    """What suits is the genre of the occasion, while everybody watches both genres as much."""
    block = log(6_000)
    contexts = [Context(genres=dict.fromkeys(GENRES, 8.0), habits=c.genres) for c in block.contexts]
    block = replace(block, contexts=Contexts.of(contexts))
    model = train.train(InMemory([block]), lookup, ARTWORK, DEFAULT).bundle.model
    columns = VariantColumns.of(variants(1)[0])
    bound = BoundScorer.of(model, columns)
    some = [Context(genres=dict.fromkeys(GENRES, 8.0), habits={g: 8.0}) for g in GENRES]
    scores = bound.scores(some, np.arange(2), np.tile(np.arange(4), 2), np.array([0, 4, 8]))
    assert [s.argmax() % 2 for s in scores.reshape(2, 4)] == [0, 1]


def block_set(title: int) -> ActionSet:
    return log(1).action_sets[title]


def test_vw_finds_the_maximum_a_posteriori_that_scipy_finds() -> None:
    """The hierarchical model written down once more, with scipy as its independent solver."""
    priors = Priors(cross=0, own_cross=0, own=0.4)
    block = log(2_000, titles=5)
    settings = train.Settings(
        arguments=train.Settings().arguments.replace("--passes 12", "--passes 60"),
        priors=lambda rows: priors, half_life=dt.timedelta(days=36_500), with_audiences=False,
    )  # fmt: skip
    model = train.train(InMemory([block]), lookup, ARTWORK, settings).bundle.model
    columns = VariantColumns.of([v for title in variants(5) for v in title])
    bound = BoundScorer.of(model, columns)
    n, width = len(block), 4
    contexts = model.context_encoder.encode(list(block.contexts))
    features = model.variant_encoder.encode(columns.features)
    shown = block.set_of_row * width + block.chosen
    genre = [
        model.variant_encoder.columns.index(f"emphasised:{g}") for g in model.context_encoder.genres
    ]
    affinity = np.einsum("ij,ij->i", contexts[:, : len(genre)], features[shown][:, genre])
    design = np.concatenate(
        [
            np.ones((n, 1)), 0.5 * np.eye(5)[block.set_of_row], 0.1 * features[shown],
            0.4 * np.eye(20)[shown], 0.5 * affinity[:, None],
        ],
        axis=1,
    )  # fmt: skip
    rows = np.bincount(block.set_of_row)
    base = base_logits(rows, np.bincount(block.set_of_row, block.reward))[block.set_of_row]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = base + design @ w
        slope = 1 / (1 + np.exp(-z)) - block.reward
        return np.logaddexp(0, z).sum() - block.reward @ z + w @ w / 2, design.T @ slope + w

    best = minimize(loss, np.zeros(design.shape[1]), jac=True, method="BFGS").x
    expected = 0.1 * features @ best[6 : 6 + features.shape[1]]
    expected = expected + 0.4 * best[6 + features.shape[1] : -1]
    stranger = bound.scores([Context()], np.zeros(5, int), np.arange(20), np.arange(0, 21, 4))
    p = block.reward.mean()
    found = (stranger / (p * (1 - p))).reshape(5, 4)
    expected = expected.reshape(5, 4)
    # Up to a constant of each title; VW's weights are float32, and its search stops early.
    centered = [x - x.mean(axis=1, keepdims=True) for x in (found, expected)]
    assert np.std(centered[1]) > 0.1
    assert np.max(np.abs(centered[0] - centered[1])) < 0.01


def test_the_passes_there_are_come_near_what_five_times_as_many_come_to() -> None:
    """What holds L-BFGS back is what many rows tell of: `training.conditioning`."""
    block = log(20_000, titles=5)
    more = DEFAULT.arguments.replace("--passes 12", "--passes 60")
    columns = VariantColumns.of([v for title in variants(5) for v in title])
    found = []
    for how in (DEFAULT, replace(DEFAULT, arguments=more)):
        bundle = train.train(InMemory([block]), lookup, ARTWORK, how).bundle
        assert bundle.learned is not None
        bound = BoundScorer.of(bundle.model, columns)
        contexts = list(block.contexts)[:50]
        page = np.repeat(np.arange(50), 5), np.tile(np.arange(20), 50), np.arange(0, 1001, 4)
        scores = bound.scores(contexts, *page).reshape(-1, 4) / bundle.learned.per_logit
        found.append(scores - scores.mean(axis=1, keepdims=True))
    assert found[1].std() > 0.5
    assert np.sqrt(np.square(found[0] - found[1]).mean()) < 0.03


def test_where_there_is_little_to_learn_the_first_step_is_not_the_last() -> None:
    """It is tiny: here the loss falls by less than a hundredth of a thousandth of itself."""
    rng = np.random.default_rng(1)
    shown = [
        [replace(v, variant_id=f"{v.variant_id}-{more}") for more in range(2) for v in title][:6]
        for title in variants(200)
    ]
    shown = [
        [replace(v, features={"genre": GENRES[j % 2], "faces": j}) for j, v in enumerate(some)]
        for some in shown
    ]
    block = log(15_000, seed=1, titles=200, liking=0.0)
    sets = tuple(
        replace(s, variant_ids=tuple(v.variant_id for v in some))
        for s, some in zip(block.action_sets, shown, strict=True)
    )
    block = replace(
        block, action_sets=sets, chosen=rng.integers(6, size=15_000),
        reward=(rng.random(15_000) < 0.045).astype(float),
    )  # fmt: skip
    of_title = {some[0].title_id: some for some in shown}
    found = []
    more = re.sub("--termination [0-9.]+", "--termination 0.0000001", DEFAULT.arguments)
    for arguments in (DEFAULT.arguments, more.replace("--passes 12", "--passes 60")):
        how = replace(DEFAULT, arguments=arguments, with_audiences=False)
        made = train.train(
            InMemory([block]), lambda sets: [of_title[s.title_id] for s in sets], ARTWORK, how
        ).bundle  # fmt: skip
        assert made.learned is not None
        model = made.model
        effects = [model.weights.ravel(), model.own_effects.ravel()]
        found.append(np.concatenate(effects) / made.learned.per_logit)
    assert np.sqrt(np.square(found[0] - found[1]).mean()) < 0.2 * found[1].std()


def test_effects_get_as_wide_a_prior_as_they_are_large() -> None:
    rng = np.random.default_rng(2)
    information = rng.uniform(500, 2_000, 200)
    for truth in (0.0, 0.05, 0.2):
        seen = truth * rng.normal(size=200) + rng.normal(size=200) / np.sqrt(information)
        spread = 0.01
        for _ in range(200):
            kept = information / (information + 1 / spread**2)
            spread = likelier(0.01, spread, kept * seen, information)
        assert spread < 0.02 if truth == 0 else spread == pytest.approx(truth, rel=0.2)


def test_what_a_taste_factor_says_of_pictures_is_found_on_the_log() -> None:
    """Who watches the films of one circle likes many faces; genres say nothing."""
    rng = np.random.default_rng(3)
    block = log(12_000, liking=0.0)
    circle = rng.random(12_000) < 0.5
    watched = rng.integers(12, size=(12_000, 6))
    played = [
        {f"film-{int(c)}-{i}": 1.0 for i in some}
        for c, some in zip(circle.tolist(), watched.tolist(), strict=True)
    ]
    chance = 1 / (1 + np.exp(1.5 - 0.4 * (2 * circle - 1) * (block.chosen - 1.5)))
    block = replace(
        block, contexts=Contexts.of([Context(genres=dict.fromkeys(GENRES, 4.0), played=p)
                                     for p in played]),
        reward=(rng.random(12_000) < chance).astype(float),
    )  # fmt: skip
    made = train.train(InMemory([block]), lookup, ARTWORK, train.Settings())
    assert max(made.priors.title_tastes) > 0.05
    assert sorted(made.priors.title_tastes)[-2] < 0.02
    assert made.priors.taste < 0.02
    assert made.tuned is not None
    assert made.tuned.losses["likelier"] < made.tuned.losses["start"]
    assert made.bundle.learned is not None
    assert made.bundle.learned.priors == made.priors


def test_priors_are_chosen_on_the_log_and_the_choice_is_told() -> None:
    block = log(4_000, liking=3.0)
    said: list[str] = []
    made = train.train(
        InMemory([block]), lookup, ARTWORK, train.Settings(), lambda what, share: said.append(what)
    )
    assert made.tuned is not None
    assert made.tuned.losses["start"] > 0
    assert len(made.tuned.losses) > 5
    assert made.tuned.rows == 1_000
    assert "choosing priors" in said
    assert made.priors == made.tuned.priors


def test_priors_are_judged_on_the_newest_rows_in_whatever_order_the_log_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuning, "MOVES", {"own": (2.0,), "affinity": (5.0,)})
    block = log(2_000)
    # What members like changes at the end, which only the newest rows can say.
    change = np.arange(2_000) >= 1_500
    block = replace(block, reward=np.where(change, 1.0 - block.reward, block.reward))
    rng = np.random.default_rng(3)
    found = []
    for order in (np.arange(2_000), rng.permutation(2_000)):
        made = train.train(InMemory([block.take(order)]), lookup, ARTWORK, train.Settings())
        assert made.tuned is not None
        found.append(made.tuned.losses)
    assert found[0].keys() == found[1].keys()
    for name, loss in found[0].items():
        assert found[1][name] == pytest.approx(loss, abs=2e-4), name


def test_rows_that_age_faster_are_rows_of_a_shorter_half_life(tmp_path: Path) -> None:
    """Rewards between the least and the most too, which are two lines: they count as one row."""
    block = log(2_000)
    graded = np.random.default_rng(2).choice([0.0, 0.3, 0.8, 1.0], 2_000)
    block = replace(
        block, reward=graded, occurred_at=microseconds(NOW) + 60_000_000 * np.arange(2_000)
    )
    found, day = survey(InMemory([block]), lookup, (0.0, 1.0)), dt.timedelta(days=1)
    losses = []
    for half_life, ageing in ((day, 3.0), (day / 3, 1.0)):
        folder = tmp_path / str(ageing)
        folder.mkdir()
        trial = tuning.Trial(
            folder, InMemory([block]), lookup, found, ARTWORK, Ageing(half_life=half_life),
            DEFAULT.arguments, 1,
        )  # fmt: skip
        trial.cut(0.25)
        assert len(trial.members) == 500
        losses.append(trial.losses(Priors(ageing=ageing)) * trial._rows.weights[-500:].mean())
        losses[-1] /= trial._rows.weights[-500:]  # the judging rows themselves are not aged
    assert len(losses[0]) == 500
    assert losses[0] == pytest.approx(losses[1], rel=0.01)  # titles' levels are not aged


def test_one_member_who_is_sure_is_no_crowd() -> None:
    gain = np.full(400, 0.01) + np.random.default_rng(1).normal(0, 0.05, 400)
    alone, together = np.arange(400), np.repeat([1, 2], 200)
    assert tuning._surely_less(-gain, np.zeros(400), alone, 2.0)
    gain[:200] += 0.2
    gain[200:] -= 0.13
    assert gain.mean() > 2.0 * gain.std() / 20  # were all rows each other's strangers
    assert not tuning._surely_less(-gain, np.zeros(400), together, 2.0)
    noise = np.random.default_rng(2).normal(0, 1, (200, 400))
    for few in (1, 3):
        of = np.arange(400) % few
        wrong = sum(tuning._surely_less(x, np.zeros(400), of, 3.0) for x in noise)
        assert wrong <= 3, few


def test_communities_of_members_who_are_nearly_all_alike_are_fewer_not_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scipy.cluster import vq

    real, tried = vq.kmeans2, []

    def leaves_one_empty(factors, groups, *arguments, **more):  # type: ignore[no-untyped-def]
        tried.append(groups)
        if groups > 2:
            raise vq.ClusterError("one of the clusters is empty")
        return real(factors, groups, *arguments, **more)

    monkeypatch.setattr(vq, "kmeans2", leaves_one_empty)
    contexts = [Context(genres={"a": 5.0, "b": float(i % 9)}) for i in range(100)]
    learned = audiences.learn(contexts, ContextEncoder.learn(contexts), 1)
    assert learned is not None
    assert len(learned.communities) == 2
    assert sorted(set(tried), reverse=True)[-1] == 2


def test_titles_levels_are_shrunken_logits() -> None:
    found = base_logits(np.array([20, 0]), np.array([10.0, 0.0]))
    assert found == pytest.approx([0.0, 0.0])  # 20 rows of a mean of a half, and none
    assert base_logits(np.array([0]), np.array([0.0]))[0] < -6


def test_priors_are_chosen_on_a_log_from_before_1970_as_on_any_other() -> None:
    block = log(600)
    old = replace(block, occurred_at=block.occurred_at - microseconds(NOW) - 10**12)
    chosen = [
        train.train(InMemory([each]), lookup, ARTWORK, train.Settings()).tuned
        for each in (block, old)
    ]
    assert chosen[0] is not None
    assert chosen[0].priors == chosen[1].priors
    assert chosen[0].rows == chosen[1].rows


def test_a_host_that_widens_no_pipe_trains_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("too many wide pipes of this user")

    wide = train.train(InMemory([log(600)]), lookup, ARTWORK, DEFAULT).bundle.encode()
    monkeypatch.setattr("fcntl.fcntl", refused)
    assert train.train(InMemory([log(600)]), lookup, ARTWORK, DEFAULT).bundle.encode() == wide


def test_recent_rows_weigh_more() -> None:
    old, new = log(1_500, liking=3.0), log(1_500, seed=2, liking=-3.0)
    new = replace(new, occurred_at=new.occurred_at + microseconds(NOW) // 100)
    settings = replace(DEFAULT, half_life=dt.timedelta(days=1))
    made = train.train(InMemory([old, new]), lookup, ARTWORK, settings).bundle.model
    fan = made.context_encoder.encode([Context(genres={"TV Horror": 8.0})])[0]
    columns = made.variant_encoder.columns
    score = (np.array([1.0, *fan]) @ made.weights)[1:]
    assert (
        score[columns.index("emphasised:TV Horror")] < score[columns.index("emphasised:TV Dramas")]
    )


def test_bad_logs_are_refused_in_words() -> None:
    with pytest.raises(NotEnoughData, match="of at least 200"):
        train.train(InMemory([log(100)]), lookup, ARTWORK, DEFAULT)
    wrong = replace(log(300), reward=np.full(300, 7.0))
    with pytest.raises(InvalidInput, match="rewards from"):
        train.train(InMemory([wrong]), lookup, ARTWORK, DEFAULT)


def test_audiences_tell_apart_members_whom_no_genre_tells_apart() -> None:
    contexts = [
        Context(genres={"a": 5.0}, played={f"{i % 2}-{(i + k) % 12}": 1.0 for k in range(6)})
        for i in range(400)
    ]
    encoder = ContextEncoder.learn(contexts)
    learned = audiences.learn(contexts, encoder, 1)
    assert learned is not None
    encoder = encoder.with_audiences(learned)
    rows = encoder.encode(contexts)
    factors = rows[:, encoder.factors]
    group = np.arange(400) % 2 * 2.0 - 1
    assert max(abs(np.corrcoef(f, group)[0, 1]) for f in factors.T) > 0.9
    of_community = [name.startswith("community:") for name in encoder.columns]
    communities = rows[:, of_community].argmax(axis=1)
    mixed = sum(len(set(group[communities == c])) > 1 for c in set(communities))
    assert mixed == 0
    newcomer = encoder.encode([Context()])[0]
    assert np.abs(newcomer[encoder.factors]).max() < 4.0


def test_too_few_members_make_no_audiences() -> None:
    contexts = [Context(genres={"a": 1.0})] * 10
    encoder = ContextEncoder.learn(contexts)
    assert audiences.learn(contexts, encoder, 1) is None


def changed(rows: int, after: int) -> ReplayBlock:
    """Return a log in which, for its newest rows, tastes mean the opposite."""
    old, new = log(rows - after, liking=2.0), log(after, seed=2, liking=-2.0)
    later = new.occurred_at + (rows - after)
    day = 86_400_000_000
    at = np.concatenate([old.occurred_at, later])
    at = microseconds(NOW) + (at - microseconds(NOW)) * 30 * day // rows
    return ReplayBlock(
        decision_ids=np.concatenate([old.decision_ids, new.decision_ids]), occurred_at=at,
        member_ids=np.concatenate([old.member_ids, new.member_ids]), action_sets=old.action_sets,
        set_of_row=np.concatenate([old.set_of_row, new.set_of_row]),
        chosen=np.concatenate([old.chosen, new.chosen]),
        propensity=np.concatenate([old.propensity, new.propensity]),
        reward=np.concatenate([old.reward, new.reward]),
        contexts=Contexts.of([*old.contexts, *new.contexts]),
        cells=np.concatenate([old.cells, new.cells]),
    )  # fmt: skip


def test_a_changed_world_is_noticed_and_learned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "FEWEST_WATCHED", 5_000)
    watched = replace(DEFAULT, watched=True, with_audiences=False)
    steady = train.train(InMemory([log(8_000, liking=2.0)]), lookup, ARTWORK, watched)
    assert steady.tuned is None
    assert steady.priors == Priors()
    block = changed(8_000, 1_500)
    made = train.train(InMemory([block]), lookup, ARTWORK, watched)
    assert made.tuned is not None
    assert made.priors.ageing > 1
    unwatched = train.train(InMemory([block]), lookup, ARTWORK, DEFAULT)
    liked = [_liked(t.bundle.model) for t in (unwatched, made)]
    assert liked[0] > 0 > liked[1]


def _liked(model: LinearModel) -> float:
    """Return how much more a fan is offered what the fan watches."""
    fan = [Context(genres={"TV Horror": 8.0})]
    bound = BoundScorer.of(model, VariantColumns.of(variants(1)[0]))
    scores = bound.scores(fan, np.zeros(1, int), np.arange(4), np.array([0, 4]))
    return float(scores[[0, 2]].mean() - scores[[1, 3]].mean())
