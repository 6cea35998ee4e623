"""Logs in Parquet, as other tools write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artwork_bandit.domain import ReplayBlock, microseconds
from artwork_bandit.errors import InvalidInput
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.store import parquet

ROWS = 40_000
NUMBERS = pa.list_(pa.dictionary(pa.int32(), pa.string()))


def log(titles: int, sets: pa.DataType | None = None) -> pa.Table:
    """Return a log whose titles have one to four variants."""
    of = np.random.default_rng(1).integers(titles, size=ROWS).tolist()
    lists = [[f"title-{t}-variant-{v}" for v in range(1 + t % 4)] for t in of]
    return pa.table(
        {
            "decision_id": [f"d{i}" for i in range(ROWS)],
            "occurred_at": pa.array(
                1_750_000_000_000_000 + np.arange(ROWS), pa.timestamp("us", "UTC")
            ),
            "member_id": [f"m{i % 99}" for i in range(ROWS)],
            "title_id": [f"title-{t}" for t in of],
            "action_set": pa.array(lists, sets),
            "variant_id": [some[-1] for some in lists],
            "propensity": np.full(ROWS, 0.25),
            "reward": np.zeros(ROWS),
        }
    )


@pytest.mark.parametrize(
    ("titles", "row_group", "sets"),
    [
        pytest.param(50, ROWS, None, id="few texts"),
        pytest.param(30_000, ROWS, None, id="more texts than the file's dictionary holds"),
        pytest.param(50, 17_000, None, id="several row groups"),
        pytest.param(50, 999, None, id="small row groups"),
        pytest.param(50, ROWS, NUMBERS, id="texts as numbers"),
        pytest.param(50, 999, NUMBERS, id="texts as numbers in small row groups"),
    ],
)
def test_a_log_is_read_as_it_was_written(
    tmp_path: Path, titles: int, row_group: int, sets: pa.DataType | None
) -> None:
    table = log(titles, sets)
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=row_group)
    found = []
    for block in parquet.read(tmp_path / "log.parquet", block_rows=16_384):
        for of, chosen in zip(block.set_of_row.tolist(), block.chosen.tolist(), strict=True):
            action_set = block.action_sets[of]
            found.append((action_set.title_id, action_set.variant_ids, chosen))
    lists = table["action_set"].to_pylist()
    assert found == [
        (title, tuple(some), len(some) - 1)
        for title, some in zip(table["title_id"].to_pylist(), lists, strict=True)
    ]


def test_empty_part_files_are_no_parts(tmp_path: Path) -> None:
    table = log(3)
    pq.write_table(table, tmp_path / "b.parquet")
    for name in "ac":
        pq.write_table(table.slice(0, 0), tmp_path / f"{name}.parquet")
    (part,) = parquet.parts(tmp_path)
    assert (part.file.name, part.start, part.rows) == ("b.parquet", 0, ROWS)
    assert sum(len(block) for block in parquet.read(tmp_path)) == ROWS
    with pytest.raises(InvalidInput, match="holds no rows"):
        list(parquet.read(tmp_path / "a.parquet"))


@pytest.mark.parametrize("sorted_at_once", [1_000_000, 10])
@pytest.mark.parametrize("spread", [1, 1_000, 10**10])
def test_when_a_share_of_a_log_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sorted_at_once: int, spread: int
) -> None:
    """Found with few times in memory, as if all were sorted."""
    monkeypatch.setattr("artwork_bandit.operations.file_source.SORTED", sorted_at_once)
    times = np.random.default_rng(1).integers(spread, size=ROWS) + 1_700_000_000_000_000
    column = pa.array(times, pa.timestamp("us", "UTC"))
    table = log(3).set_column(1, "occurred_at", column)
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=9_999)
    source, in_order = ReplaySource.of(None, tmp_path, "artwork"), np.sort(times)
    for share in (0.0, 0.1, 0.75, 0.99999):
        assert microseconds(source.quantile(share)) == in_order[int(ROWS * share)]
    newest = source.newest(1_000)
    assert newest.rows() == int((times >= in_order[-1_000]).sum())
    assert source.newest(ROWS) is source


def test_of_two_who_write_the_same_file_one_is_there_whole(tmp_path: Path) -> None:
    pq.write_table(log(50), tmp_path / "log.parquet")
    blocks = list(parquet.read(tmp_path / "log.parquet", block_rows=9_000))
    path = tmp_path / "out.parquet"

    def slowly() -> Iterator[ReplayBlock]:
        for i, block in enumerate(blocks):
            yield block
            if i == 1:
                assert parquet.write(path, blocks[:2]) == 18_000
                assert pq.read_table(path).num_rows == 18_000

    assert parquet.write(path, slowly()) == ROWS
    assert pq.read_table(path).num_rows == ROWS
    assert sorted(f.name for f in tmp_path.iterdir()) == ["log.parquet", "out.parquet"]


def test_clicks_are_read_as_they_were_written_where_they_are_known(tmp_path: Path) -> None:
    table = log(3).slice(0, 5)
    found = [True, False, None, True, None]
    pq.write_table(table.append_column("clicked", pa.array(found, pa.bool_())), tmp_path / "log")
    (block,) = parquet.read(tmp_path / "log")
    assert block.clicked is not None
    assert np.array_equal(block.clicked, [1, 0, np.nan, 1, np.nan], equal_nan=True)
    assert parquet.write(tmp_path / "again", [block]) == 5
    assert pq.read_table(tmp_path / "again")["clicked"].to_pylist() == found
    pq.write_table(table, tmp_path / "without")
    (block,) = parquet.read(tmp_path / "without")
    assert block.clicked is None
    parquet.write(tmp_path / "unknown", [block])
    assert pq.read_table(tmp_path / "unknown")["clicked"].to_pylist() == [None] * 5


def test_clicks_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    table = log(3).slice(0, 3)
    for values, words in (
        ([0, 1, -1], "row 3: clicked is neither true"), (["0", "1", "1"], "clicked is string"),
        ([0.0, 1.0, float("nan")], "clicked is double; it must be boolean"),
    ):  # fmt: skip
        pq.write_table(table.append_column("clicked", pa.array(values)), tmp_path / "log")
        with pytest.raises(InvalidInput, match=words):
            list(parquet.read(tmp_path / "log"))


@pytest.mark.parametrize("knows", ["a.parquet", "b.parquet"])
def test_a_folder_may_hold_exports_with_and_without_clicks(tmp_path: Path, knows: str) -> None:
    for name in ("a.parquet", "b.parquet"):
        table = log(3).slice(0, 3)
        if name == knows:
            table = table.append_column("clicked", pa.array([True, False, None]))
        pq.write_table(table, tmp_path / name)
    found = [block.clicked is not None for block in parquet.read(tmp_path)]
    assert found == [name == knows for name in ("a.parquet", "b.parquet")]


def test_a_propensity_that_is_text_is_refused(tmp_path: Path) -> None:
    table = log(3)
    text = table["propensity"].cast(pa.string())
    at = table.schema.get_field_index("propensity")
    pq.write_table(table.set_column(at, "propensity", text), tmp_path / "log.parquet")
    with pytest.raises(InvalidInput, match="propensity is string; it must be a number"):
        list(parquet.read(tmp_path / "log.parquet"))


def test_a_missing_name_in_an_action_set_is_named(tmp_path: Path) -> None:
    table = log(3)
    lists = table["action_set"].to_pylist()
    lists[11] = [None]
    at = table.schema.get_field_index("action_set")
    pq.write_table(table.set_column(at, "action_set", pa.array(lists)), tmp_path / "log.parquet")
    with pytest.raises(InvalidInput, match="row 12: action_set names no variant"):
        list(parquet.read(tmp_path / "log.parquet"))


def said(tmp_path: Path, **columns: object) -> str:
    """Return what reading a log with other columns says."""
    table = log(3)
    for name, column in columns.items():
        if name in table.schema.names:
            table = table.drop_columns(name)
        table = table.append_column(name, pa.array(column))
    pq.write_table(table, tmp_path / "broken.parquet")
    with pytest.raises(InvalidInput) as error:
        list(parquet.read(tmp_path / "broken.parquet"))
    return str(error.value)


def test_a_logging_pmf_that_does_not_say_what_the_propensity_says_is_refused(
    tmp_path: Path,
) -> None:
    sizes = [len(some) for some in log(3)["action_set"].to_pylist()]
    even = [[1 / n] * n for n in sizes]
    first = next(i for i, n in enumerate(sizes) if n != 4) + 1
    message = said(tmp_path, logging_pmf=even)
    assert f"row {first}" in message
    assert "propensity is not what logging_pmf says of the variant that was shown" in message


@pytest.mark.parametrize("column", ["propensity", "reward", "q_hat"])
def test_numbers_that_only_a_mistake_makes_are_refused(tmp_path: Path, column: str) -> None:
    values: list[object] = [0.25] * ROWS
    if column == "q_hat":
        values = [[0.1] * len(some) for some in log(3)["action_set"].to_pylist()]
    values[7] = {"propensity": 1e-160, "reward": -1e200}.get(column) or [1e308] * len(values[7])
    assert "row 8" in said(tmp_path, **{column: values})


@pytest.mark.parametrize(
    ("column", "values"),
    [
        pytest.param("occurred_at", pa.timestamp("us"), id="no time zone"),
        pytest.param("propensity", pa.string(), id="text"),
        pytest.param("reward", pa.bool_(), id="yes and no"),
    ],
)
def test_every_part_of_a_log_has_the_types_it_needs(
    tmp_path: Path, column: str, values: pa.DataType
) -> None:
    table = log(3)
    pq.write_table(table, tmp_path / "1.parquet")
    at = table.schema.get_field_index(column)
    plain = pa.array(table[column].to_numpy())
    pq.write_table(table.set_column(at, column, plain.cast(values)), tmp_path / "2.parquet")
    with pytest.raises(InvalidInput, match=rf"2\.parquet: {column} is"):
        list(parquet.read(tmp_path))
