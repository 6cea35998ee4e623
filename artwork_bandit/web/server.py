"""The real server: granian, several processes where the database allows it."""

from __future__ import annotations

import os
import socket
import tempfile

from granian import Granian
from granian.constants import Interfaces

from artwork_bandit.errors import InvalidInput
from artwork_bandit.settings import Settings, as_environment

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client's own name; it must be set before a worker imports that."""
BACKLOG = 4096
MOST_CONNECTIONS = 10_000
"""Open connections per worker. granian counts connections, idle ones too, not requests; with its
default of some hundreds a crowd of idle browsers shuts everybody out."""
DRAIN_SECONDS = 15
"""How long a worker that is told to stop may finish what it has begun."""


def serve(settings: Settings) -> None:
    """Serve until told to stop. Workers read the same settings from their environment.

    Raises InvalidInput if the address is taken or not this machine's.
    """
    _require_free(settings.host, settings.port)
    os.environ.update(as_environment(settings))
    with tempfile.TemporaryDirectory(prefix="artwork-bandit-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        _run(settings)


def _run(settings: Settings) -> None:
    Granian(
        "artwork_bandit.web.rsgi:app",
        address=settings.host,
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


def _require_free(host: str, port: int) -> None:
    """granian shares its port with any other granian: two services would answer by turns."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidInput(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
            ) from error


def workers(settings: Settings) -> int:
    """Return the number of processes; SQLite has one writer, so one process by default."""
    if settings.workers:
        return settings.workers
    return 1 if settings.database_url.startswith("sqlite") else 2
