"""How much to put into one transaction of background work, so that nobody waits long behind it.

SQLite has one writer at a time: while a join holds the lock, no choice can be logged, and a server
that waits for longer than `write_seconds` takes its database for lost. On PostgreSQL no event can
be taken in meanwhile. What fits into a moment depends on the machine and on the log, so it is found
while working.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

HELD_SECONDS = 0.1
"""How long one transaction may hold up others."""
REST_SECONDS = 0.01
"""Between two transactions, so that those who wait come first."""
FIRST = 250


class Pace:
    """The number of rows, at most `most`, that take about `seconds`."""

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.size = min(FIRST, most)
        self._most = most
        self._seconds = seconds
        self._clock = clock

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Run a block that works on `size` rows; the next size follows from how long it took."""
        begun = self._clock()
        yield
        self.took(self._clock() - begun)

    def took(self, seconds: float) -> None:
        """Note how long `size` rows took; waiting for a turn is not working."""
        fitting = min(self.size * self._seconds / max(seconds, 1e-9), 2 * self.size, self._most)
        self.size = max(int(fitting), 1)

    def rest(self) -> None:
        """Let others go first."""
        time.sleep(REST_SECONDS)
