"""Whatever breaks behind it, the client gets an answer: real servers, real breakage, under load."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from artwork_bandit.domain import EventType, Title, Variant
from artwork_bandit.operations.server_process import free_port, serving
from artwork_bandit.policies.profile import GAINS
from artwork_bandit.settings import Settings
from artwork_bandit.store import catalog, migrate
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import events, profiles, requests
from simulations import load
from simulations.database import Database, postgresql
from tests.samples import NOW, fill

pytestmark = pytest.mark.alone
WAIT_SECONDS = 60


@pytest.fixture(scope="module")
def own_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A server that no other test uses: it will be broken."""
    with postgresql(tmp_path_factory.mktemp("own")) as database:
        store = Store(database.url)
        migrate.migrate(store)
        fill(store)
        store.close()
        yield database


@pytest.fixture
def settings(own_database: Database, tmp_path: Path) -> Settings:
    return Settings(
        database_url=own_database.url, port=free_port(0), workers=2, reload_seconds=0.2,
        local_dir=str(tmp_path / "local"), write_seconds=0.5,
    )  # fmt: skip


def ask(port: int, body: dict[str, Any], path: str = "/v1/choices") -> tuple[int, Any, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200, response.status
        return response.read()


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen in {WAIT_SECONDS} s"
        time.sleep(0.05)


def drained(settings: Settings) -> bool:
    ready = json.loads(get(settings.port, "/readyz"))
    return bool(ready["status"] == "ready" and ready["spool_entries"] == 0)


class Load:
    """Choices with request ids of the client's own, for as long as the block runs."""

    def __init__(self, port: int, run: str, connections: int = 8) -> None:
        self.run = run
        self.result = load.Load()
        self._going = True
        self._thread = threading.Thread(target=self._drive, args=(port, connections))

    def _drive(self, port: int, connections: int) -> None:
        def body(number: int) -> dict[str, object]:
            titles = ["t0", "t1", "t2"]
            return {"request_id": f"{self.run}-{number}", "member_id": f"m{number % 50}",
                    "title_ids": titles}  # fmt: skip

        request = load.post("/v1/choices", body)
        self.result = load.run(
            port, request, connections=connections, until=lambda: not self._going, keep_bodies=True
        )

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._going = False
        self._thread.join()

    def answered(self) -> list[str]:
        return [json.loads(body)["request_id"] for body in self.result.bodies]


def logged(settings: Settings, run: str) -> list[str]:
    store = Store(settings.database_url)
    with store.read() as connection:
        query = sa.select(requests.c.request_id).where(requests.c.request_id.like(f"{run}-%"))
        found = list(connection.execute(query).scalars())
    store.close()
    return found


def assert_each_once(rows: list[str], answered: list[str]) -> None:
    """Every answer has one row, and no row is without its answer; else say which."""
    found, expected = Counter(rows), Counter(answered)
    assert found - expected == Counter(), "rows too many"
    assert expected - found == Counter(), "answers without a row"


def test_a_database_that_goes_away_costs_no_answer_and_no_row(
    own_database: Database, settings: Settings, tmp_path: Path
) -> None:
    sent: list[str] = []
    with serving(settings, tmp_path / "log"):
        _, first, _ = ask(settings.port, {"member_id": "viewer", "title_ids": ["t0"]})
        with Load(settings.port, "gone") as under:
            time.sleep(1)
            own_database.stop()
            until(lambda: b"artwork_bandit_database_up 0.0" in get(settings.port, "/metrics"), "it")
            status, made, _ = ask(settings.port, {"member_id": "viewer", "title_ids": ["t1"]})
            assert status == 200
            assert made["choices"][0]["propensity"] is not None
            for decision in (first, made):  # one is in the database, the other in the spool
                named = decision["choices"][0]["decision_id"]
                batch = [
                    {"event_id": uuid.uuid4().hex, "type": kind, "decision_id": named,
                     "occurred_at": datetime.now(UTC).isoformat()}
                    for kind in ("impression", "play")
                ]  # fmt: skip
                status, report, _ = ask(settings.port, {"events": batch}, "/v1/events")
                assert (status, report["accepted"]) == (200, 2), report
                sent += [e["event_id"] for e in batch]
            ready = json.loads(get(settings.port, "/readyz"))
            assert (ready["status"], ready["without"]) == ("degraded", ["database"])
            time.sleep(2)
            own_database.start()
            until(lambda: drained(settings), "draining")
            time.sleep(0.5)
        assert under.result.broken == 0
        assert set(under.result.statuses) == {200}
        until(lambda: drained(settings), "draining")
    rows = logged(settings, "gone")
    assert_each_once(rows, under.answered())
    assert len(rows) > 500
    store = Store(settings.database_url)
    with store.read() as connection:
        stored = list(connection.execute(sa.select(events.c.event_id)).scalars())
        genres = connection.execute(
            sa.select(profiles.c.genres).where(profiles.c.member_id == "viewer")
        ).scalar_one()
    store.close()
    assert sorted(stored) == sorted(sent)
    both = 2 * (1 + GAINS[EventType.IMPRESSION])  # a play of each title, once
    assert json.loads(genres)["TV Dramas"] == pytest.approx(both, rel=1e-3)


def test_a_database_that_hangs_is_waited_for_once(
    own_database: Database, settings: Settings, tmp_path: Path
) -> None:
    with serving(settings, tmp_path / "log"):
        with Load(settings.port, "hangs", connections=4) as under:
            time.sleep(0.5)
            own_database.freeze()
            try:
                time.sleep(4)
            finally:
                own_database.thaw()
            until(lambda: drained(settings), "draining")
        assert set(under.result.statuses) == {200}
        slow = sum(seconds > 0.3 for seconds in under.result.latencies)
        # Per connection and worker one wait for the profile and one for the commit, no more.
        assert slow <= 4 * 2
        until(lambda: drained(settings), "draining")
    assert_each_once(logged(settings, "hangs"), under.answered())


def test_a_killed_worker_loses_nothing_it_acknowledged_and_is_replaced(
    settings: Settings, tmp_path: Path
) -> None:
    with serving(settings, tmp_path / "log") as server:
        workers = {p.pid for p in psutil.Process(server.pid).children(recursive=True)}
        with Load(settings.port, "killed") as under:
            time.sleep(1)
            os.kill(min(workers), signal.SIGKILL)
            until(
                lambda: len({p.pid for p in psutil.Process(server.pid).children(recursive=True)}
                            - workers) >= 1,
                "a new worker",
            )  # fmt: skip
            time.sleep(2)
        assert set(under.result.statuses) == {200}
        assert under.result.broken <= 8  # what was under way in the killed one
        until(lambda: drained(settings), "draining")
        counted = sum(
            float(line.split()[1])
            for line in get(settings.port, "/metrics").decode().splitlines()
            if line.startswith("artwork_bandit_choice_seconds_count")
        )
        # Counts of all workers, the killed one's too.
        assert counted == pytest.approx(len(under.result.latencies), abs=8)
    assert set(under.answered()) <= set(logged(settings, "killed"))
    assert len(logged(settings, "killed")) == len(set(logged(settings, "killed")))


def test_workers_end_with_a_server_that_was_killed(settings: Settings, tmp_path: Path) -> None:
    with serving(settings, tmp_path / "log") as server:
        children = psutil.Process(server.pid).children(recursive=True)
        assert len(children) >= 2
        server.kill()
        server.wait()
        assert psutil.wait_procs(children, timeout=20)[1] == []
        assert free_port(settings.port) == settings.port


def test_a_server_told_to_stop_finishes_what_it_has_begun(
    settings: Settings, tmp_path: Path
) -> None:
    with serving(settings, tmp_path / "log") as server, Load(settings.port, "stopped") as under:
        time.sleep(1)
        server.terminate()
        server.wait(timeout=20)
    assert set(under.result.statuses) == {200}
    assert set(under.answered()) <= set(logged(settings, "stopped"))
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_worker_that_starts_without_a_database_serves_when_it_is_back(
    own_database: Database, settings: Settings, tmp_path: Path
) -> None:
    with serving(settings, tmp_path / "log") as server:
        own_database.stop()
        for process in psutil.Process(server.pid).children(recursive=True):
            process.kill()

        def refused() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _, headers = ask(settings.port, {"member_id": "m", "title_ids": ["t0"]})
                return status == 503 and "Retry-After" in headers
            return False

        until(refused, "an answer that says why")
        own_database.start()
        question = {"member_id": "m", "title_ids": ["t0"]}
        until(lambda: ask(settings.port, question)[0] == 200, "serving")


def test_slow_clients_and_idle_connections_hold_up_nobody(
    settings: Settings, tmp_path: Path
) -> None:
    with serving(settings, tmp_path / "log"), contextlib.ExitStack() as opened:
        half = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
        for number in range(600):
            connection = socket.create_connection(("127.0.0.1", settings.port), timeout=5)
            opened.enter_context(contextlib.closing(connection))
            if number % 3 == 0:
                connection.sendall(half)
        begun = time.monotonic()
        for _ in range(20):
            assert ask(settings.port, {"member_id": "m", "title_ids": ["t0"]})[0] == 200
            assert ask(settings.port, {"events": []}, "/v1/events")[0] == 200
        assert time.monotonic() - begun < 10  # any one held up would wait for the body's 10 s


def test_too_much_at_once_is_refused_and_the_rest_is_answered(
    own_database: Database, settings: Settings, tmp_path: Path
) -> None:
    store = Store(own_database.url)
    many = [Title(title_id=f"many{i}", name="x") for i in range(400)]
    shown = [
        Variant(variant_id=f"many{i}-{j}", title_id=f"many{i}", slot="artwork", uri="/x")
        for i in range(400)
        for j in range(3)
    ]
    with store.write() as connection:
        catalog.put_titles(connection, many, NOW)
        catalog.put_variants(connection, shown, NOW)
    store.close()
    environment = Settings(
        database_url=settings.database_url, port=settings.port, workers=1, queue_titles=1200,
        local_dir=settings.local_dir,
    )  # fmt: skip
    page = load.post(
        "/v1/choices", lambda n: {"member_id": f"m{n}", "title_ids": [t.title_id for t in many]}
    )
    with serving(environment, tmp_path / "log"):
        calm = load.run(settings.port, page, connections=2, requests=60)
        crowd = load.run(settings.port, page, connections=60, requests=1500)
        status, problem, headers = 0, {}, {}
        with ThreadedPages(settings.port, page):
            until(lambda: ask(settings.port, {"member_id": "m", "title_ids": ["t0"]})[0] == 503, "")
            status, problem, headers = 503, *_refused(settings.port)
        assert ask(settings.port, {"member_id": "m", "title_ids": ["t0"]})[0] == 200
    assert set(calm.statuses) == {200}
    assert set(crowd.statuses) == {200, 503}
    assert crowd.broken == 0
    assert status == 503
    assert headers["Retry-After"] == "2"
    assert "ask again" in problem["detail"]
    # No collapse: with thirty times the clients a good part of the rate is still answered.
    assert crowd.statuses[200] / crowd.seconds > 0.3 * calm.rate


class ThreadedPages:
    """A crowd, for as long as the block runs."""

    def __init__(self, port: int, page: load.Request) -> None:
        self._going = True
        self._thread = threading.Thread(
            target=load.run, args=(port, page),
            kwargs={"connections": 60, "until": lambda: not self._going},
        )  # fmt: skip

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._going = False
        self._thread.join()


def _refused(port: int) -> tuple[Any, Any]:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        status, problem, headers = ask(port, {"member_id": "m", "title_ids": ["t0"]})
        if status == 503:
            return problem, headers
    raise AssertionError("nothing was refused")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB that can be filled to the brim."""
    place = tmp_path / "disk"
    place.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("filling a disk needs the right to mount one")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_gives_defaults_and_acknowledges_no_event(
    sqlite_template: Path, small_disk: Path, tmp_path: Path
) -> None:
    shutil.copy(sqlite_template, small_disk / "service.db")
    settings = Settings(
        database_url=f"sqlite:///{small_disk}/service.db", port=free_port(0), write_seconds=0.5
    )
    store = Store(settings.database_url)
    fill(store)
    store.close()
    question = {"member_id": "m", "title_ids": ["t0", "t1"]}
    with serving(settings, tmp_path / "log"):
        _, before, _ = ask(settings.port, question)
        assert not before["choices"][0]["fallback"]
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        until(lambda: ask(settings.port, question)[1]["choices"][0]["fallback"], "a full disk")
        status, made, _ = ask(settings.port, question)
        assert status == 200
        assert [(c["variant_id"], c["propensity"], c["reason"]) for c in made["choices"]] == [
            ("t0-a0", None, "not_logged"), ("t1-a0", None, "not_logged"),
        ]  # fmt: skip
        event = {"event_id": "e1", "type": "impression", "occurred_at": NOW.isoformat(),
                 "decision_id": before["choices"][0]["decision_id"]}  # fmt: skip
        status, _, headers = ask(settings.port, {"events": [event]}, "/v1/events")
        assert (status, headers["Retry-After"]) == (503, "2")
        filler.unlink()
        until(lambda: not ask(settings.port, question)[1]["choices"][0]["fallback"], "space")
        status, report, _ = ask(settings.port, {"events": [event]}, "/v1/events")
        assert (status, report["accepted"]) == (200, 1)
        # The decisions that nobody could log are known as such.
        shown = event | {"event_id": "e2", "decision_id": made["choices"][0]["decision_id"]}
        assert ask(settings.port, {"events": [shown]}, "/v1/events")[1]["accepted"] == 1
        unjoined = {"not_logged": 1}  # once the spool has been drained
        path = "/v1/events/unjoined"
        until(lambda: drained(settings), "draining")
        assert json.loads(get(settings.port, path))["by_reason"] == unjoined
