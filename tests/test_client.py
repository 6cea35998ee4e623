"""The Python client: a default picture whatever happens, events that count exactly once."""

import contextlib
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from artwork_bandit.client import UNREACHABLE, Client, Refused, Unavailable
from artwork_bandit.operations.server_process import free_port, serving
from artwork_bandit.settings import Settings
from artwork_bandit.store import profiles
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import events, impressions
from tests.samples import fill


class Flaky(http.server.BaseHTTPRequestHandler):
    """Fails as often as it is told to, then acknowledges; remembers all it was sent."""

    protocol_version = "HTTP/1.1"
    failures: list[Any] = []  # noqa: RUF012
    seen: list[list[str]] = []  # noqa: RUF012
    largest: int = 0
    """Bytes that a proxy in front lets through; 0: any number."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Flaky.seen.append([e["event_id"] for e in body.get("events", [])])
        failure = Flaky.failures.pop(0) if Flaky.failures else None
        if failure == "cut":
            self.close_connection = True
            return
        if failure == "slow":
            time.sleep(1)
        status, answer = 200, {"accepted": len(Flaky.seen[-1]), "duplicates": 0, "rejected": []}
        if isinstance(failure, int):
            status, answer = failure, {"detail": "no"}
        data = json.dumps(answer).encode()
        if isinstance(failure, tuple):  # a gateway's
            status, data = failure
        if Flaky.largest and int(self.headers["Content-Length"]) > Flaky.largest:
            status, data = 413, b"<html>Request Entity Too Large</html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 503:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def flaky() -> Iterator[str]:
    Flaky.failures, Flaky.seen, Flaky.largest = [], [], 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_real_service_end_to_end(store: Store, database_url: str, tmp_path: Path) -> None:
    fill(store)
    settings = Settings(database_url=database_url, port=free_port(0))
    with serving(settings, tmp_path / "log"):
        client = Client(f"http://127.0.0.1:{settings.port}", timeout_seconds=10, flush_seconds=0.05)
        page = client.choose("m1", ["t0", "nowhere"], context={"device": "tv"}, request_id="r1")
        assert [p.title_id for p in page.pictures] == ["t0", "nowhere"]
        assert page.pictures[0].uri == f"/media/{page.pictures[0].variant_id}.svg"
        assert (
            client.choose("m1", ["t0", "nowhere"], context={"device": "tv"}, request_id="r1")
            == page
        )
        client.shown(page.pictures[0])
        client.event("play", page.pictures[0], seconds_watched=10, duration_seconds=100)
        client.report({"type": "search", "member_id": "m1", "query": "robots"})
        client.merge("m1", "member-7")
        assert client.flush()
        with pytest.raises(Refused, match="422"):
            client.choose("m1", [])
        client.close()
        assert client.dropped == 0
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(events)).scalar() == 3
        assert connection.execute(sa.select(sa.func.count()).select_from(impressions)).scalar() == 1
        assert "t0" in profiles.get(connection, "member-7").played


def test_nobody_there_gives_default_pictures_in_time() -> None:
    client = Client(
        f"http://127.0.0.1:{free_port(0)}", timeout_seconds=0.3,
        default_uri=lambda title: f"/default/{title}.jpg",
    )  # fmt: skip
    begun = time.monotonic()
    page = client.choose("m1", ["a", "b"])
    assert time.monotonic() - begun < 3
    assert [(p.uri, p.fallback, p.reason) for p in page.pictures] == [
        ("/default/a.jpg", True, UNREACHABLE), ("/default/b.jpg", True, UNREACHABLE),
    ]  # fmt: skip
    client.shown(page.pictures[0])  # nothing to report about
    client.report({"type": "search", "member_id": "m", "query": "x"})
    client.close(0.2)
    assert client.dropped == 1


def test_a_service_that_is_too_slow_gives_default_pictures(flaky: str) -> None:
    Flaky.failures = ["slow", "slow"]
    client = Client(flaky, timeout_seconds=0.2)
    assert client.choose("m1", ["a"]).pictures[0].reason == UNREACHABLE
    client.close()


@pytest.fixture
def trickle() -> Iterator[str]:
    """An address that answers a byte at a time."""
    listening = socket.create_server(("127.0.0.1", 0))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + b'{"a": 1}\n'

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with contextlib.suppress(OSError), connection:
                    connection.recv(65_536)
                    for i in range(len(answer)):
                        connection.sendall(answer[i : i + 1])
                        time.sleep(0.1)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


def test_an_answer_that_comes_in_drops_is_not_waited_for(trickle: str) -> None:
    client = Client(trickle, timeout_seconds=0.5)
    begun = time.monotonic()
    assert client.choose("m1", ["a"]).pictures[0].reason == UNREACHABLE
    assert time.monotonic() - begun < 2
    client.close()


def test_whoever_answers_something_else_is_not_the_service(flaky: str) -> None:
    client = Client(flaky, timeout_seconds=5)  # which answers a choice as if it were events
    assert client.choose("m1", ["a"]).pictures[0].reason == UNREACHABLE
    with pytest.raises(TypeError, match="JSON"):
        client.choose("m1", ["a"], context={"seen": object()})
    with pytest.raises(ValueError, match="JSON"):
        client.choose("m1", ["a"], context={"seen": float("nan")})
    client.close()


class Restarted:
    """A service that closes the connections that nobody uses, as at a restart, and goes on."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self._open = answer, list[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        length = str(len(self._answer)).encode()
        with contextlib.suppress(OSError):
            while connection.recv(65_536):
                time.sleep(0.02)  # all who ask at once have a connection of their own
                head = b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n"
                connection.sendall(head + self._answer)

    def restart(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()


def test_a_service_that_has_closed_all_idle_connections_is_asked_by_a_new_one() -> None:
    service = Restarted(b'{"accepted": 1, "duplicates": 0, "rejected": []}')
    client = Client(service.address, flush_seconds=0.05)
    with ThreadPoolExecutor(30) as pool:
        list(pool.map(lambda _: client.send([{"event_id": "e"}]), range(90)))
    assert 4 < client._transport.idle <= 16
    for _ in range(3):
        service.restart()
        assert client.send([{"event_id": "e"}]).accepted == 1
    service.restart()
    client.report({"event_id": "f", "type": "search", "member_id": "m", "query": "x"})
    assert client.flush(2)
    client.close()


def test_what_the_caller_does_wrong_is_the_callers() -> None:
    def default_uri(title_id: str) -> str:
        raise KeyError(title_id)

    client = Client(f"http://127.0.0.1:{free_port(0)}", default_uri=default_uri)
    with pytest.raises(KeyError, match="a"):
        client.choose("m1", ["a"])
    client.close()


def test_connections_are_shared_and_few_are_kept(flaky: str) -> None:
    client = Client(flaky, timeout_seconds=5)
    for _ in range(40):  # a thread per request, as some servers have
        thread = threading.Thread(target=client.send, args=([{"event_id": "e"}],))
        thread.start()
        thread.join()
    assert client._transport.idle <= 2
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: client.send([{"event_id": "e"}]), range(200)))
    assert 1 <= client._transport.idle <= 5
    client.report({"type": "search", "member_id": "m", "query": "x"})
    client.close()
    client.report({"type": "search", "member_id": "m", "query": "y"})
    assert client.dropped == 1  # after the end nobody sends it
    assert client._transport.idle == 0


def test_events_are_sent_again_with_the_same_ids_until_acknowledged(flaky: str) -> None:
    Flaky.failures = [503, "cut", 500, 503]
    client = Client(flaky, flush_seconds=0.05)
    for i in range(10):
        client.report({"event_id": f"e{i}", "type": "play"})
    assert client.flush(20)
    first = Flaky.seen[0]
    assert sorted(first) == sorted(f"e{i}" for i in range(10))
    assert Flaky.seen == [first] * 5
    client.close()


def test_a_batch_nobody_will_ever_take_is_told_and_not_repeated(flaky: str) -> None:
    Flaky.failures = [422]
    told: list[dict[str, Any]] = []
    client = Client(flaky, flush_seconds=0.05, on_rejected=told.extend)
    client.report({"event_id": "e1", "type": "play"})
    assert client.flush(10)
    assert [t["event_id"] for t in told] == ["e1"]
    assert len(Flaky.seen) == 1
    client.close()


def test_an_event_that_has_its_batch_refused_is_found(flaky: str) -> None:
    Flaky.failures = [422, 422, None, 422]  # all four, the first two, then each of them
    told: list[dict[str, Any]] = []
    client = Client(flaky, flush_seconds=0.2, on_rejected=told.extend)
    for i in range(4):
        client.report({"event_id": f"e{i}", "type": "play"})
    assert client.flush(10)
    sizes = [len(batch) for batch in Flaky.seen]
    assert sizes == [4, 2, 1, 1, 2]
    assert [t["event_id"] for t in told] == ["e1"]
    assert (client.rejected, client.dropped) == (1, 0)
    client.close()


def test_what_a_gateway_answers_is_no_refusal_of_the_service(flaky: str) -> None:
    not_there = (404, b'{"message": "no Route matched with those values"}')
    Flaky.failures = [not_there] * 2
    client = Client(flaky, flush_seconds=0.05)
    assert client.choose("m1", ["a"]).pictures[0].reason == UNREACHABLE
    for failure in (not_there, (403, b"<html>"), (502, b"<html>"), (400, b"<html>")):
        Flaky.failures = [failure]
        client.report({"event_id": "e1", "type": "play"})
        assert client.flush(10)
        assert Flaky.seen[-2:] == [["e1"], ["e1"]]
    assert (client.rejected, client.dropped) == (0, 0)
    client.close()


def test_a_proxy_that_takes_less_is_sent_less(flaky: str) -> None:
    Flaky.largest = 100_000
    told: list[dict[str, Any]] = []
    client = Client(flaky, flush_seconds=0.3, on_rejected=told.extend)
    for i in range(1_000):
        client.report({"event_id": f"e{i}", "type": "play", "decision_id": "d" * 200})
    client.report({"event_id": "large", "type": "search", "query": "q" * 200_000})
    assert client.flush(20)
    assert [t["event_id"] for t in told] == ["large"]
    assert client.dropped == 0
    client.close()


def test_batches_are_such_as_proxies_take(flaky: str) -> None:
    Flaky.largest = 1_000_000
    client = Client(flaky, flush_seconds=0.3)
    for i in range(6_000):
        client.report({"event_id": f"e{i}", "type": "impression", "decision_id": "d" * 200})
    assert client.flush(20)
    sizes = [len(batch) for batch in Flaky.seen]
    assert sum(sizes) == 6_000  # none was sent twice
    client.close()


def test_what_is_rejected_is_logged_if_nobody_asks(
    flaky: str, caplog: pytest.LogCaptureFixture
) -> None:
    Flaky.failures = [422]
    client = Client(flaky, flush_seconds=0.05)
    client.report({"event_id": "e1", "type": "play"})
    assert client.flush(10)
    assert "event rejected: e1" in caplog.text
    client.close()


def test_events_get_there_though_nobody_closes_the_client(flaky: str) -> None:
    program = (
        "from artwork_bandit.client import Client\n"
        f"client = Client({flaky!r}, flush_seconds=0.5)\n"
        "client.report({'event_id': 'last', 'type': 'play'})\n"
        "raise SystemExit(3)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 3
    assert ["last"] in Flaky.seen


def test_an_address_without_a_scheme_is_refused_at_once() -> None:
    for address in ("localhost:8800", "bandit.internal", "ftp://x", "http://"):
        with pytest.raises(ValueError, match="not like http://HOST:8800"):
            Client(address)


def test_more_than_fits_is_dropped_and_counted(flaky: str) -> None:
    client = Client(flaky, most_waiting=5, flush_seconds=0.05)
    Flaky.failures = ["slow"]
    for i in range(50):
        client.report({"event_id": f"e{i}", "type": "play"})
    client.close()
    assert client.dropped > 0
    assert client.dropped + sum(map(len, Flaky.seen)) == 50


def test_send_says_what_is_wrong(flaky: str) -> None:
    Flaky.failures = [503, 422]
    client = Client(flaky)
    with pytest.raises(Unavailable) as unavailable:
        client.send([])
    assert unavailable.value.retry_after == 0
    with pytest.raises(Refused, match="no"):
        client.send([])
    client.close()
