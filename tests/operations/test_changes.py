"""An abrupt change of what members like, from the log to the next model, on both databases."""

import datetime as dt
import subprocess
import sys

import numpy as np
import pytest

from artwork_bandit.errors import NotEnoughData
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import registry
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def test_a_change_is_found_remembered_and_learned_from(simulation: Simulation) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(900)
    first = retrain(store, ARTWORK, settings, simulation.later())
    assert first.promoted
    simulation.visits(200)
    assert first.changed_at is None
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at is None
    changed = simulation.now
    simulation.world = simulation.world.swapped(np.random.default_rng(4))
    simulation.visits(500)
    with pytest.raises(NotEnoughData, match="had learned ceased to be true"):
        retrain(store, ARTWORK, settings, simulation.later(), warm="always")
    then = retrain(store, ARTWORK, settings, simulation.later())
    assert then.changed_at is not None
    assert abs(then.changed_at - changed) < dt.timedelta(minutes=10)  # 60 of 500 visits
    with store.read() as connection:
        record = registry.get(connection, then.version)
        before, after = (
            registry.load(connection, v).policy(v) for v in (first.version, then.version)
        )
    assert record.settings["changed_at"] == then.changed_at.isoformat()
    assert record.settings["effective_rows"] < record.rows
    assert record.settings["priors"]["genre_cross"] > 0
    assert simulation.true_value(after) > 1.05 * simulation.true_value(before)
    simulation.visits(100)
    assert retrain(store, ARTWORK, settings, simulation.later()).changed_at == then.changed_at
    where = ("--database", settings.database_url)
    command = [sys.executable, "-m", "artwork_bandit", *where, "train"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert f"before {then.changed_at:%Y-%m-%d %H:%M}Z has ceased to be true" in said
