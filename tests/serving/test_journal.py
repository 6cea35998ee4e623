"""Durable before it is acknowledged, exactly once, whatever order things fail in."""

import datetime as dt
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from artwork_bandit.errors import Conflict, Overloaded, StoreUnavailable
from artwork_bandit.serving.batcher import Batcher, Job
from artwork_bandit.serving.bounded import Bounded
from artwork_bandit.serving.service import Rung, Service
from artwork_bandit.settings import Settings
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import attribution, merges, profiles, rewards
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Connection, Held, Store
from artwork_bandit.store.pace import Pace
from artwork_bandit.store.spool import Entry
from artwork_bandit.store.tables import action_sets, events, requests
from artwork_bandit.store.tables import rewards as rewards_table
from tests.samples import NOW
from tests.serving.test_service import ask, event, only_explore, send


def away(service: Service) -> None:
    """The database has just failed; the drainer does not run by itself."""
    service.journal.up = False


@pytest.fixture
def quiet(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service whose drainer waits to be called."""
    service.journal._stopped.set()
    service.journal._drainer.join()
    service.journal._stopped.clear()
    return service


@pytest.fixture
def second(service: Service, store: Store, database_url: str) -> Iterator[Service]:
    """Another worker of the same host."""
    made = Service(Store(database_url), Settings(database_url=database_url, reload_seconds=3600))
    made.journal._stopped.set()
    made.journal._drainer.join()
    yield made
    made.close()


def rows(service: Service) -> list[str]:
    with service.store.read() as connection:
        return list(connection.execute(sa.select(requests.c.request_id)).scalars())


def test_rows_wait_in_the_spool_and_are_drained_once(quiet: Service) -> None:
    away(quiet)
    answer = ask(quiet, "r1")
    assert answer.rung is Rung.SPOOLED
    assert rows(quiet) == []
    quiet.journal._drain()
    assert rows(quiet) == ["r1"]
    assert (quiet.journal.up, quiet.spool.depth()) == (True, 0)
    with quiet.store.read() as connection:
        logged, _ = request_store.get(connection, "r1")
    assert [c.propensity for c in logged.choices] == [
        c.propensity for c in answer.decisions.choices
    ]


def test_a_commit_that_seemed_to_fail_but_did_not_is_no_second_row(quiet: Service) -> None:
    made = ask(quiet, "r1")
    away(quiet)
    quiet.journal._recent.clear()  # another worker, or this one after a restart
    again = ask(quiet, "r1")  # the client never had its answer
    assert again.decisions.choices == made.decisions.choices  # the same draw
    quiet.journal._drain()
    assert rows(quiet) == ["r1"]


def test_a_repeat_is_known_while_the_database_that_has_the_first_is_away(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(quiet, "r1").decision_ids[0]
    send(quiet, event("e1", "play"), decision=first)
    with_profile = ask(quiet, "r2")
    away(quiet)
    again = ask(quiet, "r2")
    assert again.rung is Rung.REPEAT
    assert again.decisions == with_profile.decisions
    with pytest.raises(Conflict, match="another question"):
        ask(quiet, "r2", "somebody else")
    quiet.journal.up = True
    monkeypatch.setattr("artwork_bandit.serving.journal.TITLES_REMEMBERED", 5)
    ask(quiet, "r3")
    assert list(quiet.journal._recent) == ["r3"]  # bounded


def test_a_drain_that_died_after_its_commit_changes_nothing(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(quiet)
    first = ask(quiet, "r1").decision_ids[0]
    send(quiet, event("e1", "impression"), event("e2", "play"), decision=first)
    settle = quiet.spool.settle
    monkeypatch.setattr(quiet.spool, "settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        quiet.journal._drain()
    with quiet.store.read() as connection:
        before = profiles.get(connection, "m1")
    assert before.genres
    monkeypatch.setattr(quiet.spool, "settle", settle)
    quiet.journal._drain()
    assert rows(quiet) == ["r1"]
    with quiet.store.read() as connection:
        assert profiles.get(connection, "m1") == before
        assert connection.execute(sa.select(sa.func.count()).select_from(events)).scalar() == 2


def test_the_database_is_back_although_the_spool_fills_as_fast_as_it_is_emptied(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(quiet)
    bring, count = quiet.journal._bring, itertools.count()
    ask(quiet, f"r{next(count)}")

    def and_meanwhile(entries: list[Entry]) -> None:
        bring(entries)
        name = f"r{next(count)}"
        assert name < "r9"
        ask(quiet, name)

    monkeypatch.setattr(quiet.journal, "_bring", and_meanwhile)
    quiet.journal._drain()
    assert (quiet.journal.up, quiet.spool.depth()) == (True, 0)
    assert sorted(rows(quiet)) == ["r0", "r1", "r2"]


def test_a_repeat_is_answered_from_the_spool_by_any_worker(quiet: Service, second: Service) -> None:
    away(quiet)
    first = ask(quiet, "r1")
    for worker in (quiet, second):  # the second one's database is up
        again = ask(worker, "r1")
        assert again.rung is Rung.REPEAT
        assert again.decisions.choices == first.decisions.choices
        with pytest.raises(Conflict, match="another question"):
            ask(worker, "r1", "somebody else")
    assert rows(quiet) == []


def test_an_event_waits_for_a_decision_that_is_in_another_spool(
    quiet: Service, second: Service
) -> None:
    away(quiet)
    first = ask(quiet, "r1").decision_ids[0]
    report = send(second, event("e1", "impression"), decision=first)
    assert (report.accepted, report.rejected) == (1, [])
    waiting = [e.kind for e in quiet.spool.next(1_000_000)]
    assert waiting == ["request", "events"]
    quiet.journal._drain()
    with quiet.store.read() as connection:
        found = connection.execute(sa.select(events.c.request_id, events.c.unjoined)).all()
    assert [tuple(row) for row in found] == [("r1", None)]


def test_an_event_whose_decision_never_comes_is_kept_with_the_reason(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = "artwork_bandit.serving.journal.LONGEST_WAIT"
    monkeypatch.setattr(wait, dt.timedelta(days=36_500))  # the events' clock is `NOW`
    lost = quiet.decision_ids.make("never-arrives", 1)[0]
    send(quiet, event("e1", "play", member_id="m1", title_id="t0"), decision=lost)
    quiet.journal._drain()
    assert quiet.spool.depth() == 1  # tried again later
    monkeypatch.setattr(wait, dt.timedelta(0))
    monkeypatch.setattr("artwork_bandit.store.spool.time.time", lambda: 4e9)
    quiet.journal._drain()
    with quiet.store.read() as connection:
        assert connection.execute(sa.select(events.c.unjoined)).scalars().all() == ["no_decision"]


def test_an_entry_that_cannot_be_stored_holds_up_no_other(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(quiet)
    for name in ("r1", "r2", "r3"):
        ask(quiet, name)
    entries = quiet.spool.next(1_000_000)
    quiet.spool.settle([entries[1]])
    quiet.spool.add([Entry(kind="request", payload=b"\xc1 nonsense")])
    quiet.journal._drain()
    assert sorted(rows(quiet)) == ["r1", "r3"]
    assert quiet.spool.depth() == 0
    refused = quiet.spool._connection.execute("SELECT payload FROM refused").fetchall()
    assert refused == [(b"\xc1 nonsense",)]


def test_a_spooled_event_that_is_refused_is_kept_with_why(quiet: Service) -> None:
    """Its sender was told that it was accepted."""
    away(quiet)
    for number, member in enumerate(("m1", "m2")):
        signs_in = event(f"e{number}", "merge", member_id=member)
        sent = send(
            quiet, replace(signs_in, visitor_id="v"), event(f"p{number}", "play", member_id="v",
                                                            title_id="t0")
        )  # fmt: skip
        assert sent.accepted == 2
    quiet.journal._drain()
    assert quiet.spool.depth() == 0
    (refused,) = quiet.spool.refused()
    assert "belongs to another member already" in refused.reason
    with quiet.store.read() as connection:
        assert set(connection.execute(sa.select(events.c.event_id)).scalars()) == {"p0", "p1"}
        assert merges.members_of(connection, ["v"]) == {"v": "m1"}
    assert quiet.spool.retry() == 1
    quiet.journal._drain()
    assert quiet.spool.refused() == [refused]
    for _ in range(2):  # as a client does that has no answer
        away(quiet)
        again = event("e1", "merge", member_id="m2")
        send(quiet, replace(again, visitor_id="v"))
        quiet.journal._drain()
    assert quiet.spool.refused() == [refused]


def test_a_drain_waits_for_joins_before_it_holds_rows_that_choices_wait_for(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(quiet)
    ask(quiet, "r1")
    order: list[str] = []
    insert = quiet.journal._insert_rows
    monkeypatch.setattr(attribution, "share", lambda *_: order.append("turn"))
    monkeypatch.setattr(
        quiet.journal, "_insert_rows", lambda *a: (order.append("rows"), insert(*a))[1]
    )
    quiet.journal._drain()
    assert order[:2] == ["turn", "rows"]
    assert rows(quiet) == ["r1"]


def test_two_threads_that_drain_share_no_transaction(
    quiet: Service, second: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed half-way has let go of the profile, and of all that was read of it."""
    away(quiet)
    send(quiet, event("e1", "thumbs_up", member_id="m", title_id="t0"))
    held, go_on, add = threading.Event(), threading.Event(), profiles.add

    def slowly(
        connection: Connection, wanted: Mapping[str, object], told: Callable[[], profiles.Signs],
        half_life: dt.timedelta,
    ) -> None:  # fmt: skip
        def later() -> profiles.Signs:
            found = told()
            if not held.is_set():
                held.set()
                assert go_on.wait(30)
            return found

        add(connection, wanted, later, half_life)

    monkeypatch.setattr(profiles, "add", slowly)
    with ThreadPoolExecutor() as pool:
        drains = [pool.submit(quiet.journal.drain)]
        assert held.wait(30)
        drains.append(pool.submit(quiet.journal.drain))
        wait(drains[1:], 0.5)
        more = pool.submit(send, second, event("e2", "thumbs_up", member_id="m", title_id="t0"))
        wait([more], 0.5)
        go_on.set()
        for each in (*drains, more):
            each.result(30)
    with quiet.store.read() as connection:
        assert sum(profiles.get(connection, "m").genres.values()) == pytest.approx(2 * 2)


def test_what_waited_for_longer_than_its_window_still_earns_what_followed(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units of an outage are not settled while what followed them is still being brought in."""
    hour, now = dt.timedelta(hours=1), dt.datetime.now(dt.UTC)
    only_explore(quiet)  # a fallback would be no impression
    away(quiet)
    for confirm in ("client", "server"):
        before = now - 5 * hour
        answer = ask(quiet, confirm, confirm, confirm=confirm, title_ids=["t0"], now=before)
        for kind in ("impression", "play")[confirm == "server" :]:
            told = event(f"{confirm} {kind}", kind, before)
            assert send(quiet, told, decision=answer.decision_ids[0], now=before).accepted == 1

    def settle(later: dt.timedelta = hour / 2) -> int:
        return rewards.join(quiet.store, SLOTS["artwork"], hour, now + later)

    one_by_one = Pace(1, 1e-9)
    monkeypatch.setattr(one_by_one, "rest", settle)
    monkeypatch.setattr(quiet.journal, "_pace", one_by_one)
    quiet.journal._drain()
    assert quiet.spool.depth() == 0
    assert settle(2 * hour) == 2
    with quiet.store.read() as connection:
        plays = list(connection.execute(sa.select(rewards_table.c.plays)).scalars())
    assert plays == [1, 1]


def test_a_connection_that_broke_while_idle_is_made_anew(store: Store) -> None:
    if store.dialect == "sqlite":
        pytest.skip("a file does not hang up")
    held = Held(store)
    assert held.read(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
    with store.engine.connect() as other:
        other.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    with pytest.raises(StoreUnavailable):
        held.read(lambda c: c.exec_driver_sql("SELECT 1").scalar())
    assert held.read(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
    held.close()


@pytest.mark.parametrize("once", [True, False])
def test_what_a_server_that_took_over_lacks_is_written_again(
    quiet: Service, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    """The action sets of commits that were lost with the server before: whether the database came
    back at once, or was away for a while."""
    ask(quiet, "r1")
    with quiet.store.write() as connection:
        lost = connection.execute(sa.delete(action_sets)).rowcount
    assert lost > 0
    write, calls = Held.write, []

    def breaks(held: Held, work: object, **how: object) -> object:
        calls.append(work)
        if len(calls) <= (1 if once else 2):
            raise StoreUnavailable("the connection is broken")
        return write(held, work, **how)

    monkeypatch.setattr(Held, "write", breaks)
    ask(quiet, "r2")
    assert quiet.journal.up == once
    quiet.journal._drain()
    ask(quiet, "r3")
    with quiet.store.read() as connection:
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(action_sets)).scalar() == lost
        )
    assert sorted(rows(quiet)) == ["r1", "r2", "r3"]


def test_an_event_whose_host_is_lost_is_tried_less_and_less_often(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = "artwork_bandit.serving.journal.LONGEST_WAIT"
    monkeypatch.setattr(wait, dt.timedelta(days=36_500))
    lost = quiet.decision_ids.make("never-arrives", 1)[0]
    now = dt.datetime.now(dt.UTC) - dt.timedelta(hours=10)
    send(quiet, event("e1", "play", now), decision=lost, now=now)
    quiet.journal._drain()
    assert (quiet.spool.next(1_000_000), quiet.spool.depth()) == ([], 1)
    for later, tried in ((25 * 60, False), (35 * 60, True)):
        clock = time.time() + later
        with monkeypatch.context() as patched:
            patched.setattr("artwork_bandit.store.spool.time.time", lambda at=clock: at)
            assert bool(quiet.spool.next(1_000_000)) == tried


def test_a_call_that_hangs_is_given_up_once() -> None:
    bounded, let_go = Bounded("test"), threading.Event()
    assert bounded.call(lambda: 7, 1) == 7
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="within"):
        bounded.call(let_go.wait, 0.1)
    for _ in range(100):
        with pytest.raises(StoreUnavailable, match="still waiting"):
            bounded.call(let_go.wait, 10)
    assert time.monotonic() - begun < 5
    let_go.set()
    while bounded.overdue:
        time.sleep(0.001)
    assert bounded.call(lambda: 8, 1) == 8
    with pytest.raises(ZeroDivisionError):
        bounded.call(lambda: 1 / 0, 1)
    bounded.close()


def test_what_waits_together_is_one_batch_and_a_bad_job_fails_alone() -> None:
    first_in, go_on = threading.Event(), threading.Event()
    sizes: list[int] = []

    def work(jobs: list[Job[int, int]]) -> None:
        sizes.append(len(jobs))
        first_in.set()
        assert go_on.wait(10)
        if any(job.asked == 3 for job in jobs):
            raise ZeroDivisionError
        for job in jobs:
            job.done(job.asked * 2)

    batcher: Batcher[int, int] = Batcher("test", work, lambda _: 1, most=4, most_waiting=7)
    jobs: list[Job[int, int]] = [Job(i) for i in range(7)]
    batcher.put(jobs[0])
    assert first_in.wait(10)
    for job in jobs[1:]:
        batcher.put(job)
    with pytest.raises(Overloaded, match="in a moment"):
        batcher.put(Job(8))
    go_on.set()
    assert [job.wait(10) for job in jobs if job.asked != 3] == [0, 2, 4, 8, 10, 12]
    with pytest.raises(ZeroDivisionError):
        jobs[3].wait(10)
    assert sizes[:2] == [1, 4]  # no more than four at once
    batcher.close()
    assert batcher.waiting == 0


def test_a_page_that_hangs_on_its_profile_is_chosen_without(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = ask(service, "r1").decision_ids[0]
    send(service, event("e1", "play"), decision=first)
    assert ask(service, "r2").decisions.context.genres
    monkeypatch.setattr("artwork_bandit.serving.service.profiles.read", lambda *_: time.sleep(0.5))
    hung = ask(service, "r3")
    assert hung.rung is Rung.NO_PROFILE
    assert not hung.decisions.context.genres
    assert all(c.propensity for c in hung.decisions.choices)
    assert hung.decisions.occurred_at == NOW


def test_a_default_that_nobody_could_log_is_one_the_client_can_show(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(quiet)
    monkeypatch.setattr(
        quiet.spool, "add", lambda *_: (_ for _ in ()).throw(StoreUnavailable("the disk is full"))
    )
    plain = ask(quiet, "r1", title_ids=("t0",))
    assert (plain.rung, plain.decisions.choices[0].variant_id) == (Rung.FALLBACK, "t0-a0")
    without = ask(quiet, "r2", title_ids=("t0",), excluded=frozenset({"t0-a0"}))
    assert without.decisions.choices[0].variant_id != "t0-a0"
    assert without.decisions.choices[0].fallback
    assert not quiet.decision_ids.read(plain.decision_ids[0])[2]  # its events wait for no row


def test_a_connection_lost_within_a_transaction_costs_no_entry(
    quiet: Service, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.dialect == "sqlite":
        pytest.skip("a file does not hang up")
    away(quiet)
    names = [f"r{i}" for i in range(20)]
    for name in names:
        ask(quiet, name)
    insert = request_store.insert_action_sets

    def cut(connection: object, sets: object) -> None:
        insert(connection, sets)
        with quiet.store.engine.connect() as other:
            other.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )

    monkeypatch.setattr(request_store, "insert_action_sets", cut)
    quiet.journal._drain()
    assert rows(quiet) == []
    assert quiet.spool.depth() == len(names)
    monkeypatch.setattr(request_store, "insert_action_sets", insert)
    quiet.journal._drain()
    assert sorted(rows(quiet)) == sorted(names)
    assert quiet.journal.up


def test_a_database_that_takes_no_writes_is_one_that_is_away(quiet: Service, store: Store) -> None:
    if store.dialect == "sqlite":
        pytest.skip("standbys are PostgreSQL's")
    name = store.engine.url.database
    with store.engine.connect() as connection:
        connection.exec_driver_sql(
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
        )
        connection.commit()
    quiet.store.engine.dispose()
    for held in (quiet.journal._for_rows, quiet.journal._for_drain):
        held._drop()
    assert ask(quiet, "r1").rung is Rung.SPOOLED
    with pytest.raises(StoreUnavailable, match="read-only"):
        quiet.journal._bring(quiet.spool.next(10))
    assert quiet.spool.depth() == 1  # not refused


def test_a_spool_that_cannot_be_used_does_not_keep_the_database_away(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(quiet)
    monkeypatch.setattr(
        quiet.spool, "draining", lambda: (_ for _ in ()).throw(StoreUnavailable("read-only"))
    )
    quiet.journal._drain()
    assert quiet.journal.up
    assert ask(quiet, "r1").rung is Rung.FULL


def test_rows_that_were_given_up_are_not_committed_behind_the_clients_back(
    quiet: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, done = threading.Event(), threading.Event()
    insert = quiet.journal._insert_rows

    def slow(connection: object, wanted: object) -> set[str]:
        assert go_on.wait(10)
        try:
            return insert(connection, wanted)
        finally:
            done.set()

    monkeypatch.setattr(quiet.journal, "_insert_rows", slow)
    monkeypatch.setattr(quiet.journal, "_write_seconds", 0.1)
    monkeypatch.setattr(
        quiet.spool, "add", lambda *_: (_ for _ in ()).throw(StoreUnavailable("the disk is full"))
    )
    assert ask(quiet, "r1", confirm="server").rung is Rung.FALLBACK
    go_on.set()
    assert done.wait(10)
    while quiet.journal._row_writer.overdue:
        time.sleep(0.001)
    assert rows(quiet) == []


def test_old_catalogues_are_let_go(quiet: Service) -> None:
    from dataclasses import replace

    from artwork_bandit.store import catalog

    old = []
    for number in range(5):
        ask(quiet, f"r{number}")
        old.append(weakref.ref(quiet.state.current.catalogs["artwork"]))
        with quiet.store.write() as connection:
            variant = catalog.get_variant(connection, "t0", "t0-a1")
            catalog.put_variants(connection, [replace(variant, uri=f"/{number}.svg")], NOW)
        quiet.state.refresh()
    # Without a collection: `gc.freeze` keeps the collector from what a cycle would hold.
    assert [ref() for ref in old] == [None] * 5
