"""Reading a log part by part: in this process, or on a Dask cluster.

What is done with a part is the same, and so are the digits of what comes of it: parts are put
together in the log's order wherever they were read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from artwork_bandit.domain import ReplayBlock
from artwork_bandit.errors import InvalidInput
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.block import Detail, Log, Made, PartFunction

Progress = Callable[[int], None]
"""Told how many rows have been read so far."""
LOCAL = "local"
CONNECT_SECONDS = 10
AHEAD = 2
"""Parts waiting per thread of the cluster: what they make waits there until it is its turn."""


def silent(rows: int) -> None:
    """Show no progress."""


@contextmanager
def reading(
    source: ReplaySource, scheduler: str | None = None, progress: Progress = silent, *,
    with_contexts: bool = True,
) -> Iterator[Log]:  # fmt: skip
    """Give the log to read, several times if need be; `with_contexts` if they will be asked for.

    `scheduler` is the address of a Dask scheduler, or `local` for processes on this machine; None
    reads the log here, as one part. Its workers need this package, and must see the files where
    this process does. Raises InvalidInput where that cannot be.
    """
    if scheduler is None:
        with source.again(with_contexts=with_contexts) as blocks:
            yield _Here(blocks, progress)
        return
    if not (parts := source.parts()):
        raise InvalidInput(
            "--scheduler reads Parquet part files: `export` the log first, then say --log"
        )
    with _client(scheduler) as client:
        yield _OnCluster(parts, progress, client)


@dataclass(frozen=True, slots=True)
class _Here:
    all_blocks: Callable[[Detail], Iterable[ReplayBlock]]
    progress: Progress

    def map(
        self, function: PartFunction[Made], *arguments: Any, detail: Detail = "all"
    ) -> Iterator[Made]:
        def blocks() -> Iterator[ReplayBlock]:
            rows = 0
            for block in self.all_blocks(detail):
                yield block
                self.progress(rows := rows + len(block))

        yield from function(blocks(), *arguments)


@dataclass(frozen=True, slots=True)
class _OnCluster:
    all_parts: Sequence[ReplaySource]
    progress: Progress
    client: Any

    def map(
        self, function: PartFunction[Made], *arguments: Any, detail: Detail = "all"
    ) -> Iterator[Made]:
        # Under a name of its own: the same content, scattered again while it is let go, gets lost.
        shared = self.client.scatter([arguments], broadcast=True, hash=False)[0]
        most = AHEAD * max(1, sum(self.client.nthreads().values()))
        waiting: deque[Any] = deque()
        rows = 0
        parts = iter(self.all_parts)
        while True:
            while len(waiting) < most and (part := next(parts, None)) is not None:
                waiting.append(self.client.submit(_run, function, part, detail, shared, pure=False))
            if not waiting:
                return
            made, read = waiting.popleft().result()
            self.progress(rows := rows + read)
            yield from made


def _run(
    function: PartFunction[Made], part: ReplaySource, detail: Detail, arguments: tuple[Any, ...]
) -> tuple[list[Made], int]:
    rows = 0

    def blocks() -> Iterable[ReplayBlock]:
        nonlocal rows
        for block in part.blocks(detail):
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
    more = {"dashboard_address": ":0", "threads_per_worker": 1} if scheduler == LOCAL else {}
    try:
        client: Any = Client(  # type: ignore[no-untyped-call]
            address, timeout=CONNECT_SECONDS, **more
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise InvalidInput(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
    with client:
        yield client
