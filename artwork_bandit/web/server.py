"""The real server: granian, several processes where the database allows it."""

from __future__ import annotations

import os

from granian import Granian
from granian.constants import Interfaces

from artwork_bandit.settings import Settings, as_environment


def serve(settings: Settings) -> None:
    """Serve until told to stop. Workers read the same settings from their environment."""
    os.environ.update(as_environment(settings))
    Granian(
        "artwork_bandit.web.wsgi:app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=workers(settings),
        blocking_threads=settings.threads,
        respawn_failed_workers=True,
        log_access=False,
    ).serve()


def workers(settings: Settings) -> int:
    """Return the number of processes; SQLite has one writer, so one process by default."""
    if settings.workers:
        return settings.workers
    return 1 if settings.database_url.startswith("sqlite") else 2
