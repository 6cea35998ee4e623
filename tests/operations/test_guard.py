"""What cells say of models: who is demoted, and which challenger goes live or ends."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from artwork_bandit.errors import Conflict
from artwork_bandit.estimators.mean import Mean, mean_reward
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.guard import (
    demote_if_damaged,
    demote_if_worse,
    end_challenge,
    end_damaged_challenge,
    surely_worse,
)
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.model_editing import GATE, GUARD, ModelEditor
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.operations.worker import Worker
from artwork_bandit.policies import bundle
from artwork_bandit.serving.state import LiveState
from artwork_bandit.slots import SLOTS
from artwork_bandit.slots.slot import CLICKS
from artwork_bandit.store import aggregates, cells, changes, registry, rules
from artwork_bandit.store.engine import Store
from artwork_bandit.store.model_files import ModelFiles
from artwork_bandit.store.tables import models
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def played(units: np.ndarray, plays: np.ndarray) -> Mean:
    """Return the mean reward where plays pay 1, and nothing else does."""
    return mean_reward(units, plays, plays, plays)


def worst_of(simulation: Simulation, version: int) -> int:
    """Register the model that likes least what that one likes best."""
    with simulation.service.store.read() as connection:
        good = registry.load(connection, version)
        settings = registry.get(connection, version).settings
    worst = replace(
        good,
        model=replace(good.model, weights=-good.model.weights, own_effects=-good.model.own_effects),
        canaries=[msgspec.structs.replace(c, score=-c.score) for c in good.canaries],
    )
    with simulation.service.store.write() as connection:
        return registry.register(
            connection, slot="artwork", data=worst.encode(), window=(None, None), rows=1,
            settings=settings, now=simulation.now,
        )  # fmt: skip


def test_a_model_worse_than_the_baseline_is_demoted(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    simulation.visits(1500)
    outcome = retrain(store, ARTWORK, simulation.settings, simulation.later())
    version = worst_of(simulation, outcome.version)
    simulation.now += dt.timedelta(days=30)
    with store.write() as connection:
        cells.set_shares(connection, {"baseline": 0.5, "live": 0.5})
        registry.promote(connection, version, "a mistake", simulation.now)
    simulation.service.state.refresh()
    simulation.visits(50)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    with monkeypatch.context() as patched:
        patched.delattr(Store, "write")  # looking holds nobody up
        assert demote_if_worse(store, ARTWORK, simulation.later()) is None  # too early to tell
    reason = None
    for _ in range(10):
        simulation.visits(250)
        join_rewards(store, ARTWORK, simulation.settings, simulation.later())
        # Nothing was paid by that rule.
        assert demote_if_worse(store, ARTWORK.under(CLICKS), simulation.later()) is None
        if reason := demote_if_worse(store, ARTWORK, simulation.later()):
            break
    assert reason is not None
    assert "demoted" in reason
    with store.read() as connection:
        live = registry.live(connection, "artwork")
    assert live is None or live.version != version
    assert demote_if_worse(store, ARTWORK, simulation.later()) is None
    later = simulation.later() + dt.timedelta(hours=2)
    with store.write() as connection:
        registry.promote(connection, version, "once more", later)
    assert demote_if_worse(store, ARTWORK, later) is None  # judged by what it chooses from now on


def test_cells_are_compared_by_what_the_rule_in_force_pays(simulation: Simulation) -> None:
    """Where clicks pay, and quality plays cost: the model that wins plays goes. Not before units of
    both cells are settled under that rule, and by these alone."""
    store = simulation.service.store
    good, _ = two_models(simulation)
    simulation.now += dt.timedelta(days=30)
    with store.write() as connection:
        cells.set_shares(connection, {"baseline": 0.5, "live": 0.5})
        registry.promote(connection, good, "for the test", simulation.now)
    simulation.service.state.refresh()
    simulation.visits(2500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    rule = replace(
        CLICKS, version="plays-cost", quality=-1.0, click=0.1, bounds=(-1.0, 1.0)
    )  # fmt: skip
    other = ARTWORK.under(rule)
    assert demote_if_worse(store, other, simulation.later()) is None
    simulation.now += dt.timedelta(days=15)
    simulation.visits(60)
    join_rewards(store, other, simulation.settings, simulation.later())
    with store.read() as connection:
        since = rules.since(connection, "artwork", rule)
        assert rules.since(connection, "artwork", ARTWORK.reward) is None
    assert since is not None
    assert simulation.now - dt.timedelta(days=16) < since < simulation.now
    assert demote_if_worse(store, other, simulation.later()) is None  # what was before says naught
    assert demote_if_worse(store, ARTWORK, simulation.later()) is None
    reason = None
    for _ in range(10):
        simulation.visits(250)
        join_rewards(store, other, simulation.settings, simulation.later())
        if reason := demote_if_worse(store, other, simulation.later()):
            break
    assert f"model {good} demoted: mean reward -0." in str(reason)


def test_the_guard_leaves_alone_what_somebody_has_changed_while_it_counted(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    simulation.visits(900)
    first, second = (
        retrain(store, ARTWORK, simulation.settings, simulation.later()).version for _ in range(2)
    )

    def counts(*_: object) -> str:
        with store.write() as connection:
            registry.promote(connection, second, "by hand", simulation.later())
        return "worse"

    monkeypatch.setattr("artwork_bandit.operations.guard.surely_worse", counts)
    assert demote_if_worse(store, ARTWORK, simulation.later()) is None
    with store.read() as connection:
        assert registry.live(connection, "artwork").version == second != first
    monkeypatch.setattr("artwork_bandit.operations.guard.surely_worse", lambda *_: "worse")
    assert "worse" in str(demote_if_worse(store, ARTWORK, simulation.later()))


def two_models(simulation: Simulation, visits: int = 1500) -> tuple[int, int]:
    """Return a model that learned from so many visits, and its opposite."""
    simulation.visits(visits)
    store = simulation.service.store
    good = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    return good, worst_of(simulation, good)


def registered(simulation: Simulation, version: int, changed_at: dt.datetime | None) -> int:
    """Register the same model again, as one that knows of a change."""
    with simulation.service.store.write() as connection:
        record = registry.get(connection, version)
        settings = dict(record.settings) | {"changed_at": changed_at and changed_at.isoformat()}
        data = registry.load(connection, version).encode()
        return registry.register(
            connection, slot="artwork", data=data, window=(None, None), rows=1, settings=settings,
            now=simulation.now,
        )  # fmt: skip


@pytest.mark.parametrize("cell", ["explore", "baseline"])
def test_a_model_that_has_ceased_to_be_true_goes_unless_its_cell_does_better(
    simulation: Simulation, cell: str
) -> None:
    """And so do those before it that know no better."""
    store = simulation.service.store
    simulation.visits(1500)
    good = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    bad, older = worst_of(simulation, good), worst_of(simulation, good)
    simulation.now += dt.timedelta(days=30)
    with store.write() as connection:
        cells.set_shares(connection, {cell: 0.5, "live": 0.5})
        registry.promote(connection, older, "for the test", simulation.now)
        registry.promote(connection, bad, "for the test", simulation.now)
    simulation.service.state.refresh()
    simulation.visits(60)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    assert demote_if_worse(store, ARTWORK, simulation.later()) is None  # too few to be sure
    changed_at = simulation.now - dt.timedelta(days=1)
    registered(simulation, good, changed_at)
    said = str(demote_if_worse(store, ARTWORK, simulation.later()))
    assert said.startswith(
        f"model {bad} demoted: what it had learned ceased to be true at "
        f"{changed_at:%Y-%m-%d %H:%M}Z, and since then its mean reward is 0."
    )
    assert said.endswith(f" in the {cell} cell")
    assert serve(store) == (None, None)  # neither of those before it knows of the change
    with store.write() as connection:
        change = changes.latest(connection)[0]
        Editor(connection=connection, author="Ann", now=simulation.later()).undo(change.change_id)
    assert serve(store) == (bad, None)


def test_what_knows_of_the_change_is_gone_back_to(simulation: Simulation) -> None:
    store = simulation.service.store
    simulation.visits(900)
    first = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    changed_at = simulation.now
    knows = registered(simulation, first, changed_at)
    others = [registered(simulation, first, None) for _ in range(2)]
    registered(simulation, first, changed_at)
    with store.write() as connection:
        for version in (first, knows, *others):
            registry.promote(connection, version, "for the test", simulation.now)
        editor = ModelEditor(connection=connection, author=GUARD, now=simulation.later())
        editor.roll_back("artwork", "for the test", knowing=changed_at)
        assert registry.live(connection, "artwork").version == knows
        editor.roll_back("artwork", "for the test")  # not to those that know nothing of it
        assert registry.live(connection, "artwork").version == first


def test_a_model_that_ceased_to_be_true_and_still_does_better_stays(
    simulation: Simulation,
) -> None:
    store = simulation.service.store
    simulation.visits(1500)
    good = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    simulation.now += dt.timedelta(days=30)
    with store.write() as connection:
        cells.set_shares(connection, {"explore": 0.4, "baseline": 0.2, "live": 0.4})
    registered(simulation, good, simulation.now)
    simulation.service.state.refresh()
    simulation.visits(500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    assert demote_if_worse(store, ARTWORK, simulation.later()) is None


def tried(simulation: Simulation, live: int, challenger: int, author: str = GATE) -> None:
    """Let one model challenge another, each for half of the members."""
    simulation.now += dt.timedelta(days=30)
    with simulation.service.store.write() as connection:
        cells.set_shares(connection, {"challenger": 0.5, "live": 0.5})
        registry.promote(connection, live, "for the test", simulation.now)
        ModelEditor(connection=connection, author=author, now=simulation.now).challenge(challenger)
    simulation.service.state.refresh()


def told(simulation: Simulation, looks: int = 10) -> str | None:
    """Return what the cells come to say, looked at again and again."""
    for _ in range(looks):
        simulation.visits(250)
        join_rewards(simulation.service.store, ARTWORK, simulation.settings, simulation.later())
        if said := end_challenge(simulation.service.store, ARTWORK, simulation.later()):
            return said
    return None


def serve(store: Store) -> tuple[int | None, int | None]:
    """Return the live model and the challenger."""
    with store.read() as connection:
        live = registry.live(connection, "artwork")
        challenger = registry.challenger(connection, "artwork")
    return live and live.version, challenger and challenger.version


def test_a_challenger_whose_cell_is_surely_better_goes_live(simulation: Simulation) -> None:
    store = simulation.service.store
    good, bad = two_models(simulation)
    tried(simulation, live=bad, challenger=good)
    assert told(simulation, looks=0) is None
    assert end_challenge(store, ARTWORK, simulation.later()) is None  # nobody has been counted
    said = told(simulation)
    assert str(said).startswith(f"model {good} did better than model {bad}: mean reward 0.")
    assert "in the challenger cell" in str(said)
    assert serve(store) == (good, None)
    with store.read() as connection:
        change = changes.latest(connection)[0]
        assert registry.last_promotion(connection, "artwork").reason == said
    assert (change.author, change.action) == ("guard", "model promoted")


def test_a_challenger_whose_cell_is_surely_worse_ends_and_may_be_brought_back(
    simulation: Simulation,
) -> None:
    store = simulation.service.store
    good, bad = two_models(simulation)
    tried(simulation, live=good, challenger=bad)
    said = told(simulation)
    assert str(said).startswith(f"model {bad} challenges no more: mean reward 0.")
    assert serve(store) == (good, None)
    with store.write() as connection:
        record = registry.get(connection, bad)
        assert (record.status, record.reason) == ("rejected", said)
        change = changes.latest(connection)[0]
        assert (change.author, change.action) == ("guard", "challenger ended")
        Editor(connection=connection, author="Ann", now=simulation.later()).undo(change.change_id)
    assert serve(store) == (good, bad)
    assert told(simulation, looks=4) is None  # it is Ann's now
    assert serve(store) == (good, bad)


def test_a_challenger_of_another_rule_goes_live_by_hand_only(simulation: Simulation) -> None:
    store = simulation.service.store
    good, bad = two_models(simulation, 900)
    tried(simulation, live=bad, challenger=good)
    other = replace(ARTWORK, reward=replace(ARTWORK.reward, version="ours-1"))
    simulation.visits(2500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    assert end_challenge(store, other, simulation.later()) is None
    assert serve(store) == (bad, good)
    assert end_challenge(store, ARTWORK, simulation.later()) is not None


def test_while_no_model_is_live_the_challenger_is_compared_with_uniform_choice(
    simulation: Simulation,
) -> None:
    store = simulation.service.store
    good, bad = two_models(simulation)
    tried(simulation, live=good, challenger=bad)
    with store.write() as connection:
        registry.roll_back(connection, "artwork", "for the test", simulation.now, challenged=True)
    assert serve(store) == (None, bad)
    simulation.service.state.refresh()
    assert str(told(simulation, looks=20)).startswith(f"model {bad} challenges no more: mean ")


def test_of_models_that_are_the_same_none_goes_live_or_ends() -> None:
    """Looked at fifty times, in 300 logs: at most one in a hundred is told better, and worse."""
    rng = np.random.default_rng(1)
    buckets, per_look = 256, 4_000
    told = []
    for _ in range(300):
        counts = np.zeros((2, 2, buckets))  # cell, units or plays
        ended = False
        for _ in range(50):
            for cell, share in enumerate((0.9, 0.1)):
                units = rng.multinomial(int(per_look * share), np.full(buckets, 1 / buckets))
                counts[cell] += units, rng.binomial(units, 0.09)
            live, challenger = (played(*of) for of in counts)
            both = surely_worse(live, challenger), surely_worse(challenger, live)
            ended |= any(both)
        told.append(ended)
    assert np.mean(told) <= 0.02


def test_a_better_cell_is_never_demoted_and_few_plays_never_judged() -> None:
    units, many, few = np.full(256, 100.0), np.full(256, 12.0), np.full(256, 8.0)
    assert surely_worse(played(units, many), played(units, few)) is None
    assert surely_worse(played(units, few), played(units, many)) is not None
    scarce = np.zeros(256)
    scarce[:10] = 1
    assert surely_worse(played(units, scarce), played(units, scarce * 5)) is None
    assert surely_worse(played(units / 60, scarce), played(units, many)) is None


@pytest.mark.parametrize("plays", [0.0, 0.1])
def test_a_model_whose_pictures_nobody_plays_is_demoted(plays: float) -> None:
    units, many = np.full(256, 100.0), np.full(256, 12.0)
    broken = surely_worse(played(units, np.full(256, plays)), played(units, many))
    assert broken is not None
    # As soon as plays were to be expected, and not of chance alone.
    soon, before = (np.full(256, n) for n in (5.0, 1.5))
    assert surely_worse(played(soon, 0 * soon), played(units, many)) is not None
    assert surely_worse(played(before, 0 * before), played(units, many)) is None


def test_cells_are_compared_since_members_were_last_moved_between_them(
    simulation: Simulation,
) -> None:
    store = simulation.service.store
    good, bad = two_models(simulation)
    tried(simulation, live=good, challenger=bad)
    simulation.visits(2500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=simulation.later())
        editor.set_cells({"live": 0.6, "challenger": 0.4})
    assert end_challenge(store, ARTWORK, simulation.later()) is None  # nobody has come since


def test_a_model_that_was_let_go_of_is_not_gone_back_to(simulation: Simulation) -> None:
    store = simulation.service.store
    simulation.visits(900)
    first = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    versions = [registered(simulation, first, None) for _ in range(3)]
    with store.write() as connection:
        for version in (first, *versions):
            registry.promote(connection, version, "for the test", simulation.now)
        editor = ModelEditor(connection=connection, author=GUARD, now=simulation.later())
        change = editor.roll_back("artwork", "for the test", knowing=simulation.now)
        assert registry.live(connection, "artwork") is None
        with pytest.raises(Conflict, match="no live model to roll back from"):
            editor.roll_back("artwork")
        Editor(connection=connection, author="Ann", now=simulation.later()).undo(change)
        assert registry.live(connection, "artwork").version == versions[-1]


def test_undoing_the_end_of_a_challenge_ends_nobody_else_s(simulation: Simulation) -> None:
    store = simulation.service.store
    simulation.visits(900)
    good = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    bad, other = worst_of(simulation, good), worst_of(simulation, good)
    tried(simulation, live=good, challenger=bad)
    with store.write() as connection:
        guard = ModelEditor(connection=connection, author=GUARD, now=simulation.later())
        assert guard.end_challenge("artwork", "its cell says so") == bad
        ended = changes.latest(connection)[0].change_id
        ann = Editor(connection=connection, author="Ann", now=simulation.later())
        ann.challenge(other)
        with pytest.raises(Conflict, match="another model challenges by now"):
            ann.undo(ended)
        registry.unchallenge(connection, "artwork", simulation.later())
        ann.undo(ended)
        record = registry.get(connection, bad)
        assert (record.status, record.reason) == ("candidate", "not judged")
    assert serve(store) == (good, bad)


def broken_canaries(store: Store, version: int) -> None:
    """Have a model predict otherwise than when it was made, though its bytes are as registered."""
    with store.write() as connection:
        good = registry.load(connection, version)
        data = replace(
            good, canaries=[msgspec.structs.replace(c, score=c.score + 1) for c in good.canaries]
        ).encode()
        connection.execute(
            sa.update(models)
            .where(models.c.version == version)
            .values(bundle=data, sha256=bundle.sha256(data))
        )


def test_what_would_be_gone_back_to_is_passed_over_if_it_is_damaged(
    simulation: Simulation,
) -> None:
    store = simulation.service.store
    good, bad = two_models(simulation, 900)
    third = worst_of(simulation, good)
    with store.write() as connection:
        for version in (bad, third):
            registry.promote(connection, version, "for the test", simulation.now)
    broken_canaries(store, bad)
    with store.write() as connection:
        ModelEditor(connection=connection, author="Ann", now=simulation.now).roll_back("artwork")
        assert registry.live(connection, "artwork").version == good
        reason = registry.last_promotion(connection, "artwork").reason
    assert reason == (
        f"rolled back by Ann; model {bad}, live before, cannot be read and was passed over"
    )
    with store.write() as connection:
        registry.promote(connection, third, "for the test", simulation.now)
    broken_canaries(store, good)
    with store.write() as connection:
        ModelEditor(connection=connection, author="Ann", now=simulation.now).roll_back("artwork")
        assert registry.live(connection, "artwork") is None


def test_models_that_predict_otherwise_serve_nobody(simulation: Simulation, tmp_path: Path) -> None:
    store = simulation.service.store
    good, bad = two_models(simulation, 900)
    tried(simulation, live=good, challenger=bad, author="Ann")
    state = simulation.service.state
    assert demote_if_damaged(store, ARTWORK, simulation.now) is None
    assert end_damaged_challenge(store, ARTWORK, simulation.now) is None
    assert not state.broken_challengers
    broken_canaries(store, bad)
    files = ModelFiles(tmp_path)  # none that were sound before
    fresh = LiveState(store, state._cell_key, 3600, files)
    fresh.refresh()
    assert fresh.broken_challengers == {"artwork": bad}
    said = end_damaged_challenge(store, ARTWORK, simulation.now)
    assert str(said).startswith(f"model {bad} challenges no more: model {bad} cannot be used")
    assert serve(store) == (good, None)
    broken_canaries(store, good)
    said = demote_if_damaged(store, ARTWORK, simulation.now)
    assert "its canary predictions differ from training's" in str(said)
    assert serve(store) == (None, None)


def test_a_challenger_that_is_better_takes_the_place_of_what_goes(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At one look both can be told: the model before, which nobody compared, does not get it."""
    store = simulation.service.store
    good, bad = two_models(simulation)
    older = worst_of(simulation, good)
    with store.write() as connection:
        registry.promote(connection, older, "for the test", simulation.now)
    tried(simulation, live=bad, challenger=good)
    with store.write() as connection:
        cells.set_shares(connection, {"challenger": 0.35, "live": 0.35, "baseline": 0.3})
    simulation.service.state.refresh()
    worker = Worker(store, simulation.settings)
    monkeypatch.setattr(worker, "_due", lambda *_: ("no", None))
    simulation.visits(2500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    with store.read() as connection:
        others = aggregates.by_cell(connection, "artwork", simulation.now - dt.timedelta(9), None)
    live, baseline = (played(others[c].units, others[c].quality_plays)
                      for c in ("live", "baseline"))  # fmt: skip
    assert surely_worse(live, baseline) is not None
    simulation.visits(20)  # somebody is shown what is new to them
    done, _ = worker.once(simulation.later()) or []
    assert str(done.decided).startswith(f"model {good} did better than model {bad}")
    assert done.demoted is None
    assert serve(store) == (good, None)
    worker.close()
