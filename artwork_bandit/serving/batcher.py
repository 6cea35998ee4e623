"""Taking what waits at the same time as one batch: how concurrent requests share a commit."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from artwork_bandit.errors import StoreUnavailable

GATHER_SECONDS = 0.0005

J = TypeVar("J")
R = TypeVar("R")

log = logging.getLogger(__name__)


class Job(Generic[J, R]):
    """Something asked of a batcher, and whom to tell."""

    __slots__ = ("_answer", "asked")

    def __init__(self, asked: J) -> None:
        self.asked = asked
        self._answer: queue.SimpleQueue[tuple[R | None, BaseException | None]]
        self._answer = queue.SimpleQueue()

    def done(self, result: R) -> None:
        self._answer.put((result, None))

    def failed(self, error: BaseException) -> None:
        self._answer.put((None, error))

    def wait(self, seconds: float) -> R:
        """Return the result or raise the error; raises StoreUnavailable if neither comes."""
        try:
            result, error = self._answer.get(timeout=seconds)
        except queue.Empty:
            raise StoreUnavailable(f"no answer within {seconds:g} s") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]


class Batcher(Generic[J, R]):
    """A thread that works on all the jobs there are, then on all that came meanwhile."""

    def __init__(
        self,
        name: str,
        work: Callable[[list[Job[J, R]]], None],
        weight: Callable[[J], int] = lambda _asked: 1,
        most: int = 128,
    ) -> None:
        """`work` gets jobs up to a total weight of `most`, at least one."""
        self._work = work
        self._weight = weight
        self._most = most
        self._jobs: queue.SimpleQueue[Job[J, R] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job[J, R]) -> None:
        self._jobs.put(job)

    def close(self, seconds: float = 30.0) -> None:
        """Finish what is there, then stop; a thread that takes longer dies with the process."""
        self._jobs.put(None)
        self._thread.join(timeout=seconds)

    def _run(self) -> None:
        going = True
        batch: list[Job[J, R]] = []
        while going:
            together = len(batch) > 1
            batch = []
            weight = 0
            job = self._jobs.get()
            if together:
                time.sleep(GATHER_SECONDS)
            while job is not None:
                batch.append(job)
                weight += self._weight(job.asked)
                if weight >= self._most:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                going = False
            if not batch:
                continue
            try:
                self._work(batch)
            except Exception as error:  # a thread that died would answer nobody any more
                log.exception("batch_failed")
                for each in batch:
                    each.failed(error)
