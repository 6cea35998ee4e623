"""Calls that may hang, with a deadline that holds whatever they wait for.

A statement time-out is the database's promise; a database that is stopped, or a network that
swallows packets, keeps no promise. So such a call runs on a thread of its own, and whoever needs
it waits only so long. While a call is overdue the thread takes no other.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from artwork_bandit.errors import StoreUnavailable

T = TypeVar("T")


class Bounded:
    """One thread that makes one call at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None]
        self._calls = queue.SimpleQueue()
        self._busy = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T], seconds: float) -> T:
        """Return what `work` returns or raise what it raises.

        Raises StoreUnavailable if it is not done in time, or if the call before is still not.
        """
        if not self._busy.acquire(blocking=False):
            raise StoreUnavailable(f"{self._name} is still waiting for the database")
        answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        self._calls.put((work, answer))
        try:
            value, error = answer.get(timeout=seconds)
        except queue.Empty:
            raise StoreUnavailable(
                f"{self._name} had no answer from the database within {seconds:g} s"
            ) from None
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    @property
    def overdue(self) -> bool:
        """Tell whether a call is still running."""
        return self._busy.locked()

    def close(self) -> None:
        """Let the thread end; a call that hangs is left behind."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            work, answer = call
            done: tuple[Any, BaseException | None]
            try:
                done = (work(), None)
            except BaseException as error:
                done = (None, error)
            self._busy.release()  # before the answer: whoever has it may call again at once
            answer.put(done)
