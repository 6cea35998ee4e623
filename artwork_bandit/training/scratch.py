"""Folders of trainings under way, and what those left that were killed.

A folder is locked for as long as its process lives, so the next training knows which are nobody's.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from artwork_bandit.errors import ArtworkBanditError
from artwork_bandit.store import host_lock

PREFIX, NEW = "artwork-bandit-training-", "artwork-bandit-new-"
LOCK = "lock"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that is removed at the end, here or by the next training of this host."""
    parent = Path(tempfile.gettempdir())
    if host_lock.EXCLUDES:
        _sweep(parent)
    made = Path(tempfile.mkdtemp(prefix=NEW))
    try:
        with host_lock.held(made / LOCK, wait=True):
            if host_lock.EXCLUDES:  # only now it may be looked at: it is locked
                made = made.rename(parent / f"{PREFIX}{made.name.removeprefix(NEW)}")
            yield made
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ArtworkBanditError(
            f"the temporary folder {parent} is full: let TMPDIR name a folder with more room"
        ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove the folders of trainings that were killed; another's, or another user's, stay."""
    for left in parent.glob(f"{PREFIX}*"):
        with (
            contextlib.suppress(OSError),
            host_lock.held(left / LOCK, wait=False) as nobodys,
        ):
            if nobodys:
                shutil.rmtree(left, ignore_errors=True)
