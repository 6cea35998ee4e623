"""A query's result in columns, page by page, for those who read a large part of the database.

The driver of the standard library makes an object of every value and a tuple of every row, and
holds the interpreter's lock meanwhile. Arrow's SQLite driver fills arrays without either, in less
than half of the time. It brings a SQLite of its own, and two of them in one process release each
other's file locks, so it runs in a process of its own (`store.arrow_reader`), beside what looks at
the columns; starting that takes half a second, which small databases are read in. PostgreSQL's
rows come from its own driver.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.store.engine import Store

LARGE = 100 * 2**20
"""Bytes of a SQLite file from which on another process reads it."""
Arrays = list[npt.NDArray[Any]]
"""A page's columns; texts are objects."""


def pages(
    store: Store, query: sa.Select[Any], order: Sequence[sa.ColumnElement[Any]], rows: int
) -> Iterator[Arrays]:
    """Yield a query's rows in the order of its columns `order`, which tell rows apart and which it
    selects first; `rows` at a time. All values of a column are of one kind."""
    path = store.engine.url.database
    large = store.dialect == "sqlite" and path and Path(path).stat().st_size >= LARGE
    ordered = query.order_by(*order)
    yield from (
        _by_arrow(store, str(path), ordered, rows)
        if large
        else _by_key(store, ordered, order, rows)
    )


def _by_key(
    store: Store, query: sa.Select[Any], order: Sequence[sa.ColumnElement[Any]], rows: int
) -> Iterator[Arrays]:
    """Each page is a short transaction of its own, from where the last one ended."""
    page = query.limit(rows)
    while True:
        with store.read() as connection:
            # As the driver gives them: there is nothing to convert, and a million rows to wrap.
            found = connection.execute(page).cursor.fetchall()
        if found:
            yield [_objects(column) for column in zip(*found, strict=True)]
        if len(found) < rows:
            return
        page = query.where(sa.tuple_(*order) > tuple(found[-1][: len(order)])).limit(rows)


def _objects(values: Sequence[Any]) -> npt.NDArray[Any]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _by_arrow(
    store: Store, path: str, query: sa.Select[Any], rows: int
) -> Iterator[Arrays]:  # fmt: skip
    """All of it is one transaction of another process."""
    import pyarrow as pa  # small logs are read without it

    text = str(query.compile(store.engine, compile_kwargs={"literal_binds": True}))
    line = [sys.executable, "-m", "artwork_bandit.store.arrow_reader", path, str(rows)]
    with tempfile.TemporaryFile() as said, subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
    ) as reader:  # fmt: skip
        assert reader.stdin is not None
        assert reader.stdout is not None
        try:
            reader.stdin.write(text.encode())
            reader.stdin.close()
            with pa.ipc.open_stream(reader.stdout) as batches:
                for batch in batches:
                    yield [column.to_numpy(zero_copy_only=False) for column in batch.columns]
            failed = reader.wait() != 0
        except (pa.ArrowInvalid, BrokenPipeError):
            failed = True
        finally:
            reader.kill()  # whoever looks at the pages may have had enough
        if failed:
            said.seek(0)
            why = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise StoreUnavailable(f"the database cannot be read: {''.join(why)[:400]}")
