"""One holder at a time among the processes of a host: a lock on a file, freed by the kernel when
its holder dies, and given to those who wait in turn."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows: whoever locks must also stand being not alone
    _fcntl = None


EXCLUDES = _fcntl is not None
"""Whether a lock that is held here is nobody else's."""


@contextlib.contextmanager
def held(path: str | Path, *, wait: bool) -> Iterator[bool]:
    """Give whether the lock is ours; without `wait`, at once. Raises OSError for a bad path."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        mine = True
        if _fcntl is not None:
            try:
                _fcntl.flock(file, _fcntl.LOCK_EX | (0 if wait else _fcntl.LOCK_NB))
            except BlockingIOError:
                mine = False
        yield mine
    finally:
        os.close(file)
