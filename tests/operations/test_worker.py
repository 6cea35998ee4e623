"""The worker: one leads, what is due is done once, a bad model goes, a kill loses nothing."""

import concurrent.futures
import datetime as dt
import json
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from artwork_bandit.domain import Event, EventType
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.planning import plan
from artwork_bandit.operations.retrain import carry_out, retrain
from artwork_bandit.operations.rules import slot_of
from artwork_bandit.operations.server_process import command
from artwork_bandit.operations.worker import COUNTED_AT, Counted, Done, Worker
from artwork_bandit.serving.ingest import Batch, Incoming
from artwork_bandit.settings import local_folder
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import events as event_store
from artwork_bandit.store import host_lock, parquet, registry, replay, reports
from artwork_bandit.store.engine import Store
from artwork_bandit.store.leader import Leader
from artwork_bandit.store.spool import Entry, Spool
from artwork_bandit.store.tables import cell_rollups, impressions, models, rewards
from artwork_bandit.store.window import Window
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]


def shown_units(store: Store) -> int:
    """Return the number of (member, title, slot, period) that were shown."""
    unit = (impressions.c.member_id, impressions.c.title_id, impressions.c.period)
    with store.read() as connection:
        distinct = sa.select(*unit).distinct().subquery()
        return int(connection.execute(sa.select(sa.func.count()).select_from(distinct)).scalar())


def test_one_leads_until_it_ends(store: Store, database_url: str) -> None:
    other = Store(database_url)
    first, second = Leader(store, "worker"), Leader(other, "worker")
    assert first.lead()
    assert not second.lead()
    assert first.lead()
    elsewhere = Leader(other, "another work")
    assert elsewhere.lead()
    elsewhere.close()
    first.close()
    assert second.lead()
    assert not first.lead()
    second.close()
    other.close()


def test_who_cannot_lock_does_not_lead_and_tries_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if store.dialect != "sqlite":
        pytest.skip("there is no file to lock")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("no descriptor is left")

    leader = Leader(store, "worker")
    with monkeypatch.context() as patched:
        patched.setattr(host_lock, "held", refused)
        assert not leader.lead()
    assert "no_lead" in caplog.text
    assert leader.lead()
    leader.close()


def test_a_leader_whose_connection_was_lost_knows_it(store: Store, database_url: str) -> None:
    if store.dialect == "sqlite":
        pytest.skip("a file lock cannot be lost")
    first, second = Leader(store, "worker"), Leader(store, "worker")
    assert first.lead()
    with store.write() as connection:
        # Ten seconds to be gone: told to end, a backend still holds its lock for a moment.
        ends = "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory'"
        connection.exec_driver_sql(ends)
    assert second.lead()
    assert not first.lead()
    second.close()


def test_what_others_learned_from_is_no_reason_to_wait(
    simulation: Simulation, tmp_path: Path
) -> None:
    """A model of a large file, or under another rule, says nothing of how this log has grown."""
    store, settings = simulation.service.store, replace(simulation.settings, train_seconds=3600)
    simulation.visits(600)
    now = simulation.later()
    join_rewards(store, SLOTS["artwork"], settings, now)
    path = tmp_path / "log.parquet"
    parquet.write(path, replay.blocks(store, Window()))
    retrain(store, SLOTS["artwork"], settings, now, log=path)
    retrain(store, slot_of(settings, "artwork", "clicks-1"), settings, now)
    worker = Worker(store, settings)
    done = worker.once(now)
    assert done is not None
    artwork = next(d for d in done if d.slot == "artwork")
    assert artwork.trained is not None, artwork.waits
    again = worker.once(now + dt.timedelta(hours=2))
    assert again is not None
    assert all(d.trained is None for d in again)
    worker.close()


def test_what_is_due_is_done_once(simulation: Simulation) -> None:
    store = simulation.service.store
    settings = replace(simulation.settings, train_seconds=3600)
    worker = Worker(store, settings)
    simulation.visits(1500)
    now = simulation.later()
    done = worker.once(now)
    assert done is not None
    artwork = next(d for d in done if d.slot == "artwork")
    assert artwork.joined == shown_units(store)
    assert artwork.trained is not None
    assert " live: " in artwork.trained
    with store.read() as connection:
        (report,) = reports.latest(connection, "artwork", 9)
        assert "<svg" in reports.page(connection, report.report_id)
        judged = json.loads(reports.json(connection, report.report_id))
    assert set(report.summary["targets"]) == {"uniform", "best-single", "live"}
    assert judged["targets"]["live"]["verdict"] == report.summary["targets"]["live"]["verdict"]
    for later in (now, now + dt.timedelta(hours=2)):  # no new log: nothing to learn from
        again = worker.once(later)
        assert again is not None
        assert all(d.trained is None and d.joined == 0 for d in again)
    simulation.visits(300)
    worker._log_rows["artwork"] = Counted(
        now, 10**9
    )  # what was assumed to be shown was joined, say
    recent = worker.once(simulation.later())
    assert recent is not None
    assert all(d.trained is None for d in recent)  # the log has grown, the model is young
    grown = worker.once(simulation.later() + dt.timedelta(hours=2))
    assert grown is not None
    assert any(d.trained for d in grown)
    worker.close()


def test_a_worker_that_waits_takes_over_and_stops_when_told(simulation: Simulation) -> None:
    store = simulation.service.store
    simulation.visits(50)
    first = Worker(store, simulation.settings)
    assert first.once(simulation.later()) is not None
    other_store = Store(simulation.settings.database_url)
    other = Worker(other_store, simulation.settings)
    assert other.once(simulation.later()) is None
    first.close()
    stopped = threading.Event()
    thread = threading.Thread(target=other.run, args=(stopped, simulation.later))
    thread.start()
    stopped.set()
    thread.join(timeout=30)
    assert not thread.is_alive()
    other.close()
    other_store.close()


def test_a_spool_left_behind_is_drained_whoever_leads(simulation: Simulation) -> None:
    store, settings = simulation.service.store, simulation.settings
    play = Event(
        event_id="left", type=EventType.PLAY, occurred_at=simulation.now, member_id="m",
        title_id="t0",
    )  # fmt: skip
    batch = Batch(events=[Incoming(index=0, event=play)], now=simulation.now)
    worker, leader = Worker(store, settings), Leader(store, "worker")
    assert leader.lead()
    Spool(Path(local_folder(settings)) / "spool.db").add(
        [Entry(kind="events", payload=msgspec.msgpack.encode(batch))]
    )
    assert worker.once(simulation.later()) is None
    with store.read() as connection:
        assert event_store.existing(connection, ["left"]) == {"left"}
    worker.close()
    leader.close()


def test_what_cannot_be_trained_is_not_tried_at_every_join(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def full(*_: object) -> None:
        tried.append(1)
        raise OSError("no space left on device")

    monkeypatch.setattr("artwork_bandit.operations.worker.carry_out", full)
    simulation.visits(300)
    worker = Worker(simulation.service.store, replace(simulation.settings, train_seconds=3600))
    for minutes in (0, 1, 2, 61):
        assert worker.once(simulation.later() + dt.timedelta(minutes=minutes)) is not None
    assert len(tried) == 2
    worker.close()


def test_a_young_log_is_learned_from_whenever_it_doubles(simulation: Simulation) -> None:
    """Whatever the clock says: the first models know little, and the gate cannot judge them."""
    store, settings = simulation.service.store, replace(simulation.settings, train_seconds=3600)
    worker, made = Worker(store, settings), []
    for _ in range(8):
        simulation.visits(100)
        (done, _) = worker.once(simulation.later()) or []
        if done.trained is not None:
            assert done.trained.startswith(f"model {len(made) + 1}")
            made.append(shown_units(store))
        else:
            assert done.waits is not None
            assert done.waits.endswith(" rows")
    assert made[0] >= 1_000
    assert len(made) == 2
    assert made[1] >= 2 * made[0]
    worker.close()


def test_a_live_model_that_is_damaged_does_not_keep_others_from_being_trained(
    simulation: Simulation,
) -> None:
    store, settings = simulation.service.store, replace(simulation.settings, train_seconds=60)
    worker = Worker(store, settings)
    simulation.visits(900)
    (done, _) = worker.once(simulation.later()) or []
    assert str(done.trained).startswith("model 1 live")
    with store.write() as connection:
        connection.execute(sa.update(models).values(bundle=b"\0"))
    soon = simulation.later() + dt.timedelta(minutes=11)
    (done, _) = worker.once(soon) or []  # though nothing has come
    assert str(done.demoted).startswith("model 1 demoted: ")
    simulation.visits(300)
    (done, _) = worker.once(simulation.later()) or []
    assert str(done.trained).startswith("model 2 ")
    with store.read() as connection:
        (served,) = registry.served(connection, "artwork")[1]
    assert "model 1 demoted" in str(served.why_ended)
    assert "its bytes hash to" in str(served.why_ended)
    worker.close()


def test_a_fault_of_ours_in_a_training_stops_no_worker(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a database that was away for a moment put the next training off."""
    faults: list[Exception] = [OperationalError("SELECT", {}, Exception("gone")), ValueError()]

    def joins(*arguments: Any) -> int:
        if len(faults) > 1:
            raise faults.pop(0)
        return join_rewards(*arguments)

    def trains(*arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return carry_out(*arguments)

    monkeypatch.setattr("artwork_bandit.operations.worker.join_rewards", joins)
    monkeypatch.setattr("artwork_bandit.operations.worker.carry_out", trains)
    monkeypatch.setattr("artwork_bandit.operations.worker.SLOTS", {"artwork": ARTWORK})
    simulation.visits(900)
    worker = Worker(simulation.service.store, replace(simulation.settings, train_seconds=600))
    (failed,) = worker.once(simulation.later()) or []
    assert "gone" in str(failed.failed)
    (failed,) = worker.once(simulation.later()) or []  # tried at once, and failed
    assert failed.failed == "ValueError: "
    (waits,) = worker.once(simulation.later()) or []
    assert waits.trained is None
    (done,) = worker.once(simulation.later() + dt.timedelta(minutes=11)) or []
    assert str(done.trained).startswith("model 1 live")
    worker.close()


def test_a_look_that_failed_is_taken_again_and_one_that_found_nothing_is_not(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[dt.datetime] = []

    def plans(store: Store, slot: Any, settings: Any, now: dt.datetime) -> Any:
        looked.append(now)
        if len(looked) == 2:
            raise OSError("no space left on device")
        return plan(store, slot, settings, now)

    monkeypatch.setattr("artwork_bandit.operations.worker.plan", plans)
    monkeypatch.setattr("artwork_bandit.operations.worker.SLOTS", {"artwork": ARTWORK})
    worker = Worker(simulation.service.store, replace(simulation.settings, train_seconds=60))
    simulation.visits(900)
    (done,) = worker.once(simulation.later()) or []
    assert str(done.trained).startswith("model 1")
    simulation.visits(20)
    (failed,) = worker.once(simulation.later()) or []
    assert failed.failed == "no space left on device"
    for minutes in (2, 4, 6):
        (done,) = worker.once(simulation.later() + dt.timedelta(minutes=minutes)) or []
        assert done.trained is None
    assert len(looked) == 3
    assert done.waits is not None
    assert "looked again after 1% more" in done.waits
    worker.close()


def test_a_training_that_waited_for_another_slots_goes_by_the_time_that_it_is_then(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[tuple[str, dt.datetime]] = []

    def plans(_store: Any, slot: Any, _settings: Any, now: dt.datetime) -> Any:
        began.append((slot.name, now))
        time.sleep(0.5)
        raise NotEnoughData("for the test")

    monkeypatch.setattr("artwork_bandit.operations.worker.plan", plans)
    monkeypatch.setattr(Worker, "_due", lambda *_: ("yes", None))
    worker = Worker(simulation.service.store, simulation.settings)
    worker.round(simulation.now, threading.Event(), wait=False)
    concurrent.futures.wait(worker._training.values(), timeout=30)
    worker.close()
    (_, first), (_, second) = began
    assert second - first >= dt.timedelta(seconds=0.4)


def test_joins_go_on_while_a_model_trains(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    def slowly(*arguments: Any) -> Any:
        assert may_end.wait(timeout=60)
        return carry_out(*arguments)

    monkeypatch.setattr("artwork_bandit.operations.worker.carry_out", slowly)
    store = simulation.service.store
    worker = Worker(store, replace(simulation.settings, train_seconds=3600))
    simulation.visits(1500)

    def artwork(**how: bool) -> Done:
        done = worker.round(simulation.later(), threading.Event(), **how)
        return next(d for d in done if d.slot == "artwork")

    assert artwork(wait=False).trained is None
    simulation.visits(100)
    meanwhile = artwork(wait=False)
    assert meanwhile.joined > 0
    assert meanwhile.trained is None
    may_end.set()
    trained = artwork().trained  # not begun anew: the same training
    assert trained is not None
    assert "model 1 live" in trained
    assert artwork().trained is None
    worker.close()


def test_one_that_is_told_to_stop_gives_the_lead_away_while_a_model_trains(
    simulation: Simulation, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, trains = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        trains.set()
        assert may_end.wait(timeout=60)
        return carry_out(*arguments)

    monkeypatch.setattr("artwork_bandit.operations.worker.carry_out", slowly)
    simulation.visits(1500)
    store = simulation.service.store
    worker = Worker(store, replace(simulation.settings, train_seconds=3600))
    worker.round(simulation.later(), threading.Event(), wait=False)
    assert worker._leader.lead()
    assert trains.wait(timeout=60)
    closing = threading.Thread(target=worker.close)
    closing.start()
    other_store = Store(database_url)
    other = Leader(other_store, "worker")
    deadline = time.monotonic() + 30
    while not other.lead() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert other.lead()
    assert closing.is_alive()  # it still trains
    other.close()
    next_one = Worker(other_store, replace(simulation.settings, train_seconds=3600))
    done = next_one.once(simulation.later())
    assert done is not None
    assert all(each.trained is None for each in done)  # nor does another the same
    may_end.set()
    closing.join(timeout=60)
    next_one.close()
    other_store.close()
    with store.read() as connection:
        assert registry.live(connection, "artwork") is not None  # what came of it is not lost


def test_rows_that_others_joined_count_before_long(simulation: Simulation) -> None:
    store = simulation.service.store
    simulation.visits(400)
    worker = Worker(store, replace(simulation.settings, train_seconds=86_400))
    at = simulation.later()
    assert worker._slot(ARTWORK, at, wait=True).trained is not None
    assert "is young" in str(worker._slot(ARTWORK, at, wait=True).waits)
    simulation.visits(900)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())  # another leads, say
    assert worker._slot(ARTWORK, at + COUNTED_AT / 2, wait=True).trained is None
    assert worker._slot(ARTWORK, at + COUNTED_AT, wait=True).trained is not None
    worker.close()


def test_a_model_of_a_clock_that_was_ahead_keeps_none_from_being_trained(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    simulation.visits(400)
    worker = Worker(store, replace(simulation.settings, train_seconds=3_600))
    at = simulation.later()
    assert worker._slot(ARTWORK, at, wait=True).trained is not None
    with store.write() as connection:
        ahead = sa.update(models).values(created_at=at + dt.timedelta(days=365))
        connection.execute(ahead)
    simulation.visits(200)
    tries: list[int] = []

    def fails(*_: object) -> None:
        tries.append(1)
        raise OSError("for the test")

    with monkeypatch.context() as patched:
        patched.setattr("artwork_bandit.operations.worker.carry_out", fails)
        with pytest.raises(OSError, match="for the test"):
            worker._slot(ARTWORK, simulation.later(), wait=True)
        for _ in range(3):  # what fails is not tried at every join
            worker._slot(ARTWORK, simulation.later(), wait=True)
    assert len(tries) == 1
    later = simulation.later() + dt.timedelta(hours=2)
    assert worker._slot(ARTWORK, later, wait=True).trained is not None
    worker.close()


KILLED = """
import os, pkgutil, signal, sys
from artwork_bandit.cli import main
module, _, inside = sys.argv.pop(1).partition(":")
place, _, name = inside.rpartition(".")
owner = pkgutil.resolve_name(f"{module}:{place}" if place else module)
assert callable(getattr(owner, name))
setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
main()
"""
"""A command that is killed with -9 where it would call a function."""
STEPS = [
    "artwork_bandit.serving.journal:Spool.settle",  # stored, and still in the spool
    "artwork_bandit.store.rollups:add",  # amidst a join
    "artwork_bandit.operations.joining:sum_up",  # joined, not summed up
    "artwork_bandit.training.train:train",
    "artwork_bandit.store.registry:register",  # trained and judged
    "artwork_bandit.store.registry:promote",  # registered, not live
    "artwork_bandit.operations.worker:keep_latest",  # live, not reported
]


def test_killed_at_any_step_nothing_is_lost_or_counted_twice(
    simulation: Simulation, tmp_path: Path
) -> None:
    store = simulation.service.store
    settings = replace(simulation.settings, local_dir=str(tmp_path / "another host"))
    simulation.visits(900)
    play = Event(
        event_id="left", type=EventType.PLAY, occurred_at=simulation.now, member_id="m",
        title_id="t0",
    )  # fmt: skip
    batch = Batch(events=[Incoming(index=0, event=play)], now=simulation.now)
    entry = Entry(kind="events", payload=msgspec.msgpack.encode(batch))
    Spool(Path(local_folder(settings)) / "spool.db").add([entry])
    line, environment = command(settings, "worker", "--once", "--json")
    for step in STEPS:
        arguments = [line[0], "-c", KILLED, step, *line[3:]]
        process = subprocess.run(arguments, env=environment, capture_output=True, timeout=60)
        assert process.returncode == -signal.SIGKILL, (step, process.stderr.decode())
        with store.read() as connection:
            models = registry.list_all(connection)
            promoted = registry.promoted(connection, "artwork")
        assert [m.status for m in models] == ["live"] * len(promoted)
        assert all(m.metrics for m in models)
    said = subprocess.run(line, env=environment, capture_output=True, check=True).stdout
    assert msgspec.json.decode(said)["leads"]  # the killed ones hold nothing up
    with store.read() as connection:
        (units,) = connection.execute(sa.select(sa.func.count()).select_from(rewards)).one()
        open_ = sa.select(sa.func.count()).where(~impressions.c.settled)
        assert connection.execute(open_).scalar() == 0
        (summed,) = connection.execute(sa.select(sa.func.sum(cell_rollups.c.units))).one()
        assert event_store.existing(connection, ["left"]) == {"left"}
        assert len(registry.list_all(connection)) == len(promoted) == 1
    assert units == shown_units(store) == summed
