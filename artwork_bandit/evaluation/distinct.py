"""How many different names a log of any size has, exactly, in memory that does not grow with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Objects

Hashes = npt.NDArray[np.uint64]
MOST_KEPT = 1_000_000
"""Hashes in memory at once; more are written to a file without a name."""


def hashed(names: Objects) -> Hashes:
    """Return a 64-bit hash of each name, the same on every machine and run."""
    from pandas.util import hash_array  # slow to load, and most commands count no names

    found: Hashes = hash_array(names, categorize=False)
    return found


class Distinct:
    """A bag of hashes; merges with `+=`."""

    def __init__(self) -> None:
        self.total = 0
        """Hashes taken in."""
        self._kept: list[Hashes] = []
        self._waiting = 0
        self._file: IO[bytes] | None = None

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, hashes: Hashes) -> None:
        self._kept.append(hashes)
        self.total += len(hashes)
        self._waiting += len(hashes)
        if self._waiting > MOST_KEPT:
            self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115 (ours to keep)
            self._file.write(np.concatenate(self._kept).tobytes())
            self._kept, self._waiting = [], 0

    def __iadd__(self, other: Distinct) -> Distinct:
        for hashes in other.pieces():
            self.add(hashes)
        return self

    def pieces(self) -> Iterator[Hashes]:
        """Yield all hashes, in pieces."""
        if self._file is not None:
            self._file.seek(0)
            while data := self._file.read(8 * MOST_KEPT):
                yield np.frombuffer(data, np.uint64)
        yield from self._kept

    @property
    def distinct(self) -> int:
        """Number of different hashes: those of one remainder are counted at a time."""
        times = 1 + self.total // MOST_KEPT
        found = 0
        for remainder in range(times):
            some = [h[h % times == remainder] if times > 1 else h for h in self.pieces()]
            # Sorting by hand: `np.unique` takes eight times as long.
            ordered = np.sort(np.concatenate(some)) if some else np.empty(0, np.uint64)
            found += int(np.count_nonzero(np.diff(ordered))) + bool(len(ordered))
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"pieces": list(self.pieces())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        for hashes in state["pieces"]:
            self.add(hashes)
