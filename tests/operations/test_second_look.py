"""A challenger is judged again by what has come since it learned."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from artwork_bandit.domain import ModelRecord, microseconds
from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.operations import held_out
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.model_editing import GATE, ModelEditor
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.operations.second_look import LEVEL, MORE, look_again, look_due
from artwork_bandit.operations.worker import Worker
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import cells, changes, registry
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import models
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def registered(simulation: Simulation, version: int, sign: int) -> int:
    """Register a model again, or (-1) one that likes least what that one likes best."""
    with simulation.service.store.write() as connection:
        good, record = registry.load(connection, version), registry.get(connection, version)
        model = good.model
        turned = replace(
            good,
            model=replace(
                model, weights=sign * model.weights, own_effects=sign * model.own_effects
            ),
            canaries=[msgspec.structs.replace(c, score=sign * c.score) for c in good.canaries],
        )
        return registry.register(
            connection, slot="artwork", data=turned.encode(),
            window=(record.window_from, record.window_to), rows=record.rows,
            settings=record.settings, metrics=record.metrics, now=simulation.now,
            reason="for the test",
        )  # fmt: skip


def challenged(simulation: Simulation, *, better: bool, author: str = GATE) -> tuple[int, int]:
    """Let a model challenge its opposite, the better one or the worse; return both, the challenger
    first. Nearly all members are of the other cells: what its own says tells nothing."""
    simulation.visits(900)
    store = simulation.service.store
    made = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    good, bad = (registered(simulation, made, sign) for sign in (1, -1))
    challenger, live = (good, bad) if better else (bad, good)
    with store.write() as connection:
        registry.promote(connection, live, "for the test", simulation.now)
        shares = {"explore": 0.5, "live": 0.49, "challenger": 0.01}
        cells.set_shares(connection, shares)
        editor = ModelEditor(connection=connection, author=author, now=simulation.now)
        editor.challenge(challenger)
    simulation.service.state.refresh()
    return challenger, live


def came(simulation: Simulation, visits: int) -> None:
    simulation.visits(visits)
    join_rewards(simulation.service.store, ARTWORK, simulation.settings, simulation.later())


def model(store: Store, version: int) -> ModelRecord:
    with store.read() as connection:
        return registry.get(connection, version)


def serve(store: Store) -> tuple[int | None, int | None]:
    """Return the challenger and the live model."""
    with store.read() as connection:
        found = registry.challenger(connection, "artwork"), registry.live(connection, "artwork")
    challenger, live = (None if each is None else each.version for each in found)
    return challenger, live


def come_since(store: Store, version: int) -> int:
    """Return how many rows have come since a model learned, counted one by one."""
    learned_to = model(store, version).window_to
    assert learned_to is not None
    after = learned_to + dt.timedelta(microseconds=1)
    return ReplaySource.of(store, None, "artwork", after).rows()


def test_of_challengers_that_are_worse_by_the_margin_few_go_live_at_any_of_ten_looks() -> None:
    """What is surely no worse than the margin at a look is, of one that is just that much worse, a
    walk with independent steps that is above the level's bound."""
    rng = np.random.default_rng(1)
    bound = NormalDist().inv_cdf((1 + LEVEL) / 2)
    rows = (1 + MORE) ** np.arange(11)
    steps = rng.standard_normal((200_000, 11)) * np.sqrt(np.diff(rows, prepend=0.0))
    z = np.cumsum(steps, axis=1) / np.sqrt(rows)
    challenges = z[:, 0] < NormalDist().inv_cdf(0.975)  # else it was live at once
    found = float(np.mean(challenges & np.any(z[:, 1:] > bound, axis=1)))
    assert found == pytest.approx(0.025, abs=0.002)


def test_a_challenger_that_the_log_speaks_for_by_now_goes_live(simulation: Simulation) -> None:
    store = simulation.service.store
    good, bad = challenged(simulation, better=True)
    assert look_due(store, ARTWORK) is None  # it was judged by as much
    assert look_again(store, ARTWORK, simulation.later) is None
    came(simulation, 400)
    assert look_due(store, ARTWORK) is not None
    told = look_again(store, ARTWORK, simulation.later)
    metrics = model(store, good).metrics
    assert metrics["rows_since"] == come_since(store, good) > 2_000
    rows = metrics["held_out_rows"]
    assert 1_000 < rows <= metrics["rows_since"]  # without what came within an hour of a change
    said = f"judged again by {rows:,} rows since it learned: held-out value +0."
    assert str(told).startswith(f"model {good} live: {said}")
    assert f"against model {bad}" in str(told)
    assert serve(store) == (None, good)
    with store.read() as connection:
        change = changes.latest(connection)[0]
        assert str(told).endswith(registry.last_promotion(connection, "artwork").reason)
    assert (change.author, change.action) == ("gate", "model promoted")
    assert str(told).endswith(change.after["why"])
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=simulation.later())
        editor.undo(change.change_id)
    assert serve(store) == (good, bad)
    came(simulation, 600)
    assert look_again(store, ARTWORK, simulation.later) is None  # she has let it go
    assert serve(store) == (good, bad)


def test_one_that_it_speaks_against_challenges_no_more(simulation: Simulation) -> None:
    store = simulation.service.store
    bad, good = challenged(simulation, better=False)
    before = model(store, bad)
    came(simulation, 400)
    told = look_again(store, ARTWORK, simulation.later)
    assert str(told).startswith(f"model {bad} challenges no more: judged again by ")
    assert serve(store) == (None, good)
    record = model(store, bad)
    assert (record.status, str(told).endswith(record.reason)) == ("rejected", True)
    with store.read() as connection:
        assert changes.latest(connection)[0].after == {"challenger": None, "why": record.reason}
    assert record.metrics["difference"] < 0
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=simulation.later())
        editor.undo(changes.latest(connection)[0].change_id)
    assert serve(store) == (bad, good)
    assert model(store, bad) == before


def test_one_that_it_cannot_tell_of_is_looked_at_when_a_quarter_more_has_come(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    serves = challenged(simulation, better=True)
    monkeypatch.setattr(
        "artwork_bandit.operations.held_out.gate",
        lambda *_: ("challenger", "could be worse", {"difference": 0.1, "held_out_rows": 2_345}),
    )
    came(simulation, 400)
    assert look_again(store, ARTWORK, simulation.later) is None
    assert serve(store) == serves
    record = model(store, serves[0])
    rows = record.metrics["rows_since"]
    assert record.reason == "judged again by 2,345 rows since it learned: could be worse"
    assert look_due(store, ARTWORK) is None
    for _ in range(20):
        came(simulation, 50)
        enough = come_since(store, serves[0]) >= (1 + MORE) * rows
        assert (look_due(store, ARTWORK) is not None) == enough
        if enough:
            break
    assert enough


def test_what_somebody_has_named_or_knows_of_no_change_is_left_alone(
    simulation: Simulation,
) -> None:
    store = simulation.service.store
    good, bad = challenged(simulation, better=True, author="Ann")
    came(simulation, 400)
    assert look_due(store, ARTWORK) is None  # it is hers to end
    with store.write() as connection:
        editor = ModelEditor(connection=connection, author=GATE, now=simulation.now)
        editor.end_challenge("artwork")
        editor.challenge(good)
    assert look_due(store, ARTWORK) is not None
    record = model(store, good)
    changed = (simulation.now - dt.timedelta(minutes=5)).isoformat()
    with store.write() as connection:
        registry.register(
            connection, slot="artwork", data=registry.load(connection, good).encode(),
            window=(record.window_from, record.window_to), rows=record.rows,
            settings=dict(record.settings) | {"changed_at": changed}, now=simulation.now,
        )  # fmt: skip
    assert look_due(store, ARTWORK) is None
    assert look_again(store, ARTWORK, simulation.later) is None
    assert serve(store) == (good, bad)


def test_what_is_decided_while_it_is_judged_stands(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    good, bad = challenged(simulation, better=True)
    came(simulation, 400)

    def meanwhile(*_: object) -> tuple[str, str, dict[str, float]]:
        with store.write() as connection:
            editor = Editor(connection=connection, author="Ann", now=simulation.later())
            editor.challenge(good)  # the same, but hers now
        return "live", "better", {"difference": 1.0, "held_out_rows": 1}

    monkeypatch.setattr("artwork_bandit.operations.held_out.gate", meanwhile)
    assert look_again(store, ARTWORK, simulation.later) is None
    assert serve(store) == (good, bad)
    assert model(store, good).reason == "for the test"


def test_what_is_judged_against_a_model_that_serves_no_more_decides_nothing(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    good, bad = challenged(simulation, better=True)
    came(simulation, 400)
    other = registered(simulation, good, 1)

    def meanwhile(*_: object) -> tuple[str, str, dict[str, float]]:
        with store.write() as connection:
            connection.execute(
                sa.update(models).where(models.c.version == bad).values(status="retired")
            )
            connection.execute(
                sa.update(models).where(models.c.version == other).values(status="live")
            )
        return "live", "better", {"difference": 1.0, "held_out_rows": 1}

    monkeypatch.setattr("artwork_bandit.operations.held_out.gate", meanwhile)
    assert look_again(store, ARTWORK, simulation.later) is None
    assert serve(store) == (good, other)


@pytest.mark.parametrize(
    ("estimate", "upper", "ends"),
    [(-0.02, 0.011, False), (-0.02, 0.009, True), (0.001, 0.009, False), (None, None, False)],
)
def test_only_what_is_surely_no_better_challenges_no_more(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, estimate: float | None,
    upper: float | None, ends: bool,
) -> None:  # fmt: skip
    store = simulation.service.store
    good, bad = challenged(simulation, better=True)
    came(simulation, 400)
    metrics = {
        "difference": estimate, "difference_upper": upper, "margin": 0.01, "held_out_rows": 1
    }  # fmt: skip
    monkeypatch.setattr(
        "artwork_bandit.operations.held_out.gate", lambda *_: ("rejected", "worse", metrics)
    )
    assert (look_again(store, ARTWORK, simulation.later) is not None) == ends
    assert serve(store) == ((None if ends else good), bad)
    assert look_due(store, ARTWORK) is None


def test_while_no_model_is_live_it_is_judged_against_uniform_choice_by_what_came_since(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    good, _ = challenged(simulation, better=True)
    with store.write() as connection:
        registry.withdraw(connection, "artwork", "for the test", simulation.now, challenged=True)
    simulation.service.state.refresh()
    came(simulation, 400)
    read: list[int | None] = []
    judged = held_out.judged

    def reads(store: Store, log: ReplaySource, *more: Any, level: float) -> Any:
        read.append(log.span().first)
        return judged(store, log, *more, level=level)

    monkeypatch.setattr(held_out, "judged", reads)
    told = look_again(store, ARTWORK, simulation.later)
    assert "against uniform (98.5% interval +0." in str(told)
    assert serve(store) == (None, good)
    learned_to = model(store, good).window_to
    assert learned_to is not None
    assert read[0] is not None
    assert read[0] > microseconds(learned_to)  # not a row of those that it learned from is read


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ZeroDivisionError("ours")])
def test_a_look_that_fails_fails_no_training_and_is_not_tried_at_every_join(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = simulation.service.store
    bad, good = challenged(simulation, better=False)
    came(simulation, 400)
    looks: list[int] = []

    def fails(*_: object, **__: object) -> None:
        looks.append(1)
        raise error

    monkeypatch.setattr("artwork_bandit.operations.held_out.judged", fails)
    worker = Worker(store, simulation.settings)
    monkeypatch.setattr(worker, "_due", lambda *_: ("yes", None))
    monkeypatch.setattr(worker, "_made", lambda *_: "model 9 challenger: for the test")

    def rounds() -> list[str | None]:
        done = []
        for _ in range(3):
            simulation.visits(150)
            found = worker.once(simulation.later())
            assert found is not None
            done += [each.trained for each in found if each.slot == "artwork"]
        return done

    try:
        assert rounds() == ["model 9 challenger: for the test"] * 3
        assert len(looks) == 3  # where a training is due it is tried beside it
        monkeypatch.setattr(worker, "_due", lambda *_: ("no", "it waits"))
        assert rounds() == [None] * 3
        assert len(looks) == 3
        simulation.now += dt.timedelta(hours=7)
        assert rounds() == [None] * 3
        assert len(looks) == 4
    finally:
        worker.close()
    assert serve(store) == (bad, good)


def test_a_worker_looks_again_though_no_training_is_due(simulation: Simulation) -> None:
    store = simulation.service.store
    bad, good = challenged(simulation, better=False)
    simulation.visits(400)
    with store.write() as connection:  # the newest has seen all there is
        record = registry.get(connection, good)
        registry.register(
            connection, slot="artwork", data=registry.load(connection, good).encode(),
            window=(record.window_from, record.window_to), rows=record.rows,
            settings=dict(record.settings) | {"log_rows": 10**6}, now=simulation.later(),
        )  # fmt: skip
    worker = Worker(store, simulation.settings)
    try:
        done = worker.once(simulation.later())
    finally:
        worker.close()
    assert done is not None
    artwork = next(each for each in done if each.slot == "artwork")
    assert str(artwork.trained).startswith(f"model {bad} challenges no more: judged again by ")
    assert serve(store) == (None, good)
