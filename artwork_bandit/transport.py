"""Asking one HTTP service for JSON by a moment: connections that threads share, and a deadline that
holds however little comes at a time. Standard library only.
"""

from __future__ import annotations

import contextlib
import functools
import http
import http.client
import io
import json
import queue
import socket
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MOST_IDLE = 16
"""Connections kept open while nobody uses them."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    retry_after: str
    body: Any
    """JSON; None where an answer other than 200 is none, as a proxy's page."""


class Transport:
    """One service; may be used by many threads."""

    def __init__(self, address: str) -> None:
        """`address` is like `http://HOST:8800`, else ValueError."""
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"the service's address {address!r} is not like http://HOST:8800")
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._connection = functools.partial(kind, url.hostname, url.port)
        self._prefix = url.path.rstrip("/")
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue(MOST_IDLE)
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that nobody uses."""
        return self._idle.qsize()

    def post(self, path: str, data: str, deadline: float) -> Answer:
        """Return what comes back until a `time.monotonic` moment; raises OSError and HTTPException
        if nothing does, ValueError if it is a 200 without JSON.

        A connection that was idle may have been closed by the other side, and all others with it:
        then a new one asks once more. That must do no harm.
        """
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            return self._post(self._connection(), path, data, deadline)
        try:
            return self._post(connection, path, data, deadline)
        except (OSError, http.client.HTTPException):
            self._close_idle()
            return self._post(self._connection(), path, data, deadline)

    def close(self) -> None:
        """Close what is idle, and what is used once it is not."""
        self._closed = True
        self._close_idle()

    def _post(
        self, connection: http.client.HTTPConnection, path: str, data: str, deadline: float
    ) -> Answer:
        try:
            connection.timeout = _left(deadline)
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(_left(deadline))
            headers = {"Content-Type": "application/json"}
            connection.request("POST", self._prefix + path, data, headers)
            connection.response_class = functools.partial(_response, deadline)  # type: ignore[assignment]
            response = connection.getresponse()
            after = response.headers.get("Retry-After", "")
            answer = Answer(response.status, after, _json(response.status, response.read()))
        except BaseException:
            connection.close()
            raise
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()
        if self._closed:
            self._close_idle()
        return answer

    def _close_idle(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


def _json(status: int, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        if status == http.HTTPStatus.OK:
            raise
        return None


class _Timed(io.RawIOBase):
    """What a socket receives until a moment: its own time-out is per piece."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline
        self._file = sock.makefile("rb", buffering=0)  # holds the socket open until it is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._deadline))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Answering:
    """A socket as far as `http.client` reads an answer from it."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Timed(self._sock, self._deadline))


def _response(deadline: float, sock: socket.socket, **more: Any) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(_Answering(sock, deadline), **more)  # type: ignore[arg-type]


def _left(deadline: float) -> float:
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left
