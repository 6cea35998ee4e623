"""Values: taking rows of a block keeps what belongs to them, and nothing else."""

import msgspec
import numpy as np

from artwork_bandit.domain import ActionSet, Context, Contexts, ReplayBlock


def block() -> ReplayBlock:
    sets = tuple(
        ActionSet(
            action_set_id=i, title_id=f"t{i}", slot="artwork", revision_ids=(),
            variant_ids=tuple(f"t{i}-{j}" for j in range(i + 1)),
        )
        for i in range(3)
    )  # fmt: skip
    return ReplayBlock(
        decision_ids=np.array(["a", "b", "c"], object), occurred_at=np.arange(3),
        member_ids=np.array(["m", "n", "o"], object), action_sets=sets,
        set_of_row=np.array([2, 0, 1]), chosen=np.array([1, 0, 1]),
        propensity=np.array([0.3, 1.0, 0.5]), reward=np.array([1.0, 0.0, 1.0]),
        contexts=Contexts.of([Context(hour=1), Context(hour=2), Context(hour=3)]),
        cells=np.array([None, None, None], object),
        targets={"x": np.array([0.1, 0.2, 0.7, 1.0, 0.4, 0.6])},
    )  # fmt: skip


def test_taking_rows_keeps_their_variants_and_drops_action_sets_nobody_uses() -> None:
    taken = block().take(np.array([2, 0]))
    assert [s.title_id for s in taken.action_sets] == ["t1", "t2"]
    assert taken.offsets.tolist() == [0, 2, 5]
    assert taken.targets["x"].tolist() == [0.4, 0.6, 0.1, 0.2, 0.7]
    pairs = zip(taken.set_of_row, taken.chosen, strict=True)
    assert [taken.action_sets[s].variant_ids[c] for s, c in pairs] == ["t1-1", "t2-1"]
    assert [c.hour for c in taken.contexts] == [3, 1]


def test_taking_nothing_is_an_empty_block() -> None:
    taken = block().take(np.zeros(3, bool))
    assert (len(taken), taken.action_sets, taken.offsets.tolist()) == (0, (), [0])


def test_contexts_that_rows_share_are_looked_at_once_and_only_those_that_are_there() -> None:
    class Watched(list[Context]):
        looked: list[int]

        def __getitem__(self, at):  # type: ignore[no-untyped-def]
            self.looked.append(at)
            return super().__getitem__(at)

    distinct = Watched(Context(hour=h) for h in range(4))
    distinct.looked = []
    contexts = Contexts(distinct, np.array([3, 1, 3, 0])).take(np.array([0, 1, 2]))
    used, of_row = contexts.used()
    assert [c.hour for c in used] == [1, 3]
    assert of_row.tolist() == [1, 0, 1]
    assert distinct.looked == [1, 3]
    assert [c.hour for c in contexts] == [3, 1, 3]
    assert Contexts.unknown(0).used()[0] == []


def test_contexts_that_came_as_json_are_told_as_they_came_without_a_look() -> None:
    text = '{"hour": 3, "genres": {}}'
    never: list[Context] = []
    contexts = Contexts(never, np.array([0, 1]), ["{}", text]).take(np.array([1]))
    assert contexts.as_json(0) == text
    assert msgspec.json.decode(Contexts.of([Context(hour=3)]).as_json(0))["hour"] == 3
