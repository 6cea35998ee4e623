"""Choices over HTTP with a durable log, beside an empty Flask endpoint on the same server.

Everything shares this machine's cores: server, database and load generator. The peer is a bare
Flask application under granian's own WSGI interface, as many workers, which is sent the very same
requests and reads nothing of them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import sqlalchemy as sa
from rich.table import Table

from artwork_bandit.operations import catalog_import
from artwork_bandit.operations.server_process import free_port, serving
from artwork_bandit.settings import Settings
from artwork_bandit.store import cells, migrate, registry
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import requests
from simulations import database, load
from simulations.bench_page import Bench
from simulations.worlds import START

TITLES = 800
EMPTY = """
from flask import Flask
app = Flask(__name__)
@app.post("/v1/choices")
def empty():
    return {}
"""


def over_http(table: Table, bench: Bench) -> None:
    """Add all figures over HTTP: PostgreSQL with two workers, then SQLite with one."""
    with tempfile.TemporaryDirectory() as folder:
        with database.postgresql(Path(folder, "pg")) as own:
            _figures(table, bench, "PostgreSQL, 2 workers", own.url, Path(folder, "a"), own)
        _figures(
            table, bench, "SQLite, 1 worker", f"sqlite:///{folder}/b.db", Path(folder, "b"), None
        )


def _figures(
    table: Table, bench: Bench, where: str, url: str, folder: Path, own: database.Database | None
) -> None:
    folder.mkdir()
    workers = 2 if own is not None else 1
    settings = Settings(
        database_url=url, port=free_port(0), workers=workers, local_dir=str(folder),
        reload_seconds=0.2,
    )  # fmt: skip
    models = _fill(bench, settings)
    ids = [t.title_id for t in bench.here.titles[:TITLES]]
    page = load.post("/v1/choices", lambda n: {"member_id": f"m{n}", "title_ids": ids})
    one = load.post("/v1/choices", lambda n: {"member_id": f"m{n}", "title_ids": [ids[n % TITLES]]})
    port = settings.port
    with serving(settings, folder / "server.log") as server:
        load.run(port, page, connections=2 * workers, requests=60)
        found = load.run(port, page, connections=1, requests=600)
        table.add_row(
            f"page of 800 titles, one client; {where}",
            f"p50 {found.percentile(50) * 1e3:.1f} ms, p99 {found.percentile(99) * 1e3:.1f} ms",
            "", "goal p50 12, p99 40",
        )  # fmt: skip
        found = load.run(port, page, connections=8, seconds=6)
        table.add_row(
            f"the same, 8 clients; {where}", f"{found.rate * TITLES:,.0f} choices/s", "",
            "goal 60,000",
        )  # fmt: skip
        ratios = []
        with _empty(workers, folder) as peer:
            load.run(peer, one, connections=32, requests=2_000)
            load.run(port, one, connections=32, requests=2_000)
            for _ in range(5):  # by turns: the machine is not as fast at every moment
                ours = load.run(port, one, connections=32, requests=5_000)
                theirs = load.run(peer, one, connections=32, requests=8_000)
                assert set(ours.statuses) == {200}, ours.statuses
                ratios.append((ours.rate / theirs.rate, ours.rate, theirs.rate))
        ratio, our_rate, their_rate = sorted(ratios)[len(ratios) // 2]
        table.add_row(
            f"one title, 32 connections; {where}", f"{our_rate:,.0f} requests/s",
            f"{their_rate:,.0f}, empty Flask endpoint", f"{ratio:.2f} of it (goal 0.4)",
        )  # fmt: skip
        private = [
            psutil.Process(p.pid).memory_full_info().uss / 2**20
            for p in psutil.Process(server.pid).children()
        ]
        columns = len(bench.bundle.model.context_encoder.columns)
        table.add_row(
            f"private memory per worker, {len(bench.here.variants):,} variants x {columns} context "
            f"columns; {where}", f"{max(private):.0f} MB", "", "goal 250",
        )  # fmt: skip
        time.sleep(3)  # what the figures before have left to be written
        calm = max(load.run(port, one, connections=2, seconds=8).latencies)
        longest = _swaps(settings, models, one)
        table.add_row(
            f"longest answer during 20 model swaps under load; {where}", f"{longest * 1e3:.0f} ms",
            f"{calm * 1e3:.0f} ms without a swap", "goal 50",
        )  # fmt: skip
        if own is not None:
            table.add_row("database stopped for 30 s under load", *_outage(settings, own))


def _fill(bench: Bench, settings: Settings) -> list[int]:
    """Bring catalogue and two versions of the model; return their versions."""
    store = Store(settings.database_url)
    migrate.migrate(store)
    catalog_import.import_catalog(
        store, bench.here.titles, bench.here.variants, START, dry_run=False
    )
    data = bench.bundle.encode()
    with store.write() as connection:
        cells.set_shares(connection, {"live": 1.0})
        versions = [
            registry.register(
                connection, slot="artwork", data=data, window=(None, None), rows=1, settings={},
                now=START,
            )
            for _ in range(2)
        ]  # fmt: skip
        registry.promote(connection, versions[0], "benchmark", START)
    store.close()
    return versions


def _swaps(settings: Settings, models: list[int], request: load.Request) -> float:
    """Return the longest answer while the live model changes twenty times."""
    done = threading.Event()

    def swap() -> None:
        store = Store(settings.database_url)
        for number in range(20):
            with store.write() as connection:
                registry.promote(connection, models[number % 2], "benchmark", START)
            time.sleep(0.4)
        store.close()
        done.set()

    thread = threading.Thread(target=swap)
    thread.start()
    found = load.run(settings.port, request, connections=2, until=done.is_set)
    thread.join()
    assert set(found.statuses) == {200}, found.statuses
    return max(found.latencies)


def _outage(settings: Settings, own: database.Database) -> tuple[str, str, str]:
    """Return (what failed, what was lost or doubled, the goal) of 30 seconds without database."""
    done = threading.Event()

    def body(number: int) -> dict[str, object]:
        return {"request_id": f"outage-{number}", "member_id": f"m{number}", "title_ids": ["t1"]}

    def breaks() -> None:
        time.sleep(3)
        own.stop()
        time.sleep(30)
        own.start()
        time.sleep(5)
        done.set()

    thread = threading.Thread(target=breaks)
    thread.start()
    found = load.run(
        settings.port, load.post("/v1/choices", body), connections=8, until=done.is_set,
        keep_bodies=True,
    )  # fmt: skip
    thread.join()
    answered = [json.loads(data)["request_id"] for data in found.bodies]
    _wait_until(lambda: _spooled(settings.port) == 0)
    store = Store(settings.database_url)
    with store.read() as connection:
        query = sa.select(requests.c.request_id).where(requests.c.request_id.like("outage-%"))
        logged = list(connection.execute(query).scalars())
    store.close()
    failed = found.broken + sum(n for status, n in found.statuses.items() if status != 200)
    lost, doubled = len(set(answered) - set(logged)), len(logged) - len(set(logged))
    longest = max(found.latencies)
    return (
        f"{failed} of {len(answered):,} answers failed, {lost} rows lost, {doubled} doubled",
        f"longest answer {longest * 1e3:,.0f} ms",
        "goal 0, 0, 0",
    )


def _spooled(port: int) -> int:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as response:
        return int(json.loads(response.read())["spool_entries"])


def _wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)


@contextlib.contextmanager
def _empty(workers: int, folder: Path) -> Iterator[int]:
    """Give the port of a server with one empty endpoint."""
    (folder / "empty_endpoint.py").write_text(EMPTY)
    port = free_port(0)
    process = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", str(workers),
         "--blocking-threads", "8", "--port", str(port), "--no-ws", "empty_endpoint:app"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(3)
        yield port
    finally:
        process.terminate()
        process.wait()
