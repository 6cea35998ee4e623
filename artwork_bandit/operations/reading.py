"""Reading a log part by part: in this process, in others of this machine, or on a Dask cluster.

What is done with a part is the same, and so are the digits of what comes of it: parts are put
together in the log's order wherever they were read.
"""

from __future__ import annotations

import atexit
import gc
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from artwork_bandit.domain import ReplayBlock
from artwork_bandit.errors import InvalidInput, StoreUnavailable
from artwork_bandit.operations.replay_source import Part, Readable, ReplaySource
from artwork_bandit.policies.block import Detail, Log, Made, PartFunction
from artwork_bandit.settings import Settings

Progress = Callable[[int], None]
"""Told how many rows have been read so far."""
LOCAL = "local"
CONNECT_SECONDS = 10
AHEAD = 2
"""Parts waiting per thread of the cluster: what they make waits there until it is its turn."""
LARGE = 500_000
"""Rows from which on starting other processes is worth it: with two cores they cost half a second,
and save two at 1,000,000 rows."""
MOST_PROCESSES = 4
"""Processes that read a large log, if not told otherwise: each holds a part of it in memory."""
RARELY = 100_000
"""New objects after which Python looks for cycles while a log is read; its own default is 700."""


_reading_lock = threading.Lock()
_readings: list[tuple[int, int, int]] = []
"""What the thresholds were, and as much again for each who reads."""


def silent(rows: int) -> None:
    """Show no progress."""


def reading_processes(settings: Settings) -> int:
    """Return how many processes read a large log."""
    limited = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if limited else os.cpu_count() or 1
    return settings.training_processes or min(MOST_PROCESSES, cores)


@contextmanager
def reading(
    source: ReplaySource, scheduler: str | None = None, progress: Progress = silent, *,
    with_contexts: bool = True, processes: int = 1,
) -> Iterator[Log]:  # fmt: skip
    """Give the log to read, several times if need be; `with_contexts` if they will be asked for.

    `scheduler` is the address of a Dask scheduler, or `local` for processes on this machine; None
    reads the log here, a large one that is read again by so many `processes`. A cluster's workers
    need this package, and must see the files where this process does. Raises InvalidInput where
    that cannot be.
    """
    if scheduler is None:
        others = processes > 1 and source.rows() >= LARGE
        pools = _pool(processes) if others else nullcontext()
        with _collecting_rarely(), pools as pool, source.again(with_contexts=with_contexts) as log:
            yield _Here(log, progress, pool, processes)
        return
    if not (parts := source.parts()):
        raise InvalidInput(
            "--scheduler reads Parquet part files: `export` the log first, then say --log"
        )
    with _client(scheduler) as client:
        yield _OnCluster(parts, progress, client)


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Have Python look for cycles among objects rarely: the contexts of a log are millions, none of
    them in a cycle, and looking among them again and again took a tenth of training."""
    with _reading_lock:
        _end_at_once()
        if not _readings:
            _readings.append(gc.get_threshold())
            if _readings[0][0]:  # else nobody looks at all
                gc.set_threshold(max(_readings[0][0], RARELY), *_readings[0][1:])
        _readings.append(_readings[0])
    try:
        yield
    finally:
        with _reading_lock:
            _readings.pop()
            if len(_readings) == 1:  # the last one that reads
                gc.set_threshold(*_readings.pop())


@cache
def _end_at_once() -> None:
    """Have Python, at its end, not look for cycles among all that a process ever loaded: a fifth of
    a second, after a training of four."""
    atexit.register(gc.freeze)


@contextmanager
def _pool(processes: int) -> Iterator[Executor]:
    # Not forked: this process may have threads. They load what they need while the log is first
    # read, and end when it was read for the last time.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _end_with_parent) as pool:
        try:
            with _told():
                for _ in range(processes):
                    pool.submit(_run, _nothing, None, "all", ())
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _told() -> Iterator[None]:
    """Say in words that another process has ended."""
    try:
        yield
    except (BrokenExecutor, MemoryError) as error:
        raise StoreUnavailable(
            "a process that read a part of the log was ended: for want of memory, or because the "
            'script that trains lacks `if __name__ == "__main__":`; training_processes=1 starts '
            "none"
        ) from error


@dataclass(frozen=True, slots=True)
class _Here:
    log: Readable
    progress: Progress
    pool: Executor | None
    processes: int

    def map(
        self, function: PartFunction[Made], *arguments: Any, detail: Detail = "all"
    ) -> Iterator[Made]:
        if self.pool is not None and len(parts := self.log.parts()) > 1:
            submit = self.pool.submit
            with _told():
                yield from _in_order(
                    lambda part: submit(_run, function, part, detail, arguments),
                    parts, self.processes + 1, self.progress,
                )  # fmt: skip
            return

        def blocks() -> Iterator[ReplayBlock]:
            rows = 0
            for block in self.log.blocks(detail):
                yield block
                self.progress(rows := rows + len(block))

        yield from function(blocks(), *arguments)


@dataclass(frozen=True, slots=True)
class _OnCluster:
    all_parts: Sequence[Part]
    progress: Progress
    client: Any

    def map(
        self, function: PartFunction[Made], *arguments: Any, detail: Detail = "all"
    ) -> Iterator[Made]:
        # Under a name of its own: the same content, scattered again while it is let go, gets lost.
        shared = self.client.scatter([arguments], broadcast=True, hash=False)[0]
        most = AHEAD * max(1, sum(self.client.nthreads().values()))

        def submit(part: Part) -> Any:
            return self.client.submit(_run, function, part, detail, shared, pure=False)

        yield from _in_order(submit, self.all_parts, most, self.progress)


def _in_order(
    submit: Callable[[Part], Any], parts: Sequence[Part], most: int, progress: Progress
) -> Iterator[Any]:
    """Yield what parts make, in their order; at most so many are under way."""
    waiting: deque[Any] = deque()
    rows, left = 0, iter(parts)
    while True:
        while len(waiting) < most and (part := next(left, None)) is not None:
            waiting.append(submit(part))
        if not waiting:
            return
        made, read = waiting.popleft().result()
        progress(rows := rows + read)
        yield from made


def _end_with_parent() -> None:
    """See to it that this process ends when the one that started it does, and not before."""
    gc.set_threshold(RARELY, *gc.get_threshold()[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a process of a pool has a parent"

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _nothing(blocks: Iterable[ReplayBlock]) -> Iterator[None]:
    yield from ()


def _run(
    function: PartFunction[Made], part: Part | None, detail: Detail, arguments: tuple[Any, ...]
) -> tuple[list[Made], int]:
    rows = 0

    def blocks() -> Iterable[ReplayBlock]:
        nonlocal rows
        for block in () if part is None else part.blocks(detail):
            rows += len(block)
            yield block

    return list(function(blocks(), *arguments)), rows


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise InvalidInput(
            "--scheduler needs Dask; install it with `pip install 'artwork-bandit[scale]'`"
        ) from error
    address = None if scheduler == LOCAL else scheduler
    # What a worker says of a broken log comes back from it, to be said once.
    quiet = {"dashboard_address": ":0", "threads_per_worker": 1, "silence_logs": logging.CRITICAL}
    more = quiet if scheduler == LOCAL else {}
    try:
        client: Any = Client(  # type: ignore[no-untyped-call]
            address, timeout=CONNECT_SECONDS, **more
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise InvalidInput(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
    with client:
        yield client
