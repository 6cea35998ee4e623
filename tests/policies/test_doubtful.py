"""Variants that no trusted tag tells of."""

import numpy as np

from artwork_bandit.domain import Variant
from artwork_bandit.policies.doubtful import Doubtful
from artwork_bandit.policies.encoding import ContextEncoder

CONTEXTS = ContextEncoder({"Drama": 0.5, "Comedy": 0.3, "Horror": 0.2}, ["device:tv"])


def variant(number: int, tag: str | None, *genres: str) -> Variant:
    features = {} if tag is None else {"genre": tag}
    return Variant(
        variant_id=f"a{number}", title_id="t", slot="artwork", uri="/x", features=features,
        title_genres=genres,
    )  # fmt: skip


MADE = Doubtful.of(
    {
        0: variant(0, "Drama", "Drama", "Horror"),
        1: variant(1, None, "Horror", "Drama"),
        3: variant(3, "Western", "Drama", "Comedy", "Horror"),  # none of the title's: wrong?
        4: variant(4, None, "Drama"),
        5: variant(5, "Horror"),  # of a title whose genres nobody told
        6: variant(6, None, "Drama", "Western"),  # which no member of the log ever watched
    },
    7,
    CONTEXTS,
)


def test_those_without_a_tag_or_with_one_that_may_be_wrong_may_emphasise_what_their_title_is() -> (
    None
):
    assert MADE.sizes.tolist() == [0, 2, 0, 3, 0, 0, 0]
    assert MADE.columns.tolist() == [2, 0, 0, 1, 2]
    assert len(MADE) == 5


def test_log_lifts_are_told_beyond_the_mean_over_the_titles_genres() -> None:
    contexts = np.array([[1.0, -1.0, 0.5, 1.0], [0.0, 3.0, 0.0, 0.0], [2.0, 0.0, 1.0, 0.0]])
    rows, features, values = MADE.beyond(contexts, np.array([1, 0, 3]))
    assert rows.tolist() == [0, 0, 2, 2, 2]
    assert features.tolist() == [0, 1, 2, 3, 4]
    assert values.tolist() == [-0.25, 0.25, 1.0, -1.0, 0.0]


def test_effects_of_genres_say_the_same_as_columns() -> None:
    rng = np.random.default_rng(1)
    effects, contexts = rng.normal(size=5), rng.normal(size=(50, 4))
    numbers = rng.integers(7, size=50)
    rows, features, values = MADE.beyond(contexts, numbers)
    expected = np.bincount(rows, effects[features] * values, 50)
    table = MADE.per_genre(effects)
    assert table.shape == (7, 3)
    assert np.allclose((contexts[:, :3] * table[numbers]).sum(axis=1), expected)
    assert np.abs(expected).max() > 0.5
