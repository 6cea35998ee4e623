"""Taking what waits at the same time as one batch: how concurrent requests share a commit."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from artwork_bandit.errors import ArtworkBanditError, Overloaded, StoreUnavailable

GATHER_SECONDS = 0.001
"""How long a batch gathers after one that several shared. Without it every second batch is small:
the first to ask again does not wait for the others. Longer gathers larger batches, whose cost a
request is less, until the cores wait for the batch."""

J = TypeVar("J")
R = TypeVar("R")

log = logging.getLogger(__name__)


class Waiting(StoreUnavailable):
    """A job is not done yet."""


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
        """Return the result or raise the error; raises Waiting if neither comes."""
        try:
            result, error = self._answer.get(timeout=seconds)
        except queue.Empty:
            raise Waiting(f"no answer within {seconds:g} s") from None
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
        most_waiting: int | None = None,
    ) -> None:
        """`work` gets jobs up to a total weight of `most`, at least one, and answers them all or
        raises; then it gets each alone. `put` refuses jobs while a weight of `most_waiting` waits.
        """
        self._work = work
        self._weight = weight
        self._most = most
        self._most_waiting = most_waiting
        self._waiting = 0
        self._counting = threading.Lock()
        self._jobs: queue.SimpleQueue[Job[J, R] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Weight of the jobs that wait or are worked on."""
        return self._waiting

    def put(self, job: Job[J, R]) -> None:
        """Have a job done; raises Overloaded if too much waits already."""
        weight = self._weight(job.asked)
        with self._counting:
            self.require_room()
            self._waiting += weight
        self._jobs.put(job)

    def require_room(self) -> None:
        """Raise Overloaded if `put` would: refusing must cost less than answering."""
        if self._most_waiting is not None and self._waiting >= self._most_waiting:
            raise Overloaded("more waits than can be answered in time; ask again in a moment")

    def close(self, seconds: float = 30.0) -> None:
        """Finish what is there, then stop; a thread that takes longer dies with the process."""
        self._jobs.put(None)
        self._thread.join(timeout=seconds)

    def _run(self) -> None:
        going = True
        batch: list[Job[J, R]] = []
        while going:
            batch, going = self._gather(gently=len(batch) > 1)
            if not batch:
                continue
            self._try(batch)
            with self._counting:
                self._waiting -= sum(self._weight(job.asked) for job in batch)

    def _try(self, batch: list[Job[J, R]]) -> None:
        try:
            self._work(batch)
        except Exception as error:  # a thread that died would answer nobody any more
            if len(batch) > 1:  # one of them; the others must not pay for it
                for job in batch:
                    self._try([job])
                return
            if not isinstance(error, ArtworkBanditError):
                log.exception("job_failed")
            batch[0].failed(error)

    def _gather(self, *, gently: bool) -> tuple[list[Job[J, R]], bool]:
        """Return what waits, once something does, and whether to go on after it."""
        job = self._jobs.get()
        if gently:  # those just answered are about to ask again: let them join this batch
            time.sleep(GATHER_SECONDS)
        batch: list[Job[J, R]] = []
        weight = 0
        while job is not None:
            batch.append(job)
            weight += self._weight(job.asked)
            if weight >= self._most:
                return batch, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False
