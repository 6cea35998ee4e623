"""The encoder: hand-checkable columns, and hostile names change nothing."""

import msgspec
import numpy as np
import pytest

from artwork_bandit.domain import Context, Variant
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies.encoding import (
    SURPRISING_PLAYS,
    ContextEncoder,
    VariantEncoder,
    affinity_pairs,
)
from artwork_bandit.policies.features import FeatureTable, emphasis

HOSTILE = ["Mission: Impossible | x\ny", "😀", "עברית", "x" * 10_000, "", "a:1e308", "\ud800"]


def variant(features: dict, *title_genres: str) -> Variant:
    return Variant(
        variant_id="v", title_id="t", slot="artwork", uri="", features=features,
        title_genres=title_genres,
    )  # fmt: skip


def test_log_lift_by_hand() -> None:
    encoder = ContextEncoder(genres={"a": 0.25, "b": 0.75}, categories=[])
    row = encoder.encode([Context(genres={"a": 10.0})])[0]
    assert row == pytest.approx([np.log((10 + 1.25) / (15 * 0.25)), np.log(3.75 / (15 * 0.75))])


def test_a_play_of_a_genre_that_hardly_anybody_watches_is_no_sign_yet() -> None:
    shares = {"rare": 0.0003, "usual": 0.9997}
    encoder = ContextEncoder(genres=shares, categories=[], surprising=1.0)
    found = encoder.encode([Context(), *(Context(genres={"usual": 40, "rare": n}) for n in (1, 9))])
    assert found[0] == pytest.approx([0.0, 0.0])
    assert found[1:, 0] == pytest.approx(np.log([2.0015 / 1.0138, 10.0015 / 1.0162]))
    learned = ContextEncoder.learn([Context(genres={"a": 1.0, "b": 2.0})])
    assert learned.surprising == SURPRISING_PLAYS
    earlier = msgspec.json.decode(b'{"genres": {"a": 1.0}, "categories": []}', type=ContextEncoder)
    assert earlier.surprising == 0.0


def test_a_member_without_history_has_no_lift() -> None:
    encoder = ContextEncoder(genres={"a": 0.25, "b": 0.75}, categories=[])
    assert encoder.encode([Context()])[0] == pytest.approx([0.0, 0.0])


def test_lift_of_habits_by_hand() -> None:
    encoder = ContextEncoder(genres={"a": 0.25, "b": 0.75}, categories=[], habits=True)
    assert encoder.columns == ["genre:a", "genre:b", "habit:a", "habit:b"]
    some = Context(genres={"a": 10.0}, habits={"b": 5.0, "unknown": 9.0})
    found = encoder.encode([some, Context(genres={"a": 10.0})])
    own = [(10 + 1.25) / 15, 3.75 / 15]
    on = [5 * own[0] / 10, (5 + 5 * own[1]) / 10]
    assert found[0, 2:] == pytest.approx(np.log(np.divide(on, own)), abs=1 / 64)
    assert found[1, 2:].tolist() == [0, 0]
    variants = VariantEncoder.learn([variant({"genre": "a"})])
    pairs = affinity_pairs(encoder, variants)
    assert len(pairs) == 6
    assert pairs[0][0].tolist() == [0]
    assert pairs[3][0].tolist() == [2]


def test_a_log_without_habits_has_no_columns_for_them() -> None:
    assert not ContextEncoder.learn([Context(genres={"a": 1.0})] * 9).columns[1:]
    learned = ContextEncoder.learn([Context(genres={"a": 1.0}, habits={"a": 1.0}, played={"t": 1})])
    assert learned.columns == ["genre:a", "habit:a", "watched"]
    assert [*learned.habit_columns, learned.watched_column] == [1, 2]


def test_negative_weights_and_unknown_values_count_as_nothing() -> None:
    encoder = ContextEncoder(genres={"a": 1.0}, categories=["device:tv"])
    row = encoder.encode([Context(genres={"a": -3.0, "new": 9.0}, device="fridge")])[0]
    assert row == pytest.approx([0.0, 0.0])


def test_hostile_names_are_columns_like_others() -> None:
    contexts = [Context(genres={name: 1.0}, device=name) for name in HOSTILE] * 5
    encoder = ContextEncoder.learn(contexts)
    encoded = encoder.encode(contexts)
    assert np.all(np.isfinite(encoded))
    assert len(encoder.genres) == len(HOSTILE)
    variants = VariantEncoder.learn([variant({"genre": name}) for name in HOSTILE])
    (emphasised, _), *others = affinity_pairs(encoder, variants)
    assert len(emphasised) == len(HOSTILE)
    assert all(len(columns) == 0 for columns, _ in others)


def test_variant_columns() -> None:
    some = [variant({"genre": "a", "faces": 0, "tags": ["x", "y"]}),
            variant({"genre": "b", "faces": 2}, "b", "c")]  # fmt: skip
    encoder = VariantEncoder.learn(some)
    assert encoder.columns == [
        "genre=a", "genre=b", "tags=x", "tags=y", "faces", "emphasised:a", "emphasised:b",
    ]  # fmt: skip
    assert encoder.described == 5
    assert encoder.encode(FeatureTable.of(some)).tolist() == [
        [1, 0, 0.5, 0.5, -1, 1, 0],
        [0, 1, 0, 0, 1, 0, 1],
    ]
    new = variant({"genre": "new", "faces": True})
    assert not encoder.encode(FeatureTable.of([new])).any()


def test_a_tag_its_title_has_is_believed_another_or_none_leaves_the_titles_genres() -> None:
    assert dict(emphasis(variant({"genre": "a"}, "a", "b"))) == {"emphasised:a": 1}
    assert dict(emphasis(variant({"genre": ["a", "c"]}, "a", "b"))) == {
        "emphasised:a": 0.5, "tagged:c": 0.5,
    }  # fmt: skip
    assert dict(emphasis(variant({"genre": "c"}, "a", "b"))) == {
        "tagged:c": 1, "title's:a": 0.5, "title's:b": 0.5,
    }  # fmt: skip
    assert dict(emphasis(variant({}, "a"))) == {"title's:a": 1}
    assert dict(emphasis(variant({"genre": 7}))) == {}
    assert dict(emphasis(variant({"genre": "a"}))) == {"emphasised:a": 1}  # nobody knows better


def test_a_table_changed_row_by_row_is_the_table_made_at_once() -> None:
    first = [variant({"genre": "a", "faces": 1}), variant({"genre": "b"}),
             variant({"tags": ["x", "x"]}, "b")]  # fmt: skip
    other, dark = variant({"genre": "c", "faces": 3}, "b"), variant({"tone": "dark"})
    changed = FeatureTable.of(first).changed({1: other}, [dark])
    whole = [first[0], other, first[2], dark]
    encoder = VariantEncoder.learn(whole)
    assert encoder.encode(changed).tolist() == encoder.encode(FeatureTable.of(whole)).tolist()


def test_a_table_forgets_the_rows_that_were_replaced() -> None:
    table = FeatureTable.of([variant({"genre": "a", "faces": i}) for i in range(3)])
    for i in range(50):
        table = table.changed({i % 3: variant({"genre": "a", "faces": i, "tone": "dark"})}, [])
        assert len(table.tokens) == len(table.weights) <= 2 * table.sizes.sum()
    rows = [variant({"genre": "a", "faces": i, "tone": "dark"}) for i in (48, 49, 47)]
    encoder = VariantEncoder.learn(rows)
    assert encoder.encode(table).tolist() == encoder.encode(FeatureTable.of(rows)).tolist()


def test_of_too_many_products_the_largest_are_kept_and_pairs_of_one_field_come_once() -> None:
    """What clients send must not end training."""
    rng = np.random.default_rng(1)
    contexts = [
        Context(device="tv" if i % 4 else f"odd-{i}", genres={f"g{rng.integers(40)}": 9.0})
        for i in range(200)
    ]
    encoder = ContextEncoder.learn(contexts)
    made = encoder.with_products(["device*genre"], contexts)
    asked = (len(encoder.categories)) * len(encoder.genres)
    assert asked > 1_024 == len(made.products)
    assert made.products_left_out(["device*genre"]) == asked - 1_024
    names = set(made.columns)
    assert all(f"device:tv*genre:{genre}" in names for genre in encoder.genres)
    assert encoder.with_products(["genre*genre"]).products_left_out(["genre*genre"]) == 0
    few = ContextEncoder.learn([Context(genres={"a": 1.0, "b": 1.0, "c": 1.0})])
    assert few.with_products(["genre*genre"]).columns[3:] == [
        "genre:a*genre:b", "genre:a*genre:c", "genre:b*genre:c",
    ]  # fmt: skip


def test_products_of_context_fields_are_columns() -> None:
    contexts = [Context(device="tv", genres={"a": 9.0}), Context(device="web", genres={"b": 2.0})]
    encoder = ContextEncoder.learn(contexts).with_products(["device*genre"])
    assert encoder.columns[-4:] == [
        "device:tv*genre:a", "device:tv*genre:b", "device:web*genre:a", "device:web*genre:b",
    ]  # fmt: skip
    rows = encoder.encode(contexts)
    assert rows[0, 4:].tolist() == [rows[0, 0], rows[0, 1], 0, 0]
    assert rows[1, 4:].tolist() == [0, 0, rows[1, 0], rows[1, 1]]
    with pytest.raises(InvalidInput, match="fields are"):
        encoder.with_products(["device*colour"])
