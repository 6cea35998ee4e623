"""Starting the real server as a process of its own, and waiting until it is ready."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from artwork_bandit.errors import ArtworkBanditError
from artwork_bandit.settings import Settings, as_environment

START_SECONDS = 30.0
STOP_SECONDS = 20.0
"""Longer than a worker may take to finish what it has begun."""


def command(settings: Settings, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return (argument list, environment) of an `artwork-bandit` command with these settings."""
    environment = os.environ | as_environment(settings)
    return [sys.executable, "-m", "artwork_bandit", *arguments], environment


@contextlib.contextmanager
def serving(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a running, ready server; it is stopped at the end. Its output goes to `log`."""
    arguments, environment = command(settings, "serve")
    with log.open("ab") as out:
        # A session of its own: Ctrl+C is for the caller, who then stops the server in order.
        process = subprocess.Popen(
            arguments, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _wait(process, settings, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port(preferred: int) -> int:
    """Return `preferred` if nobody listens there, else some free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ArtworkBanditError("no free port")


def _wait(process: subprocess.Popen[bytes], settings: Settings, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = log.read_text("utf-8", "replace")[-2000:]
            raise ArtworkBanditError(f"the server stopped at its start:\n{tail}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(settings.host, settings.port, timeout=2)
            with contextlib.closing(connection):
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
        time.sleep(0.1)
    raise ArtworkBanditError(f"the server was not ready after {START_SECONDS:.0f} s; see {log}")
