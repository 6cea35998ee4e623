"""The real server: granian, several processes where the database allows it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces

from artwork_bandit.errors import InvalidInput
from artwork_bandit.settings import Settings, as_environment
from artwork_bandit.store import host_lock

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client's own name; it must be set before a worker imports that."""
BACKLOG = 4096
MOST_CONNECTIONS = 10_000
"""Open connections per worker. granian counts connections, idle ones too, not requests; with its
default of some hundreds a crowd of idle browsers shuts everybody out."""
DRAIN_SECONDS = 15
"""How long a worker that is told to stop may finish what it has begun."""


def serve(settings: Settings) -> None:
    """Serve until told to stop, at port 0 on some free one. Workers read the same settings from
    their environment.

    Raises InvalidInput if the address is taken or not this machine's.
    """
    with (
        _held(settings.host, settings.port) as (address, port),
        tempfile.TemporaryDirectory(prefix="artwork-bandit-metrics-") as folder,
    ):
        settings = replace(settings, port=port)
        os.environ.update(as_environment(settings))
        os.environ[METRICS_FOLDER] = folder
        _run(settings, address)


def _run(settings: Settings, address: str) -> None:
    Granian(
        "artwork_bandit.web.rsgi:app",
        address=address,
        port=settings.port,
        interface=Interfaces.RSGI,
        workers=workers(settings),
        backlog=BACKLOG,
        backpressure=MOST_CONNECTIONS,
        websockets=False,
        respawn_failed_workers=True,
        respawn_interval=0.1,
        workers_kill_timeout=DRAIN_SECONDS,
        log_access=False,
    ).serve()


@contextlib.contextmanager
def _held(host: str, port: int) -> Iterator[tuple[str, int]]:
    """Give the host's numeric address and the port, and hold a port there that nobody else has or
    is about to listen on: granian shares its port with any other granian, and two services would
    answer by turns."""
    user, where = getattr(os, "getuid", lambda: 0)(), re.sub(r"[^\w.]", "-", host)
    if not port:
        port = _free(host, port)[1]
    lock = Path(tempfile.gettempdir()) / f"artwork-bandit-{user}-{where}-{port}.lock"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that takes no file: the probe has to do
            if not stack.enter_context(host_lock.held(lock, wait=False)):
                raise InvalidInput(
                    f"cannot listen on {host}:{port}: another artwork-bandit has it, "
                    "or is about to; choose another --host or --port"
                )
        yield _free(host, port)


def _free(host: str, port: int) -> tuple[str, int]:
    """Return the host's numeric address and the port, of 0 one that is free; raises InvalidInput if
    it is taken there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return str(address[0]), int(probe.getsockname()[1])
    except OSError as error:
        raise InvalidInput(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from error


def workers(settings: Settings) -> int:
    """Return the number of processes; SQLite has one writer, so one process by default."""
    if settings.workers:
        return settings.workers
    return 1 if settings.database_url.startswith("sqlite") else 2
