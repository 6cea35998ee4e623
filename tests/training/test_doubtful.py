"""Rows tell what a variant emphasises where its tag does not."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np
import pytest

from artwork_bandit.domain import ActionSet, Context, Floats, Variant
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.bundle import Bundle, decode, sha256
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.variants import VariantColumns
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import train
from artwork_bandit.training.start import Start
from tests.taught import GENRES, log, variants

ARTWORK = SLOTS["artwork"]
HOW = train.Settings(
    arguments=train.Settings().arguments.replace("--passes 12", "--passes 60"),
    priors=lambda rows: Priors(), with_audiences=False,
)  # fmt: skip
ALL = range(30)
DAY = 86_400_000_000


def shown(untagged: Sequence[int] = ALL) -> list[list[Variant]]:
    """The log's variants; those of some titles have lost their tags."""
    return [
        [
            replace(
                v, title_genres=GENRES,
                features={"faces": v.features["faces"]} if i in untagged else v.features,
            )
            for v in title
        ]
        for i, title in enumerate(variants(30))
    ]  # fmt: skip


def lookup(sets: Sequence[ActionSet], untagged: Sequence[int] = ALL) -> list[list[Variant]]:
    per_title = {v[0].title_id: v for v in shown(untagged)}
    return [per_title[s.title_id] for s in sets]


def liking(bundle: Bundle, untagged: Sequence[int] = ALL, titles: int = 3) -> Floats:
    """Return [titles, 4]: how much more a fan of horror likes each variant than one of drama does,
    in logits."""
    some = shown(untagged)[:titles]
    bound = BoundScorer.of(bundle.model, VariantColumns.of([v for title in some for v in title]))
    n = 4 * titles
    horror, drama = (
        bound.scores([Context(genres={g: 8.0})], np.zeros(titles, int), np.arange(n),
                     np.arange(0, n + 1, 4))
        for g in GENRES
    )  # fmt: skip
    assert bundle.learned is not None
    return (horror - drama).reshape(titles, 4) / bundle.learned.per_logit


def test_what_untagged_variants_emphasise_is_learned_from_who_liked_them() -> None:
    made = train.train(InMemory([log(8_000)]), lookup, ARTWORK, HOW).bundle
    found = liking(made)
    assert (found[:, ::2] > 0.8).all()  # of 3 in truth, shrunken
    assert (found[:, 1::2] < -0.8).all()
    without = replace(HOW, priors=lambda rows: Priors(own_genre=0))
    blind = liking(train.train(InMemory([log(8_000)]), lookup, ARTWORK, without).bundle)
    assert np.abs(blind - blind.mean(axis=1, keepdims=True)).max() < 0.4  # `faces` say a little


def test_a_tag_that_is_trusted_is_not_doubted() -> None:
    tagged = partial(lookup, untagged=())
    made = train.train(InMemory([log(2_000)]), tagged, ARTWORK, HOW).bundle
    assert made.model.own_columns == []
    assert len(made.model.own_effects[0]) == 1


def test_going_on_comes_to_what_all_rows_say_together() -> None:
    block = log(8_000)
    whole = train.train(InMemory([block]), lookup, ARTWORK, HOW).bundle
    made = train.train(InMemory([block.take(np.arange(2_000))]), lookup, ARTWORK, HOW).bundle
    first = made
    for begin in range(2_000, 8_000, 2_000):
        data = made.encode()  # as the registry keeps it
        start = Start.of(decode(data, sha256(data)))
        part = InMemory([block.take(np.arange(begin, begin + 2_000))])
        made = train.train(part, lookup, ARTWORK, HOW, start=start).bundle
    assert np.abs(liking(first) - liking(whole)).max() > 0.3
    assert np.abs(liking(made) - liking(whole)).max() < 0.15


def test_a_model_that_knew_no_doubt_learns_of_it_when_going_on() -> None:
    block = log(12_000, titles=6)
    mixed = partial(lookup, untagged=(3, 4, 5))
    tagged = block.set_of_row < 3
    first = train.train(
        InMemory([block.take(np.flatnonzero(tagged))]), mixed, ARTWORK, HOW
    ).bundle  # fmt: skip
    assert first.model.own_columns == []
    new = InMemory([block.take(np.flatnonzero(~tagged))])
    made = train.train(new, mixed, ARTWORK, HOW, start=Start.of(first)).bundle
    found = liking(made, (3, 4, 5), titles=6)
    assert (found[3:, ::2] > 0.5).all()
    assert (found[3:, 1::2] < -0.5).all()
    # And one that did keeps what it knows of variants that nobody sees again.
    then = train.train(
        InMemory([block.take(np.flatnonzero(tagged))]), mixed, ARTWORK, HOW, start=Start.of(made)
    ).bundle  # fmt: skip
    assert then.model.own_columns == made.model.own_columns
    again = liking(then, (3, 4, 5), titles=6)
    for kind in (again, found):
        kind -= kind.mean(axis=1, keepdims=True)
    assert again[3:] == pytest.approx(found[3:], abs=0.2)


def test_a_tag_that_is_mended_takes_the_place_of_what_was_learned() -> None:
    block = log(12_000)
    made = train.train(InMemory([block]), lookup, ARTWORK, HOW).bundle
    tagged = partial(lookup, untagged=())
    right = train.train(InMemory([block]), tagged, ARTWORK, HOW).bundle
    assert np.abs(liking(made)[:, ::2]).min() > 0.8
    assert np.abs(liking(made, ())).max() < 0.1  # this model knows nothing of trusted tags
    # And one that does counts a genre once.
    some = partial(lookup, untagged=(1,))
    mixed = train.train(InMemory([block]), some, ARTWORK, HOW).bundle
    wanted = liking(right, ())
    assert np.abs(liking(mixed, ()) - wanted).max() < 0.3
    later = log(12_000, seed=2)
    later = replace(later, occurred_at=later.occurred_at + DAY)
    then = train.train(InMemory([later]), tagged, ARTWORK, HOW, start=Start.of(mixed)).bundle
    assert np.abs(liking(then, ()) - wanted).max() < 0.3


def test_the_release_before_serves_what_it_cannot_go_on_from() -> None:
    made = train.train(InMemory([log(2_000)]), lookup, ARTWORK, HOW).bundle
    data = msgspec.msgpack.decode(made.encode())
    assert data["learned"] is None
    assert decode(made.encode(), sha256(made.encode())).learned == made.learned


def test_what_is_known_of_doubtful_variants_fades_as_rows_do() -> None:
    block = log(4_000)
    made = train.train(InMemory([block]), lookup, ARTWORK, HOW).bundle
    start, last = Start.of(made), int(block.occurred_at[-1])
    assert np.abs(start.model.own_effects[:, 1:]).max() > 0.2
    assert np.array_equal(start.aged(last).model.own_effects, start.model.own_effects)
    assert np.abs(start.aged(last + 3_000 * DAY).model.own_effects).max() < 1e-6


def test_models_of_the_last_release_are_gone_on_from() -> None:
    """It did not know of doubtful variants."""
    without = replace(HOW, priors=lambda rows: Priors(own_genre=0))
    made = train.train(InMemory([log(2_000)]), lookup, ARTWORK, without).bundle
    data = msgspec.msgpack.decode(made.encode())
    del data["learned_of_genres"]
    del data["learned"]["information"]["own_genre"]
    del data["learned"]["priors"]["own_genre"]
    old = msgspec.msgpack.encode(data)
    start = Start.of(decode(old, sha256(old)))
    later = log(6_000, seed=2)
    later = replace(later, occurred_at=later.occurred_at + DAY)
    then = train.train(InMemory([later]), lookup, ARTWORK, HOW, start=start).bundle
    assert (liking(then)[:, ::2] > 0.5).all()
