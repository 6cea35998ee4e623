"""Folders of trainings under way, and what those left that were killed.

A folder is locked for as long as its process lives, so the next training knows which are nobody's.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from artwork_bandit.store import host_lock

PREFIX = "artwork-bandit-training-"
LOCK = "lock"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that is removed at the end, here or by the next training of this host."""
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, contextlib.ExitStack() as stack:
        made = Path(name)
        stack.enter_context(host_lock.held(made / LOCK, wait=True))
        yield made


def _sweep(parent: Path) -> None:
    """Remove the folders of trainings that were killed; another's, or another user's, stay."""
    for left in parent.glob(f"{PREFIX}*"):
        lock = left / LOCK
        with contextlib.suppress(OSError):
            if lock.exists():  # else it is being made
                with host_lock.held(lock, wait=False) as nobodys:
                    if nobodys:
                        shutil.rmtree(left, ignore_errors=True)
