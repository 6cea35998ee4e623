"""A batch of a Parquet log as a block: its columns checked, its action sets told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute

from artwork_bandit.domain import ActionSet, Context, Contexts, Floats, Ints, ReplayBlock
from artwork_bandit.errors import InvalidInput

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
    "clicked": pa.bool_(),
    "logging_pmf": pa.list_(pa.float64()),
    "q_hat": pa.list_(pa.float64()),
}
TARGET_PREFIX = "target:"
SMALLEST, LARGEST = 1e-12, 1e9
"""Propensities, and sizes of rewards and predictions, beyond which numbers are taken for broken."""
APART = 1e-3
"""Share of a propensity by which the logging pmf may differ from it: pmfs are often rounded."""
_context = msgspec.json.Decoder(Context)


def block_of(path: Path, batch: pa.RecordBatch, start: int) -> ReplayBlock:
    """Return the block; `start` is the number of rows before it.

    Raises InvalidInput naming the first broken row and the rule.
    """

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
    lists = batch.column("action_set")
    if not (pa.types.is_list(lists.type) and pa.types.is_dictionary(lists.type.value_type)):
        lists = column("action_set")
    sizes = np.diff(lists.offsets.to_numpy()).astype(np.int64)
    broken(sizes == 0, "action_set is empty")
    names = _encoded(lists.flatten())
    if names.null_count:
        broken(_any_null(names, sizes), "action_set names no variant")
    has = set(batch.schema.names)
    slots = _encoded(column("slot").fill_null("artwork")) if "slot" in has else None
    sets, set_of_row = _action_sets(names, sizes, _encoded(batch.column("title_id")), slots)
    duplicated = np.array([len(set(s.variant_ids)) < len(s.variant_ids) for s in sets], bool)
    broken(duplicated[set_of_row], "action_set names a variant twice")
    chosen = _places(names, sizes, _encoded(batch.column("variant_id")))
    broken(chosen < 0, "variant_id is not in action_set")
    propensity = column("propensity").to_numpy(zero_copy_only=False)
    broken(~((propensity > 0) & (propensity <= 1)), "propensity is not in (0, 1]")
    broken(propensity < SMALLEST, f"propensity is below {SMALLEST:g}: nothing was drawn with that")
    reward = column("reward").to_numpy(zero_copy_only=False)
    broken(~np.isfinite(reward), "reward is not finite")
    broken(np.abs(reward) > LARGEST, f"reward is beyond {LARGEST:g}")

    def per_variant(name: str, is_pmf: bool) -> Floats:
        values = column(name)
        broken(values.is_null().to_numpy(zero_copy_only=False), f"{name} is missing")
        lengths = np.diff(values.offsets.to_numpy())
        broken(lengths != sizes, f"{name} is not as long as action_set")
        flat: Floats = values.flatten().to_numpy(zero_copy_only=False)
        fine = (flat >= 0) & (flat <= 1) if is_pmf else np.abs(flat) <= LARGEST
        starts = np.cumsum(sizes) - sizes
        if not fine.all():
            broken(~np.logical_and.reduceat(fine, starts), f"{name} has a value not allowed")
        if is_pmf:
            broken(np.abs(np.add.reduceat(flat, starts) - 1) > 1e-6, f"{name} does not sum to 1")
        return flat

    logging_pmf = per_variant("logging_pmf", True) if "logging_pmf" in has else None
    if logging_pmf is not None:
        of_shown = logging_pmf[np.cumsum(sizes) - sizes + chosen]
        broken(
            np.abs(of_shown - propensity) > APART * propensity + 1e-9,
            "propensity is not what logging_pmf says of the variant that was shown",
        )
    clicked = None
    if "clicked" in has:
        clicked = batch.column("clicked").cast(pa.float64()).to_numpy(zero_copy_only=False)
        wrong = ~np.isnan(clicked) & (clicked != 0) & (clicked != 1)
        broken(wrong, "clicked is neither true (1) nor false (0); leave it out where unknown")
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
        clicked=clicked,
        logging_pmf=logging_pmf,
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


def _encoded(texts: pa.Array) -> pa.DictionaryArray:
    """Return texts as numbers of different texts."""
    kind = texts.type
    encoded = pa.types.is_dictionary(kind) and kind.value_type == pa.string()
    if encoded and len(texts.dictionary.unique()) == len(texts.dictionary):
        return texts
    return texts.cast(pa.string()).dictionary_encode()


def _action_sets(
    names: pa.DictionaryArray, sizes: Ints, titles: pa.DictionaryArray,
    slots: pa.DictionaryArray | None,
) -> tuple[tuple[ActionSet, ...], Ints]:  # fmt: skip
    """Return the distinct action sets, in order of appearance, and each row's index among them.

    Rows are compared as rows of numbers, those of one size together.
    """
    codes, words = _codes(names)
    title_codes, title_words = _codes(titles)
    slot_codes, slot_words = (
        (np.zeros(len(sizes), np.int64), ["artwork"]) if slots is None else _codes(slots)
    )
    starts = np.cumsum(sizes) - sizes
    set_of_row = np.empty(len(sizes), np.int64)
    firsts: list[int] = []
    for size in np.flatnonzero(np.bincount(sizes)).tolist():
        rows = np.flatnonzero(sizes == size)
        places = (codes[starts[rows] + i] for i in range(size))
        first, place = _distinct([title_codes[rows], slot_codes[rows], *places])
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


def _distinct(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return (where each distinct row of the columns is first, each row's place among them).

    Rows are told apart by a hash, which is then checked.
    """
    factors = np.random.default_rng(1).integers(1, 2**62, len(columns), np.int64) | 1
    hashed = np.zeros(len(columns[0]), np.int64)
    for column, factor in zip(columns, factors, strict=True):
        hashed += column * factor
    _, first, place = np.unique(hashed, return_index=True, return_inverse=True)
    if not all(np.array_equal(column[first[place]], column) for column in columns):
        table = np.column_stack(columns)
        _, first, place = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


def _places(names: pa.DictionaryArray, sizes: Ints, shown: pa.DictionaryArray) -> Ints:
    """Return the place of what was shown in each row's list, -1 where it is not there."""
    among = pa.compute.index_in(shown.dictionary, value_set=names.dictionary).fill_null(-1)
    code = among.to_numpy(zero_copy_only=False)[_codes(shown)[0]]
    found = _codes(names)[0] == np.repeat(code, sizes)
    at = np.flatnonzero(found)[::-1]
    starts = np.cumsum(sizes) - sizes
    owner = np.searchsorted(starts, at, "right") - 1
    places = np.full(len(sizes), -1, np.int64)
    places[owner] = at - starts[owner]
    return places


def _codes(encoded: pa.DictionaryArray) -> tuple[Ints, list[str]]:
    numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers, encoded.dictionary.to_pylist()


def _contexts(path: Path, column: pa.Array | None, rows: int, start: int) -> Contexts:
    if column is None:
        return Contexts.unknown(rows)
    # Rows of one page share a context: each is decoded once.
    texts = column.dictionary_encode()
    codes = texts.indices.fill_null(len(texts.dictionary)).to_numpy(zero_copy_only=False)
    distinct = []
    for code, text in enumerate([*texts.dictionary.to_pylist(), ""]):
        try:
            distinct.append(_context.decode(text) if text else Context())
        except msgspec.DecodeError as error:
            row = start + int(np.argmax(codes == code)) + 1
            raise InvalidInput(f"{path}, row {row}: context {error}") from error
    return Contexts(distinct, codes.astype(np.int64))
