"""A log read by a Dask cluster gives what it gives here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from artwork_bandit.errors import InvalidInput
from artwork_bandit.evaluation.report import as_json
from artwork_bandit.operations import reading
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.judge import judge
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import parquet, registry, replay
from artwork_bandit.store.window import Window
from tests.evaluation.test_evaluate import assert_same
from tests.simulated import Simulation
from tests.test_cli import log_table

ARTWORK = SLOTS["artwork"]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers, processes of their own."""
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as started:
        yield started.scheduler_address


def exported(simulation: Simulation, folder: Path, parts: int) -> Path:
    """Return a folder of the log's part files, the later rows first."""
    store = simulation.service.store
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    parquet.write(folder / "whole", replay.blocks(store, Window()))
    table = pq.read_table(folder / "whole")
    (folder / "log").mkdir()
    size = -(-len(table) // parts)
    for i in range(parts):
        name = f"part-{parts - i}.parquet"
        pq.write_table(table.slice(i * size, size), folder / "log" / name, row_group_size=700)
    return folder / "log"


def test_a_cluster_trains_and_judges_to_the_same_digits(
    simulation: Simulation, scheduler: str, tmp_path: Path
) -> None:
    simulation.visits(500)
    store, settings, now = simulation.service.store, simulation.settings, simulation.later()
    folder = exported(simulation, tmp_path, 3)
    bundles = []
    for who in (None, scheduler):
        version = retrain(store, ARTWORK, settings, now, log=folder, scheduler=who).version
        with store.read() as connection:
            bundles.append((version, registry.get(connection, version).sha256))
    assert bundles[0][1] == bundles[1][1]
    names = [f"model:{bundles[0][0]}", "uniform", "best-single"]
    source = ReplaySource.of(store, folder, "artwork")
    for by in (None, "taste", "community", "position"):
        told: dict[str | None, list[int]] = {None: [], scheduler: []}
        found: dict[str | None, Any] = {}
        for who, rows in told.items():
            report, _ = judge(source, names, by=by, progress=rows.append, scheduler=who)
            found[who] = msgspec.to_builtins(as_json(report, "", 1, []))
        assert found[scheduler]["log"]["rows"] > 1_000
        assert_same(found[scheduler], found[None])
        assert told[scheduler][-1] == told[None][-1]
        if by == "community":
            segments = found[None]["targets"]["uniform"]["segments"]
            assert len(segments) > 2
            assert all(s["name"].partition(":")[0].isdigit() for s in segments)
        if by == "position":
            segments = found[None]["targets"]["uniform"]["segments"]
            assert {s["name"] for s in segments} >= {"1", "2", "3"}


def test_what_a_cluster_cannot_do_is_said(
    simulation: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CONNECT_SECONDS", 1)
    store = simulation.service.store
    source = ReplaySource.of(store, None, "artwork")
    with pytest.raises(InvalidInput, match="export"):
        judge(source, ["uniform"], scheduler="local")
    with pytest.raises(InvalidInput, match="no model has learned communities"):
        judge(source, ["uniform"], by="community")
    simulation.visits(20)
    folder = exported(simulation, tmp_path, 1)
    source = ReplaySource.of(None, folder, "artwork")
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        with pytest.raises(InvalidInput, match="no Dask scheduler answers"):
            judge(source, ["uniform"], scheduler=address)


def test_a_broken_row_is_named_by_its_number_in_the_log(scheduler: str, tmp_path: Path) -> None:
    whole = log_table(4_000)
    propensity = whole["propensity"].to_pylist()
    propensity[2_503] = 1.5
    at = whole.schema.get_field_index("propensity")
    whole = whole.set_column(at, "propensity", [propensity])
    for i in range(2):
        name = tmp_path / f"part-{i}.parquet"
        pq.write_table(whole.slice(i * 2_000, 2_000), name, row_group_size=700)
    source = ReplaySource.of(None, tmp_path, "artwork")
    for who in (None, scheduler):
        with pytest.raises(InvalidInput, match="row 2504: propensity"):
            judge(source, ["uniform"], scheduler=who)
