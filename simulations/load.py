"""A load generator that costs little: raw keep-alive connections in one thread.

The server shares the machine with it, so whatever it spends is missing from the figure. Requests
are made ready beforehand; answers are read by their Content-Length and not parsed.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Request = Callable[[int], bytes]
"""From the number of a request to its bytes on the wire."""


@dataclass(slots=True)
class Load:
    """What came back."""

    seconds: float = 0.0
    """Wall time of the whole run."""
    latencies: list[float] = field(default_factory=list)
    """Seconds per answer, in the order in which they came."""
    statuses: dict[int, int] = field(default_factory=dict)
    broken: int = 0
    """Connections that broke before their answer was complete."""
    bodies: list[bytes] = field(default_factory=list)
    """Answers, where they were asked for."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, q: float) -> float:
        """Return a percentile of the latencies, seconds."""
        return float(np.percentile(self.latencies, q))


def get(path: str) -> Request:
    text = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    return lambda _number: text


def post(path: str, body: Callable[[int], dict[str, object]]) -> Request:
    def request(number: int) -> bytes:
        data = json.dumps(body(number)).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data

    return request


def run(
    port: int,
    request: Request,
    *,
    connections: int,
    requests: int | None = None,
    seconds: float | None = None,
    until: Callable[[], bool] | None = None,
    keep_bodies: bool = False,
) -> Load:
    """Send `requests` requests, for `seconds`, or `until` something, over connections at once."""
    load = Load()
    prepared = [request(i) for i in range(requests)] if requests is not None else []
    selector = selectors.DefaultSelector()
    sent = 0
    begun = time.perf_counter()

    def more() -> bytes | None:
        nonlocal sent
        if requests is not None:
            if sent >= requests:
                return None
            data = prepared[sent]
        else:
            over = until() if until is not None else time.perf_counter() - begun >= (seconds or 0)
            if over:
                return None
            data = request(sent)
        sent += 1
        return data

    def start(connection: socket.socket) -> bool:
        data = more()
        if data is None:
            return False
        at = time.perf_counter()
        connection.sendall(data)
        waiting[connection] = (at, bytearray())
        return True

    def connect() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    waiting: dict[socket.socket, tuple[float, bytearray]] = {}
    for _ in range(connections):
        connection = connect()
        selector.register(connection, selectors.EVENT_READ)
        if not start(connection):
            selector.unregister(connection)
            connection.close()
    while waiting:
        for key, _ in selector.select(timeout=60):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            at, buffer = waiting[connection]
            try:
                data = connection.recv(1 << 18)
            except OSError:
                data = b""
            buffer += data
            if data and not _complete(buffer):
                continue
            del waiting[connection]
            if not data:
                load.broken += 1
                selector.unregister(connection)
                connection.close()
                try:
                    connection = connect()
                except OSError:
                    continue
                selector.register(connection, selectors.EVENT_READ)
            else:
                load.latencies.append(time.perf_counter() - at)
                status = int(buffer[9:12])
                load.statuses[status] = load.statuses.get(status, 0) + 1
                if keep_bodies:
                    load.bodies.append(bytes(buffer[buffer.find(b"\r\n\r\n") + 4 :]))
            if not start(connection):
                selector.unregister(connection)
                connection.close()
    load.seconds = time.perf_counter() - begun
    return load


def _complete(buffer: bytearray) -> bool:
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = buffer.lower().find(b"content-length:", 0, head)
    end = buffer.find(b"\r\n", at)
    return len(buffer) - head - 4 >= int(buffer[at + 15 : end])
