"""The encoder: hand-checkable columns, and hostile names change nothing."""

import numpy as np
import pytest

from artwork_bandit.domain import Context
from artwork_bandit.errors import InvalidInput
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder, affinity_pairs
from artwork_bandit.policies.features import FeatureTable

HOSTILE = ["Mission: Impossible | x\ny", "😀", "עברית", "x" * 10_000, "", "a:1e308", "\ud800"]


def test_log_lift_by_hand() -> None:
    encoder = ContextEncoder(genres={"a": 0.25, "b": 0.75}, categories=[])
    row = encoder.encode([Context(genres={"a": 10.0})])[0]
    assert row == pytest.approx([np.log((10 + 1.25) / (15 * 0.25)), np.log(3.75 / (15 * 0.75))])


def test_a_member_without_history_has_no_lift() -> None:
    encoder = ContextEncoder(genres={"a": 0.25, "b": 0.75}, categories=[])
    assert encoder.encode([Context()])[0] == pytest.approx([0.0, 0.0])


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
    variants = VariantEncoder.learn([{"genre": name} for name in HOSTILE])
    assert len(affinity_pairs(encoder, variants, "genre")[0]) == len(HOSTILE)


def test_variant_columns() -> None:
    features = [{"genre": "a", "faces": 0, "tags": ["x", "y"]}, {"genre": "b", "faces": 2}]
    encoder = VariantEncoder.learn(features)
    assert encoder.columns == ["genre=a", "genre=b", "tags=x", "tags=y", "faces"]
    assert encoder.encode(FeatureTable.of(features)).tolist() == [
        [1, 0, 0.5, 0.5, -1],
        [0, 1, 0, 0, 1],
    ]
    assert encoder.encode(FeatureTable.of([{"genre": "new", "faces": True}]))[0].tolist() == [
        0,
        0,
        0,
        0,
        0,
    ]


def test_a_table_changed_row_by_row_is_the_table_made_at_once() -> None:
    first = [{"genre": "a", "faces": 1}, {"genre": "b"}, {"tags": ["x", "x"]}]
    changed = FeatureTable.of(first).changed({1: {"genre": "c", "faces": 3}}, [{"tone": "dark"}])
    whole = [first[0], {"genre": "c", "faces": 3}, first[2], {"tone": "dark"}]
    encoder = VariantEncoder.learn(whole)
    assert encoder.encode(changed).tolist() == encoder.encode(FeatureTable.of(whole)).tolist()


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
