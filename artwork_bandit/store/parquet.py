"""The replay log as Parquet: what `export` writes, and `evaluate`, `train` and `import-log` read.

Columns as in the README ("The replay log as Parquet"). Files are read in blocks; every broken
row is named by its number and the rule it breaks, before anything is done with any row.
"""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from artwork_bandit.domain import Floats, Ints, ReplayBlock
from artwork_bandit.errors import InvalidInput, NotEnoughData
from artwork_bandit.policies.block import Detail
from artwork_bandit.slots import RewardRule
from artwork_bandit.store.ahead import ahead
from artwork_bandit.store.parquet_rows import OPTIONAL, REQUIRED, TARGET_PREFIX, block_of

BLOCK = 65_536
PART_ROWS = 250_000
SMALL = BLOCK // 4
"""Mean rows of a row group below which several make a block."""
READ_AT_ONCE = 1 << 20
"""Bytes of a column read at once."""
ABANDONED_SECONDS = 24 * 3600.0
"""After which a file that is half written is nobody's."""
CLICKED = "clicked"
REPEATING = ("title_id", "action_set", "variant_id")


RULE, BOUNDS = b"artwork_bandit.reward_rule", b"artwork_bandit.reward_bounds"
"""Where a file's metadata say what rule its rewards are of, and the least and the most it gives."""


def write(path: Path, blocks: Iterable[ReplayBlock], rule: RewardRule | None = None) -> int:
    """Write blocks to one file, whole or not at all; return the number of rows.

    `rule` is the one that the rewards are of. Raises InvalidInput if it cannot be written, and
    NotEnoughData if there are no rows to put in place of a file that has some.
    """
    schema = pa.schema(
        [*REQUIRED.items(), *((k, OPTIONAL[k]) for k in ("slot", "context", "cell", "clicked"))]
    )
    if rule is not None:
        bounds = json.dumps(rule.bounds)
        schema = schema.with_metadata({RULE: rule.version, BOUNDS: bounds})
    rows = 0
    with writing(path, schema) as write_table:
        for block in blocks:
            write_table(_table(block, schema))
            rows += len(block)
        if not rows and _has_rows(path):
            raise NotEnoughData(f"{path}, which has rows, stays as it is")
    return rows


def _has_rows(path: Path) -> bool:
    """Return whether there is such a file, and not one that is a log without rows."""
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        return bool(pa.parquet.read_metadata(path).num_rows)
    except (OSError, pa.ArrowInvalid):
        return True


@contextlib.contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Give what writes tables to a file, which is there in the end, whole, or not at all; raises
    InvalidInput if it cannot be written."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):  # of one that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                left.unlink()
    # Of a name of its own: another may write the same file.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with pa.parquet.ParquetWriter(partial, schema) as writer:
            yield writer.write_table
        os.replace(partial, path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def rule_of(path: Path) -> str | None:
    """Return the rule that a log's rewards are of, None if its files do not say one."""
    rule = _said(path, RULE)
    return None if rule is None else rule.decode(errors="replace")


def bounds_of(path: Path) -> tuple[float, float] | None:
    """Return the smallest and the largest reward that a log's rule gives, None if its files do not
    say so."""
    try:
        low, high = map(float, json.loads(_said(path, BOUNDS) or b"[]"))
    except (ValueError, TypeError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _said(path: Path, what: bytes) -> bytes | None:
    """Return what the metadata of all files say, None if they do not agree."""
    with _told(path):
        found = {(_schema_of(f).metadata or {}).get(what) for f in _files(path)}
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Part:
    """Some row groups of a log's file."""

    file: Path
    row_groups: tuple[int, ...]
    start: int
    """Rows of the log before it."""
    rows: int


def parts(path: Path) -> list[Part]:
    """Return the log cut at row groups into parts of some 250,000 rows, each of one file."""
    found: list[Part] = []
    start = 0
    with _told(path):
        for file in _files(path):
            groups: list[int] = []
            rows = 0
            with _told(file):
                metadata = pa.parquet.read_metadata(file)
            for group in range(metadata.num_row_groups):
                groups.append(group)
                rows += metadata.row_group(group).num_rows
                last = group + 1 == metadata.num_row_groups
                if rows >= PART_ROWS or (last and rows):  # an empty file has no part of it
                    found.append(Part(file, tuple(groups), start, rows))
                    start += rows
                    groups, rows = [], 0
    return found


def has_column(path: Path, name: str) -> bool:
    with _told(path):
        return name in _schema(path).names


def slots(path: Path) -> Counter[str]:
    """Return how many rows each slot has; reads that column alone."""
    found: Counter[str] = Counter()
    with _told(path):
        if "slot" in _schema(path).names:
            for part in parts(path):
                for batch in _batches(part, ["slot"], BLOCK):
                    names = batch.column("slot").cast(pa.string()).fill_null("artwork")
                    for each in pa.compute.value_counts(names).to_pylist():
                        found[each["values"]] += each["counts"]
    return found


def times(
    path: Path, slot: str | None = None, of: Sequence[Part] | None = None
) -> Iterator[Ints]:  # fmt: skip
    """Yield when the rows happened (of some parts), microseconds, in blocks; reads little else."""
    with _told(path):
        schema = _schema(path)
        _columns(path, schema)
        wanted = ["occurred_at", *(["slot"] if "slot" in schema.names else [])]
        for part in parts(path) if of is None else of:
            for batch in _batches(part, wanted, BLOCK):
                column = batch.column("occurred_at").cast(REQUIRED["occurred_at"])
                found = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
                if slot is not None and len(wanted) > 1:
                    slots = batch.column("slot").cast(pa.string()).fill_null("artwork")
                    found = found[pa.compute.equal(slots, slot).to_numpy(zero_copy_only=False)]
                elif slot not in (None, "artwork"):
                    found = found[:0]
                yield found


def read(
    path: Path, slot: str | None = None, block_rows: int = BLOCK, *,
    of: Sequence[Part] | None = None, detail: Detail = "all",
) -> Iterator[ReplayBlock]:  # fmt: skip
    """Yield the log of a file or a folder of part files (in name order), only `slot` if given, or
    only some `parts`.

    Raises InvalidInput naming the first broken row and the rule.
    """
    with _told(path):
        columns = _columns(path, _schema(path))
        if detail == "all" and CLICKED not in columns:
            columns.append(CLICKED)
        if detail == "plain":
            columns = [name for name in columns if name in REQUIRED or name == "slot"]
        if detail == "no contexts":
            columns = [name for name in columns if name not in ("context", CLICKED)]
        some = parts(path) if of is None else of
        if not any(part.rows for part in some):
            raise InvalidInput(f"{path} holds no rows")
        for block in ahead(_blocks(path, some, columns, block_rows)):
            yield block if slot is None else _of_slot(block, slot)


def _blocks(
    path: Path, some: Sequence[Part], columns: list[str], rows: int
) -> Iterator[ReplayBlock]:
    for part in some:
        start = part.start
        for batch in _batches(part, columns, rows):
            yield block_of(path, batch, start)
            start += batch.num_rows


def _files(path: Path) -> list[Path]:
    """Return the log's files by name; those that begin with `.` or `_` are no parts of it."""
    if not path.exists():
        raise InvalidInput(f"{path} does not exist")
    if not path.is_dir():
        return [path]
    found = [
        file for file in sorted(path.rglob("*.parquet"))
        if not any(name.startswith((".", "_")) for name in file.relative_to(path).parts)
    ]  # fmt: skip
    if not found:
        raise InvalidInput(f"{path} holds no Parquet files (*.parquet)")
    return found


def _schema(path: Path) -> pa.Schema:
    """Return the columns of the log's first file; the others must have them, too."""
    return _schema_of(_files(path)[0])


def _schema_of(file: Path) -> pa.Schema:
    with _told(file):
        return pa.parquet.read_schema(file)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in words what is wrong with a file."""
    try:
        yield
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidInput(f"{path} is not a readable Parquet log: {error}") from error


def _batches(part: Part, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches that are not empty, decoded as they come: whole row groups, as a dataset reads
    them, took twice the memory."""
    metadata = pa.parquet.read_metadata(part.file)
    as_numbers = _repeating(metadata, part)
    with pa.parquet.ParquetFile(
        part.file, metadata=metadata, buffer_size=READ_AT_ONCE, pre_buffer=False,
        read_dictionary=as_numbers,
    ) as file:  # fmt: skip
        there = file.schema_arrow.names
        if not metadata.num_rows:
            return
        # Exports of earlier releases lack it, and a folder may hold both.
        columns = [name for name in columns if name in there or name != CLICKED]
        if missing := [name for name in columns if name not in there]:
            raise InvalidInput(
                f"{part.file} lacks the columns {missing}, which the log's other parts have"
            )
        _columns(part.file, file.schema_arrow)
        # The numbers mean something else in each row group.
        groups = [[group] for group in part.row_groups] if as_numbers else [list(part.row_groups)]
        for some in groups:
            for batch in file.iter_batches(batch_size=rows, columns=columns, row_groups=some):
                if batch.num_rows:
                    yield batch


def _repeating(metadata: Any, part: Part) -> list[str]:
    """Return the columns of texts that are few and come again, to be read as numbers: making every
    text anew takes most of the time of reading. None where row groups are so small that several
    make a block, unless the file has it so."""
    columns = [metadata.schema.column(i) for i in range(len(metadata.schema))]
    texts = [c.path for c in columns if c.physical_type == "BYTE_ARRAY"]
    schema = metadata.schema.to_arrow_schema()
    sets = schema.field("action_set").type if "action_set" in schema.names else pa.null()
    has_it_so = pa.types.is_list(sets) and pa.types.is_dictionary(sets.value_type)
    small = len(part.row_groups) > 1 and part.rows < len(part.row_groups) * SMALL
    if small and not has_it_so:
        return []
    return [path for path in texts if path.split(".")[0] in REPEATING]


def _columns(path: Path, schema: pa.Schema) -> list[str]:
    if missing := [name for name in REQUIRED if name not in schema.names]:
        raise InvalidInput(f"{path} lacks the columns {missing}; required are {list(REQUIRED)}")
    zone = schema.field("occurred_at").type
    if not (pa.types.is_timestamp(zone) and zone.tz is not None):
        raise InvalidInput(f"{path}: occurred_at is {zone}; it must be a timestamp with time zone")
    targets = [name for name in schema.names if name.startswith(TARGET_PREFIX)]
    for name in ("propensity", "reward"):
        if not _is_number(schema.field(name).type):
            raise InvalidInput(f"{path}: {name} is {schema.field(name).type}; it must be a number")
    if CLICKED in schema.names:
        kind = schema.field(CLICKED).type
        if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise InvalidInput(f"{path}: {CLICKED} is {kind}; it must be boolean")
    return [*REQUIRED, *(name for name in OPTIONAL if name in schema.names), *targets]


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    )


def _of_slot(block: ReplayBlock, slot: str) -> ReplayBlock:
    per_set = np.array([s.slot == slot for s in block.action_sets], bool)
    return block if per_set.all() else block.take(per_set[block.set_of_row])


def _clicked(block: ReplayBlock) -> Floats:
    return np.full(len(block), np.nan) if block.clicked is None else block.clicked


def _table(block: ReplayBlock, schema: pa.Schema) -> pa.Table:
    sets = [block.action_sets[i] for i in block.set_of_row]
    columns: dict[str, Any] = {
        "decision_id": block.decision_ids,
        "occurred_at": pa.array(block.occurred_at).cast(schema.field("occurred_at").type),
        "member_id": block.member_ids,
        "title_id": [s.title_id for s in sets],
        "action_set": [list(s.variant_ids) for s in sets],
        "variant_id": [s.variant_ids[i] for s, i in zip(sets, block.chosen, strict=True)],
        "propensity": block.propensity,
        "reward": block.reward,
        "slot": [s.slot for s in sets],
        "context": [msgspec.json.encode(c).decode() for c in block.contexts],
        "cell": block.cells,
        "clicked": pa.array(_clicked(block), pa.float64(), from_pandas=True).cast(pa.bool_()),
    }
    return pa.table(columns, schema=schema)
