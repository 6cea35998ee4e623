"""A log that another process reads is the log that this one reads."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from dataclasses import replace

import numpy as np
import psutil
import pytest
import sqlalchemy as sa

from artwork_bandit.domain import ReplayBlock
from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.operations import reading
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import arrays, registry, replay
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import rewards
from artwork_bandit.store.window import Window
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]
COLUMNS = ("decision_ids", "member_ids", "occurred_at", "chosen", "propensity", "reward", "cells")


def readers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [c for c in children if any("arrow_reader" in part for part in c.cmdline())]


def rows(blocks: list[ReplayBlock]) -> list[tuple[object, ...]]:
    return [
        (*row, block.action_sets[of].variant_ids, context)
        for block in blocks
        for *row, of, context in zip(
            *(getattr(block, name).tolist() for name in COLUMNS), block.set_of_row.tolist(),
            block.contexts, strict=True,
        )
    ]  # fmt: skip


def test_another_process_reads_the_same(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.service.store
    simulation.visits(300)
    now = simulation.later()
    join_rewards(store, ARTWORK, simulation.settings, now)
    with store.read() as connection:
        found = replay.span(connection, Window())
    assert found is not None
    _, first, last = found
    middle = first + (last - first) / 2
    windows = [
        Window(), Window(slot="trailer"), Window(since=middle), Window(until=middle),
        Window(settled_by=now, rule=ARTWORK.reward),
    ]  # fmt: skip
    here = [rows(list(replay.blocks(store, window, 64))) for window in windows]
    assert len(here[0]) > 200
    assert here[1] == []
    monkeypatch.setattr(arrays, "LARGE", 0)
    there = [rows(list(replay.blocks(store, window, 64))) for window in windows]
    assert there == here
    assert readers() == []


def test_who_has_had_enough_leaves_no_process(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation.visits(100)
    store = simulation.service.store
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    monkeypatch.setattr(arrays, "LARGE", 0)
    some = arrays.pages(store, sa.select(rewards.c.request_id), [rewards.c.request_id], 10)
    assert len(next(some)[0]) == 10
    if store.dialect == "sqlite":
        assert len(readers()) == 1
    some.close()
    assert readers() == []


def test_a_file_that_cannot_be_read_is_said_to_be_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "LARGE", 0)
    missing = sa.table("missing", sa.column("x"))
    with pytest.raises(StoreUnavailable, match="missing"):
        list(arrays.pages(store, sa.select(missing.c.x), [missing.c.x], 10))


def test_texts_of_any_kind_are_texts_in_a_query(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "LARGE", 0)
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for name in ("it's", 'a "quote"', "x'; DROP TABLE rewards; --", "%s ? :x", "日本"):
        query = sa.select(sa.literal(name).label("x"), sa.literal(1.5)).where(
            sa.literal(name) == name, rewards.c.occurred_at <= moment
        )
        assert list(arrays.pages(store, query, [sa.column("x")], 10)) == []
        plain = sa.select(sa.literal(name).label("x"), sa.literal(1.5))
        (page,) = arrays.pages(store, plain, [sa.column("x")], 10)
        assert [column.tolist() for column in page] == [[name], [1.5]]
        assert page[1].dtype in (np.float64, object)


def test_other_processes_make_the_same_model(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LARGE", 500)
    monkeypatch.setattr(replay, "WITH_CONTEXTS", 256)
    monkeypatch.setattr(replay, "PART", 600)
    read: list[int] = []
    parts = replay.Copy.parts
    monkeypatch.setattr(
        replay.Copy, "parts", lambda copy: read.append(len(found := parts(copy))) or found
    )
    simulation.visits(400)
    hashes = []
    for processes in (1, 2):
        settings = replace(simulation.settings, training_processes=processes)
        store = simulation.service.store
        version = retrain(store, ARTWORK, settings, simulation.later()).version
        with store.read() as connection:
            hashes.append(registry.get(connection, version).sha256)
    assert hashes[0] == hashes[1]
    assert max(read) > 1  # not read here
    assert read[0] == 0  # not before it was copied


def test_other_processes_end_with_the_one_that_was_killed() -> None:
    code = (
        "import time; from artwork_bandit.operations.reading import _nothing, _pool, _run\n"
        "with _pool(2) as pool:\n"
        "    pool.submit(_run, _nothing, None, 'all', ()).result(); print('ready', flush=True)\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"ready\n"
        children = psutil.Process(killed.pid).children(recursive=True)
        assert len(children) >= 2
        killed.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
