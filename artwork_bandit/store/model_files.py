"""Compiled models as files of this host, mapped into memory and so shared by its workers.

The registry is the truth; a file that is missing, damaged or of another release is made again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from pathlib import Path

import numpy as np

from artwork_bandit.domain import ModelRecord
from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies import compiled
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.store import registry
from artwork_bandit.store.engine import Connection

log = logging.getLogger(__name__)
KEPT = 8
"""Files of models that served last; older ones are removed (a mapped file lives on)."""
PARTIAL = ".partial"
"""Being written, or left by a process that was killed while it wrote."""


class ModelFiles:
    """A folder of compiled models, named by the hash of the registered bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def policy(self, connection: Connection, record: ModelRecord) -> ModelPolicy:
        """Return the model as a policy; raises NotFound, Conflict and BrokenModel."""
        path = self._folder / f"{record.sha256}.model"
        with contextlib.suppress(OSError, ValueError, BrokenModel):
            return compiled.decode(np.memmap(path, np.uint8, "r"), record.version)
        data = compiled.encode(registry.load(connection, record.version))
        try:
            self._write(path, data)
            return compiled.decode(np.memmap(path, np.uint8, "r"), record.version)
        except OSError as error:  # a full disk: this process keeps a copy of its own
            log.warning("model_file_not_written", extra={"error": str(error)})
            return compiled.decode(np.frombuffer(data, np.uint8), record.version)

    def _write(self, path: Path, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=PARTIAL, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise
        for old in [*self._by_age(".model")[KEPT:], *self._by_age(PARTIAL)[KEPT:]]:
            old.unlink(missing_ok=True)

    def _by_age(self, suffix: str) -> list[Path]:
        """Return the files of a kind, the newest first; another process may remove them, too."""
        found = []
        for path in self._folder.glob(f"*{suffix}"):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found, reverse=True)]
