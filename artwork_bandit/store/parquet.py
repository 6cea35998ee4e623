"""The replay log as Parquet: what `export` writes, and `evaluate`, `train` and `import-log` read.

Columns as in the README ("The replay log as Parquet"). Files are read in blocks; every broken
row is named by its number and the rule it breaks, before anything is done with any row.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet

from artwork_bandit.domain import ActionSet, Context, Floats, Ints, ReplayBlock
from artwork_bandit.errors import InvalidInput

BLOCK = 65_536
PART_ROWS = 250_000
READ_AT_ONCE = 1 << 20
"""Bytes of a column read at once."""
REQUIRED = {
    "decision_id": pa.string(),
    "occurred_at": pa.timestamp("us", "UTC"),
    "member_id": pa.string(),
    "title_id": pa.string(),
    "action_set": pa.list_(pa.string()),
    "variant_id": pa.string(),
    "propensity": pa.float64(),
    "reward": pa.float64(),
}
OPTIONAL = {
    "slot": pa.string(),
    "context": pa.string(),
    "cell": pa.string(),
    "logging_pmf": pa.list_(pa.float64()),
    "q_hat": pa.list_(pa.float64()),
}
TARGET_PREFIX = "target:"
_context = msgspec.json.Decoder(Context)


def write(path: Path, blocks: Iterable[ReplayBlock]) -> int:
    """Write blocks to one file, whole or not at all; return the number of rows."""
    partial = path.with_name(path.name + ".partial")
    schema = pa.schema(
        [*REQUIRED.items(), *((k, OPTIONAL[k]) for k in ("slot", "context", "cell"))]
    )
    rows = 0
    try:
        with pa.parquet.ParquetWriter(partial, schema) as writer:
            for block in blocks:
                writer.write_table(_table(block, schema))
                rows += len(block)
        os.replace(partial, path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return rows


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
        for file in _dataset(path).files:
            groups: list[int] = []
            rows = 0
            metadata = pa.parquet.read_metadata(file)
            for group in range(metadata.num_row_groups):
                groups.append(group)
                rows += metadata.row_group(group).num_rows
                if rows >= PART_ROWS or group + 1 == metadata.num_row_groups:
                    found.append(Part(Path(file), tuple(groups), start, rows))
                    start += rows
                    groups, rows = [], 0
    return found


def has_column(path: Path, name: str) -> bool:
    with _told(path):
        return name in _dataset(path).schema.names


def times(path: Path, slot: str | None = None) -> Iterator[Ints]:
    """Yield when the rows happened, microseconds, in blocks; reads little else."""
    with _told(path):
        dataset = _dataset(path)
        _columns(path, dataset.schema)
        wanted = ["occurred_at", *(["slot"] if "slot" in dataset.schema.names else [])]
        for part in parts(path):
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
    of: Sequence[Part] | None = None, plain: bool = False,
) -> Iterator[ReplayBlock]:  # fmt: skip
    """Yield the log of a file or a folder of part files (in name order), only `slot` if given, or
    only some `parts`; `plain` leaves out contexts, cells and what is given per variant.

    Raises InvalidInput naming the first broken row and the rule.
    """
    with _told(path):
        columns = _columns(path, _dataset(path).schema)
        if plain:
            columns = [name for name in columns if name in REQUIRED or name == "slot"]
        some = parts(path) if of is None else of
        if not any(part.rows for part in some):
            raise InvalidInput(f"{path} holds no rows")
        for block in _ahead(_blocks(path, some, columns, block_rows)):
            yield block if slot is None else _of_slot(block, slot)


def _blocks(
    path: Path, some: Sequence[Part], columns: list[str], rows: int
) -> Iterator[ReplayBlock]:
    for part in some:
        start = part.start
        for batch in _batches(part, columns, rows):
            yield _block(path, batch, start)
            start += batch.num_rows


def _dataset(path: Path) -> Any:
    if not path.exists():
        raise InvalidInput(f"{path} does not exist")
    if path.is_dir() and not any(path.rglob("*.parquet")):
        raise InvalidInput(f"{path} holds no Parquet files (*.parquet)")
    return pa.dataset.dataset(path, format="parquet")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in words what is wrong with a file."""
    try:
        yield
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidInput(f"{path} is not a readable Parquet log: {error}") from error


def _ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Yield the items, the next one made in a thread meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


def _batches(part: Part, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches that are not empty, decoded as they come: whole row groups, as a dataset reads
    them, took twice the memory."""
    with pa.parquet.ParquetFile(part.file, buffer_size=READ_AT_ONCE, pre_buffer=False) as file:
        if missing := [name for name in columns if name not in file.schema_arrow.names]:
            raise InvalidInput(
                f"{part.file} lacks the columns {missing}, which the log's other parts have"
            )
        groups = list(part.row_groups)
        for batch in file.iter_batches(batch_size=rows, columns=columns, row_groups=groups):
            if batch.num_rows:
                yield batch


def _columns(path: Path, schema: pa.Schema) -> list[str]:
    if missing := [name for name in REQUIRED if name not in schema.names]:
        raise InvalidInput(f"{path} lacks the columns {missing}; required are {list(REQUIRED)}")
    zone = schema.field("occurred_at").type
    if not (pa.types.is_timestamp(zone) and zone.tz is not None):
        raise InvalidInput(f"{path}: occurred_at is {zone}; it must be a timestamp with time zone")
    targets = [name for name in schema.names if name.startswith(TARGET_PREFIX)]
    return [*REQUIRED, *(name for name in OPTIONAL if name in schema.names), *targets]


def _of_slot(block: ReplayBlock, slot: str) -> ReplayBlock:
    per_set = np.array([s.slot == slot for s in block.action_sets], bool)
    return block if per_set.all() else block.take(per_set[block.set_of_row])


def _block(path: Path, batch: pa.RecordBatch, start: int) -> ReplayBlock:
    def broken(rows: Any, rule: str) -> None:
        at = np.flatnonzero(np.asarray(rows))
        if len(at):
            more = f" (and {len(at) - 1} rows soon after it)" if len(at) > 1 else ""
            raise InvalidInput(f"{path}, row {start + int(at[0]) + 1}{more}: {rule}")

    def column(name: str) -> Any:
        kind = (REQUIRED | OPTIONAL).get(name, pa.list_(pa.float64()))
        return batch.column(name).cast(kind)

    for name in REQUIRED:
        broken(batch.column(name).is_null().to_numpy(zero_copy_only=False), f"{name} is missing")
    lists = column("action_set")
    sizes = np.diff(lists.offsets.to_numpy()).astype(np.int64)
    broken(sizes == 0, "action_set is empty")
    broken(_any_null(lists.flatten(), sizes), "action_set names no variant")
    has = set(batch.schema.names)
    slots = column("slot").fill_null("artwork") if "slot" in has else None
    names = lists.flatten().dictionary_encode()
    sets, set_of_row = _action_sets(names, sizes, column("title_id"), slots)
    duplicated = np.array([len(set(s.variant_ids)) < len(s.variant_ids) for s in sets], bool)
    broken(duplicated[set_of_row], "action_set names a variant twice")
    chosen = _places(names, sizes, column("variant_id"))
    broken(chosen < 0, "variant_id is not in action_set")
    propensity = column("propensity").to_numpy(zero_copy_only=False)
    broken(~((propensity > 0) & (propensity <= 1)), "propensity is not in (0, 1]")
    reward = column("reward").to_numpy(zero_copy_only=False)
    broken(~np.isfinite(reward), "reward is not finite")

    def per_variant(name: str, is_pmf: bool) -> Floats:
        values = column(name)
        broken(values.is_null().to_numpy(zero_copy_only=False), f"{name} is missing")
        lengths = np.diff(values.offsets.to_numpy())
        broken(lengths != sizes, f"{name} is not as long as action_set")
        flat: Floats = values.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        bad = ~np.isfinite(flat) | (is_pmf & ((flat < 0) | (flat > 1)))
        broken(np.bincount(owner, bad, len(sizes)) > 0, f"{name} has a value not allowed")
        if is_pmf:
            sums = np.bincount(owner, flat, len(sizes))
            broken(np.abs(sums - 1) > 1e-6, f"{name} does not sum to 1")
        return flat

    return ReplayBlock(
        decision_ids=column("decision_id").to_numpy(zero_copy_only=False),
        occurred_at=column("occurred_at").cast(pa.int64()).to_numpy(zero_copy_only=False),
        member_ids=column("member_id").to_numpy(zero_copy_only=False),
        action_sets=sets,
        set_of_row=set_of_row,
        chosen=chosen,
        propensity=propensity,
        reward=reward,
        contexts=_contexts(
            path, column("context") if "context" in has else None, len(sizes), start
        ),
        cells=column("cell").to_numpy(zero_copy_only=False)
        if "cell" in has
        else np.full(len(sizes), None, object),
        logging_pmf=per_variant("logging_pmf", True) if "logging_pmf" in has else None,
        targets={
            name.removeprefix(TARGET_PREFIX): per_variant(name, True)
            for name in batch.schema.names
            if name.startswith(TARGET_PREFIX)
        },
        q_hat=per_variant("q_hat", False) if "q_hat" in has else None,
    )


def _any_null(flat: pa.Array, sizes: Ints) -> Any:
    owner = np.repeat(np.arange(len(sizes)), sizes)
    nulls = flat.is_null().to_numpy(zero_copy_only=False)
    return np.bincount(owner, nulls, len(sizes)) > 0


def _action_sets(
    names: pa.DictionaryArray, sizes: Ints, titles: pa.Array, slots: pa.Array | None
) -> tuple[tuple[ActionSet, ...], Ints]:
    """Return the distinct action sets, in order of appearance, and each row's index among them.

    Rows are compared as rows of numbers, those of one size together.
    """
    codes, words = _codes(names)
    title_codes, title_words = _codes(titles.dictionary_encode())
    slot_codes, slot_words = (
        (np.zeros(len(sizes), np.int64), ["artwork"])
        if slots is None
        else _codes(slots.dictionary_encode())
    )
    starts = np.cumsum(sizes) - sizes
    set_of_row = np.empty(len(sizes), np.int64)
    firsts: list[int] = []
    for size in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == size)
        listed = codes[starts[rows][:, None] + np.arange(size)]
        table = np.column_stack([title_codes[rows], slot_codes[rows], listed])
        first, place = _distinct(table)
        set_of_row[rows] = len(firsts) + place
        firsts += rows[first].tolist()
    order = np.argsort(firsts)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    sets = []
    for row in np.array(firsts, np.int64)[order].tolist():
        listed = codes[starts[row] : starts[row] + sizes[row]]
        # A log from elsewhere knows variants by name only: no revisions.
        sets.append(
            ActionSet(
                action_set_id=0, title_id=title_words[title_codes[row]],
                slot=slot_words[slot_codes[row]], revision_ids=(),
                variant_ids=tuple(words[c] for c in listed.tolist()),
            )
        )  # fmt: skip
    return tuple(sets), rank[set_of_row]


def _distinct(table: Ints) -> tuple[Ints, Ints]:
    """Return (where each distinct row is first, each row's place among them).

    Rows are told apart by a hash, which is then checked.
    """
    factors = np.random.default_rng(1).integers(1, 2**62, table.shape[1], np.int64) | 1
    hashed = (table * factors).sum(axis=1)
    _, first, place = np.unique(hashed, return_index=True, return_inverse=True)
    if not np.array_equal(table[first[place]], table):
        _, first, place = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


def _places(names: pa.DictionaryArray, sizes: Ints, shown: pa.Array) -> Ints:
    """Return the place of what was shown in each row's list, -1 where it is not there."""
    found = pa.compute.index_in(shown, value_set=names.dictionary).fill_null(-1)
    code = found.to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    at = np.flatnonzero(_codes(names)[0] == code[owner])[::-1]
    places = np.full(len(sizes), -1, np.int64)
    places[owner[at]] = at - (np.cumsum(sizes) - sizes)[owner[at]]
    return places


def _codes(encoded: pa.DictionaryArray) -> tuple[Ints, list[str]]:
    numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers, encoded.dictionary.to_pylist()


def _contexts(path: Path, column: pa.Array | None, rows: int, start: int) -> tuple[Context, ...]:
    if column is None:
        return (Context(),) * rows
    contexts = []
    for at, text in enumerate(column.to_pylist()):
        try:
            contexts.append(Context() if not text else _context.decode(text))
        except msgspec.DecodeError as error:
            raise InvalidInput(f"{path}, row {start + at + 1}: context {error}") from error
    return tuple(contexts)


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
    }
    return pa.table(columns, schema=schema)
