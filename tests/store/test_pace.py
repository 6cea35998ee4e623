"""Background work holds nobody up for long."""

import datetime as dt
import time

import pytest

from artwork_bandit.slots import SLOTS
from artwork_bandit.store import attribution, pace, rewards
from artwork_bandit.store.engine import Store
from artwork_bandit.store.pace import Pace
from tests.simulated import WINDOW, Simulation


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(paced: Pace, clock: Clock, seconds_a_row: float, times: int) -> list[int]:
    sizes = []
    for _ in range(times):
        sizes.append(paced.size)
        with paced.timed():
            clock.now += seconds_a_row * paced.size
    return sizes


def test_sizes_find_what_fits() -> None:
    clock = Clock()
    paced = Pace(5_000, 0.1, clock)
    assert run(paced, clock, 1e-4, 4) == pytest.approx([250, 500, 1_000, 1_000], abs=1)
    assert run(paced, clock, 1e-3, 2)[-1] == pytest.approx(100, abs=1)
    assert run(paced, clock, 1.0, 2)[-1] == 1  # never nothing
    assert max(run(paced, clock, 1e-9, 20)) == 5_000


def test_waiting_for_a_turn_is_no_work(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a join behind large batches of events would come down to a row at a time."""
    store = Store(sqlite_url)
    simulation = Simulation.begin(store, sqlite_url, titles=3, members=20)
    simulation.visits(20)
    paced = Pace(5_000, 0.1)
    monkeypatch.setattr(Store, "pace", lambda *_: paced)
    monkeypatch.setattr(attribution, "alone", lambda *_: time.sleep(1.0))
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    assert rewards.join(store, SLOTS["artwork"], WINDOW, later) > 0
    assert paced.size > 250
    simulation.service.close()
    store.close()


def test_others_write_while_a_join_goes_on(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "FIRST", 10)
    between = []

    def others(_self: Pace) -> None:
        with store.write():
            between.append("wrote")

    monkeypatch.setattr(Pace, "rest", others)
    store = Store(sqlite_url)
    simulation = Simulation.begin(store, sqlite_url, titles=3, members=20)
    simulation.visits(100)
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    assert rewards.join(store, SLOTS["artwork"], WINDOW, later) == 60  # all there are
    assert len(between) >= 3
    assert rewards.join(store, SLOTS["artwork"], WINDOW, later) == 0
    simulation.service.close()
    store.close()
