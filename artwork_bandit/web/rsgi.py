"""The service as granian runs it: one event loop per worker, with Flask behind it.

Choices are answered on the loop: no thread per request, so that thousands may wait and too much is
refused at once. Everything else goes to the Flask application on a few threads, after its body is
here: a client that sends slowly holds up nobody.

    choices -> [loop] -> [chooser thread, a batch] -> [loop] -> answer
    others  -> [loop: whole body] -> [thread: Flask] -> [loop] -> answer

Any WSGI server can run `artwork_bandit.web.wsgi:app` instead; its own threads then do all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from granian import rsgi
from werkzeug.wrappers import Response

from artwork_bandit import settings
from artwork_bandit.errors import Overloaded, StoreUnavailable
from artwork_bandit.serving.batcher import Job
from artwork_bandit.serving.service import Asking, Chosen
from artwork_bandit.web import bodies, errors, wsgi
from artwork_bandit.web.app import CHOICES, CORS, LARGEST_BODY_BYTES, SECURITY_HEADERS, largest_body
from artwork_bandit.web.choices import PATH, Choices

OVERLOADED = Overloaded("more waits than can be answered in time; ask again in a moment")
BODY_SECONDS = 10.0
"""Longest time for a client to send its body."""
MOST_IN_FLASK = 256
"""Requests that may wait for Flask's threads; more are refused for now."""
PARENT_SECONDS = 1.0
"""How often a worker looks whether the server it belongs to is still there."""
JSON_HEADERS = [("content-type", "application/json"), *SECURITY_HEADERS.items()]

Answer = tuple[int, list[tuple[str, str]], bytes | Iterable[bytes]]


def _end_with(parent: int) -> None:
    """End this worker at once when the server that started it was killed: it would go on answering
    beside the next one. What it acknowledged is in the log."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


class Mailbox:
    """Brings results from threads to the loop, waking it once for many."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False

    def post(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._posted.append((future, result, error))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._posted:
            future, result, error = self._posted.popleft()
            if future.done():  # given up, or its client has gone
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


class LoopJob(Job[Asking, Chosen]):
    """A job that a coroutine waits for."""

    __slots__ = ("_mailbox", "future")

    def __init__(self, asked: Asking, mailbox: Mailbox, future: asyncio.Future[Chosen]) -> None:
        self.asked = asked
        self.future = future
        self._mailbox = mailbox

    def done(self, result: Chosen) -> None:
        self._mailbox.post(self.future, result, None)

    def failed(self, error: BaseException) -> None:
        self._mailbox.post(self.future, None, error)


class Application:
    """What granian calls. Made empty: importing it does nothing."""

    def __init__(self) -> None:
        self._flask: Flask | None = None
        self._mailbox: Mailbox | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._in_flask = 0
        self._refusal = _written(bodies.refusal(OVERLOADED, ""))

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        threading.Thread(target=_end_with, args=[os.getppid()], name="parent", daemon=True).start()
        self._mailbox = Mailbox(loop)
        self._threads = ThreadPoolExecutor(settings.load().threads, "flask")
        try:
            self._flask = wsgi.ready()
        except StoreUnavailable:
            self._flask = None  # tried again at the next request

    def __rsgi_del__(self, _loop: asyncio.AbstractEventLoop) -> None:
        if self._flask is not None:
            self._flask.extensions[CHOICES].service.close()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        if scope.proto != "http":
            protocol.close(403)
            return
        try:
            body = await _body(scope, protocol)
            answer = await self._answer(scope, body)
        except Overloaded:
            answer = self._refusal
        except Exception as error:  # every failure is an answer
            answer = await self._refused(scope, error)
        status, headers, data = answer
        headers = self._with_cors(headers, scope.headers.get("origin"))
        if isinstance(data, bytes):
            protocol.response_bytes(status, headers, data)
            return
        # A client may leave at any time.
        transport = protocol.response_stream(status, headers)
        chunks = iter(data)
        with contextlib.suppress(rsgi.ProtocolClosed):  # type: ignore[attr-defined]
            while (chunk := await self._in_thread(lambda: next(chunks, None))) is not None:
                await transport.send_bytes(chunk)

    async def _answer(self, scope: Any, body: bytes) -> Answer:
        if self._flask is None:
            self._flask = await self._in_thread(wsgi.ready)
        if scope.path == PATH and scope.method == "POST":
            choices: Choices = self._flask.extensions[CHOICES]
            return 200, JSON_HEADERS, await self._choose(choices, body)
        if self._in_flask >= MOST_IN_FLASK:
            raise OVERLOADED
        self._in_flask += 1
        flask = self._flask
        try:
            called: Answer = await self._in_thread(lambda: _call(flask, _environ(scope, body)))
            return called
        finally:
            self._in_flask -= 1

    async def _refused(self, scope: Any, error: Exception) -> Answer:
        """Return what a program is told of a failure, or a person."""
        flask, accepted = self._flask, scope.headers.get("accept") or ""
        if flask is None or not errors.for_people(scope.path, accepted):
            return _written(bodies.refusal(error, scope.path))

        def page() -> Answer:
            with flask.request_context(_environ(scope, b"")):
                return _written(errors.answer(error))

        shown: Answer = await self._in_thread(page)
        return shown

    async def _choose(self, choices: Choices, body: bytes) -> bytes:
        begun = time.perf_counter()
        asking = choices.read(body)
        assert self._mailbox is not None, "made when the worker starts"
        future: asyncio.Future[Chosen] = asyncio.get_running_loop().create_future()
        choices.begin(LoopJob(asking, self._mailbox, future))
        chosen = await future  # the chooser's thread has deadlines of its own
        if choices.asks_database(asking, chosen):
            done: bytes = await self._in_thread(lambda: choices.finish(asking, chosen, begun))
            return done
        return choices.finish(asking, chosen, begun)

    def _with_cors(
        self, headers: list[tuple[str, str]], origin: str | None
    ) -> list[tuple[str, str]]:
        """Return headers for a page of another site; Flask's answers have theirs already."""
        if origin is None or self._flask is None:
            return headers
        named = {name for name, _ in headers}
        more = self._flask.extensions[CORS].headers(origin)
        return headers + [(n, v) for n, v in more.items() if n.lower() not in named]

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def _body(scope: Any, protocol: Any) -> bytes:
    """Return the whole body; raises what `bodies.refusal` knows for one too large or too slow."""
    length, most = scope.headers.get("content-length"), largest_body(scope.path)
    if length is not None and int(length) > most:
        raise bodies.TOO_LARGE
    if length is None and scope.method in ("GET", "HEAD", "OPTIONS"):
        return b""
    try:
        async with asyncio.timeout(BODY_SECONDS * most / LARGEST_BODY_BYTES):
            if length is not None:
                return bytes(await protocol())
            whole = bytearray()
            async for part in protocol:
                whole += part
                if len(whole) > most:
                    raise bodies.TOO_LARGE
            return bytes(whole)
    except TimeoutError:
        raise bodies.TOO_SLOW from None


def _environ(scope: Any, body: bytes) -> dict[str, Any]:
    """Return a request as WSGI (PEP 3333) has it."""
    host, _, port = (scope.server or "").rpartition(":")
    environ = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": host or "localhost",
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": (scope.client or "").rpartition(":")[0],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        if "_" in name:  # it would pass for the one with hyphens, which a proxy answers for
            continue
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value
        elif key != "CONTENT_LENGTH":
            environ[f"HTTP_{key}"] = value
    return environ


def _call(app: Flask, environ: dict[str, Any]) -> Answer:
    """Return the application's answer; a file as chunks."""
    return _written(Response.from_app(app, environ))


def _written(response: Response) -> Answer:
    headers = [(name.lower(), value) for name, value in response.headers.items()]
    named = {name for name, _ in headers}
    headers += [(n, v) for n, v in SECURITY_HEADERS.items() if n.lower() not in named]
    if response.is_streamed:
        return response.status_code, headers, response.iter_encoded()
    return response.status_code, headers, response.get_data()


app = Application()
