"""The real server process: what it acknowledged survives kill -9, changes reach it."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
import werkzeug.test

from artwork_bandit.domain import EventType
from artwork_bandit.errors import InvalidInput
from artwork_bandit.operations.server_process import command, free_port, serving
from artwork_bandit.policies.profile import GAINS
from artwork_bandit.settings import Settings
from artwork_bandit.store import cells, changes
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import events, impressions, profiles, requests
from artwork_bandit.web import server, wsgi
from tests.samples import fill


def post(port: int, path: str, body: dict) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        data = response.read()
        assert response.status == 200, data
        return json.loads(data)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, port=free_port(0), reload_seconds=0.1)


def test_at_port_0_it_says_where_it_listens(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    fill(store)
    arguments, environment = command(replace(settings, port=0), "serve", "--workers", "2")
    path = tmp_path / "server.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            arguments, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        found: list[str] = []
        while not found and time.monotonic() < deadline:
            found = re.findall(r"Listening at: \S+?:(\d+)", path.read_text())
            time.sleep(0.05)
        port = int(found[0])
        assert port
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                assert post(port, "/v1/events", {"events": []})["accepted"] == 0
                break
        else:
            pytest.fail(path.read_text())
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def drive(port: int, worker: int, done: dict[str, list[str]], stop: threading.Event) -> None:
    """Choose and send events until the server dies; note what it acknowledged."""
    number = 0
    with contextlib.suppress(OSError, http.client.HTTPException):
        while not stop.is_set():
            number += 1
            name = f"w{worker}-{number}"
            question = {"request_id": name, "member_id": f"m{worker}", "title_ids": ["t0", "t1"]}
            answer = post(port, "/v1/choices", question)
            done["requests"].append(name)
            now = datetime.now(UTC).isoformat()
            batch = [
                {"event_id": uuid.uuid4().hex, "type": kind, "occurred_at": now,
                 "decision_id": answer["choices"][0]["decision_id"]}
                for kind in ("impression", "play")
            ]  # fmt: skip
            assert post(port, "/v1/events", {"events": batch})["accepted"] == 2
            done["events"] += [e["event_id"] for e in batch]


def test_what_was_acknowledged_survives_kill_9(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    fill(store)
    arguments, environment = command(settings, "serve", "--workers", "2")
    log = (tmp_path / "server.log").open("wb")
    process = subprocess.Popen(
        arguments, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    done: dict[str, list[str]] = {"requests": [], "events": []}
    stop = threading.Event()
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                post(settings.port, "/v1/events", {"events": []})
                break
        threads = [
            threading.Thread(target=drive, args=(settings.port, i, done, stop)) for i in range(4)
        ]
        for thread in threads:
            thread.start()
        while len(done["events"]) < 300 and time.monotonic() < deadline:
            threading.Event().wait(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stop.set()
        log.close()
    for thread in threads:
        thread.join()
    assert len(done["events"]) >= 300, (tmp_path / "server.log").read_text()
    with store.read() as connection:
        logged = set(connection.execute(sa.select(requests.c.request_id)).scalars())
        stored = set(connection.execute(sa.select(events.c.event_id)).scalars())
        shown = connection.execute(sa.select(sa.func.count()).select_from(impressions)).scalar()
        played = [events.c[name] for name in ("sender_id", "title_id", "occurred_at")]
        plays = connection.execute(sa.select(*played).where(events.c.type == "play")).all()
        genres = connection.execute(sa.select(profiles.c.genres)).scalars().all()
    assert set(done["requests"]) <= logged
    assert set(done["events"]) <= stored
    assert shown == len(plays)  # a batch is whole or absent
    total = sum(json.loads(each)["TV Horror"] for each in genres)
    # Profiles hold exactly what is stored of viewings and impressions.
    viewings = {(sender, title, at.date()) for sender, title, at in plays}
    expected = len(viewings) + shown * GAINS[EventType.IMPRESSION]
    assert total == pytest.approx(expected, rel=1e-3)


def test_changes_reach_a_running_server(store: Store, settings: Settings, tmp_path: Path) -> None:
    fill(store)
    with serving(settings, tmp_path / "server.log"):
        with store.write() as connection:
            cells.set_shares(connection, {"baseline": 1.0})
        deadline = time.monotonic() + 10
        cell = None
        while cell != "baseline" and time.monotonic() < deadline:
            cell = post(settings.port, "/v1/choices", {"member_id": "m", "title_ids": ["t0"]})[
                "cell"
            ]
        assert cell == "baseline"


def test_a_server_is_ready_for_all_who_ask_at_once_and_believes_no_header_in_disguise(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    """Which a proxy that overwrites its own passes on: both have one name in WSGI."""
    fill(store)
    settings = replace(settings, user_header="X-Forwarded-User")

    def asked(_: int) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            return str(json.loads(connection.getresponse().read())["status"])

    with serving(settings, tmp_path / "server.log"):
        with ThreadPoolExecutor(6) as probers:
            assert set(probers.map(asked, range(200))) == {"ready"}
        for headers in (
            {"X-Forwarded-User": "alice", "X_Forwarded_User": "the-boss"},
            {"X_Forwarded_User": "the-boss", "X-Forwarded-User": "alice"},
        ):
            connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=10)
            body = json.dumps({"exploration_paused": headers["X-Forwarded-User"] == "alice"})
            with contextlib.closing(connection):
                connection.request("PATCH", "/v1/titles/t0", body, headers)
                assert connection.getresponse().status == 200
    with store.read() as connection:
        assert {c.author for c in changes.latest(connection)} == {"alice"}


def test_people_have_names_of_any_letters_and_hosts_names_at_all(
    settings: Settings, tmp_path: Path
) -> None:
    settings = replace(settings, user_header="X-User", host="localhost")
    with serving(settings, tmp_path / "log"):
        connection = http.client.HTTPConnection("localhost", settings.port, timeout=10)
        form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
        day = datetime.now(UTC).date()
        body = f"day={day}&text=hello&slot=artwork&back=/policies"
        connection.request("POST", "/notes", body, form | {"X-User": "J%C3%BCrgen"})
        assert connection.getresponse().read() is not None
        connection.request("POST", "/notes", body, form | {"X-User": "J\u00fcrgen"})
        refused = connection.getresponse()
        assert (refused.status, "percent-encoded" in refused.read().decode()) == (422, True)
        connection.request("GET", "/changes", headers={"Accept": "text/html"})
        assert "J\u00fcrgen" in connection.getresponse().read().decode()
        connection.close()


def test_a_file_that_is_too_large_is_said_to_be_on_a_page(
    settings: Settings, tmp_path: Path
) -> None:
    with serving(settings, tmp_path / "log"):
        connection = http.client.HTTPConnection(settings.host, settings.port, timeout=10)
        for accept, kind in (("text/html", "text/html"), ("*/*", "application/problem+json")):
            connection.putrequest("POST", "/titles/t0/variants/t0-a0")
            for name, value in (("Content-Length", str(40 * 2**20)), ("Accept", accept)):
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            assert answer.status == 413
            assert answer.headers["Content-Type"].startswith(kind)
            assert "32 MiB" in answer.read().decode()
            connection.close()


def test_a_server_that_starts_before_its_database_serves_when_it_is_there(tmp_path: Path) -> None:
    port = free_port(0)
    away = Settings(
        database_url="postgresql://u@127.0.0.1:1/x", port=port, local_dir=str(tmp_path)
    )  # fmt: skip
    arguments, environment = command(away, "serve")
    with subprocess.Popen(
        arguments, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:  # fmt: skip
        try:
            assert server.stderr is not None
            assert (
                "answered with 503 as long as the database cannot answer"
                in server.stderr.readline()
            )
            for _ in range(100):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                with contextlib.suppress(OSError, http.client.HTTPException):
                    connection.request("POST", "/v1/choices", "{}")
                    assert connection.getresponse().status == 503
                    connection.close()
                    break
                connection.close()
                time.sleep(0.1)
            else:
                pytest.fail("no answer")
        finally:
            server.terminate()
            server.communicate(timeout=20)


def test_a_server_may_listen_where_only_ipv6_is() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    server._free("::1", 0)


def test_an_address_that_is_taken_is_not_free() -> None:
    told = pytest.raises(InvalidInput, match="choose another")
    with socket.create_server(("127.0.0.1", 0)) as taken, told:
        server._free("127.0.0.1", taken.getsockname()[1])


def test_a_port_that_is_taken_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=sqlite_url, port=free_port(0))
    with serving(settings, tmp_path / "server.log"):
        arguments, environment = command(settings, "serve")
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert "choose another --host or --port" in done.stderr


def test_a_server_on_a_database_not_migrated_says_so(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/empty.db", port=free_port(0))
    arguments, environment = command(settings, "serve")
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "artwork-bandit migrate" in done.stderr


def test_of_two_servers_that_start_together_one_has_the_port() -> None:
    """granian would have both listen: neither does when they look."""
    port = free_port(0)
    with server._held("127.0.0.1", port):
        told = pytest.raises(InvalidInput, match="another artwork-bandit has it")
        with told, server._held("127.0.0.1", port):
            pass
    with server._held("127.0.0.1", port):  # it is given back
        pass


def test_any_wsgi_server_answers_503_until_there_is_a_database(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(wsgi, "_made", [])
    monkeypatch.setenv("ARTWORK_BANDIT_DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    client = werkzeug.test.Client(wsgi.app)
    answer = client.post("/v1/choices", json={})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json["title"]
    monkeypatch.setenv("ARTWORK_BANDIT_DATABASE_URL", database_url)
    assert client.get("/livez").status_code == 200
    wsgi.ready().extensions["artwork_bandit"].service.close()
