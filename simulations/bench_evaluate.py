"""How fast is `evaluate`, and does its memory stay flat?

    python -m simulations.bench_evaluate [--rows 1000000] [--variants 10]

Writes a log as Parquet with a target's pmf and q-hat, runs the command in a process of its own and
prints its wall time and peak memory, with and without q-hat, beside vw-estimators (IPS, SNIPS and
Cressie-Read, row by row, on a tenth of the rows) in the same run, and the time to read the columns.

    python -m simulations.bench_evaluate --sql [--rows 1000000]

does so with a log in SQLite, beside fetching the columns it needs and nothing else, in turns.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from estimators.bandits import cressieread, ips, snips
from rich.console import Console
from rich.table import Table

from artwork_bandit.store import migrate
from artwork_bandit.store.engine import Store
from simulations.bench_pages import fill, invent

PART = 250_000
TITLES = 100
STARTUP = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); " \
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"  # fmt: skip


def write(folder: Path, rows: int, variants: int) -> None:
    """Write part files of uniform choices with a target and q-hat."""
    rng = np.random.default_rng(1)
    ids = [[f"t{t}-{v}" for v in range(variants)] for t in range(TITLES)]
    for first in range(0, rows, PART):
        n = min(PART, rows - first)
        title, chosen = rng.integers(TITLES, size=n), rng.integers(variants, size=n)
        target = rng.dirichlet(np.ones(variants), n)
        table = pa.table(
            {
                "decision_id": [f"d{first + i}" for i in range(n)],
                "occurred_at": pa.array(
                    1_750_000_000_000_000 + 1_000_000 * (first + np.arange(n)),
                    pa.timestamp("us", "UTC"),
                ),
                "member_id": [f"m{i}" for i in rng.integers(rows // 10, size=n)],
                "title_id": [f"t{t}" for t in title],
                "action_set": [ids[t] for t in title],
                "variant_id": [ids[t][c] for t, c in zip(title, chosen, strict=True)],
                "propensity": np.full(n, 1 / variants),
                "reward": (rng.random(n) < 0.1).astype(float),
                "target:pi": list(target),
                "q_hat": list(np.full((n, variants), 0.1)),
            }
        )
        pq.write_table(table, folder / f"part-{first // PART:04d}.parquet")


def run(*arguments: str) -> tuple[float, float]:
    """Return the command's wall seconds and peak memory in MB."""
    command = [sys.executable, "-m", "artwork_bandit", *arguments, "--json", "-"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", STARTUP, *command], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, int(done.stdout.split()[-1]) / 1024


def without_q(folder: Path, other: Path) -> None:
    for part in sorted(folder.glob("*.parquet")):
        pq.write_table(pq.read_table(part).drop_columns(["q_hat"]), other / part.name)


def peer(folder: Path) -> float:
    """Return the seconds vw-estimators takes for a tenth of the rows, times ten."""
    table = pq.read_table(folder, columns=["propensity", "reward"])
    n = len(table) // 10
    logged = table["propensity"].to_pylist()[:n]
    reward = table["reward"].to_pylist()[:n]
    each = (ips.Estimator(), snips.Estimator(), cressieread.Interval(0, 10))
    start = time.perf_counter()
    for p, r in zip(logged, reward, strict=True):
        for estimator in each:
            estimator.add_example(p, r, 0.1)
    return 10 * (time.perf_counter() - start)


def fetch(database: Path) -> float:
    """Return the seconds that fetching what `evaluate` needs takes, in the order it wants."""
    connection = sqlite3.connect(database)
    start = time.perf_counter()
    cursor = connection.execute(
        "SELECT request_id, position, occurred_at, member_id, action_set_id, chosen, propensity, "
        "reward, cell FROM rewards WHERE slot = 'artwork' AND confirm = 'client' "
        "ORDER BY occurred_at, request_id, position"
    )
    while cursor.fetchmany(65_536):
        pass
    seconds = time.perf_counter() - start
    connection.close()
    return seconds


def in_sql(rows: int, times: int = 5) -> None:
    """Print what a log in SQLite takes, in turns with a bare fetch."""
    titles, variants = invent(max(100, rows // 250))
    table = Table(title=f"{rows:,} impressions in SQLite, medians of {times}")
    for name in ("what", "seconds", "peak MB"):
        table.add_column(name, justify="left" if name == "what" else "right")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        store = Store(f"sqlite:///{path}")
        migrate.migrate(store)
        fill(store, titles, variants, rows, measured=1)
        store.close()
        both = [
            (fetch(path), run("--database", f"sqlite:///{path}", "evaluate", "--target", "uniform"))
            for _ in range(times)
        ]  # fmt: skip
    bare = statistics.median(seconds for seconds, _ in both)
    whole = statistics.median(seconds for _, (seconds, _) in both)
    ratio = statistics.median(one[0] / seconds for seconds, one in both)
    table.add_row("fetching the columns", f"{bare:.1f}", "")
    table.add_row("evaluate, whole process", f"{whole:.1f}", f"{max(m for _, (_, m) in both):,.0f}")
    Console().print(table, f"ratio, of each turn: {ratio:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--variants", type=int, default=10)
    parser.add_argument("--sql", action="store_true", help="a log in SQLite")
    arguments = parser.parse_args()
    if arguments.sql:
        in_sql(arguments.rows)
        return
    table = Table(title=f"{arguments.rows:,} rows x {arguments.variants} variants, whole process")
    for name in ("what", "seconds", "peak MB"):
        table.add_column(name, justify="left" if name == "what" else "right")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        with_q, other = Path(one), Path(two)
        write(with_q, arguments.rows, arguments.variants)
        without_q(with_q, other)
        start = time.perf_counter()
        for part in with_q.glob("*.parquet"):
            pq.read_table(part)
        table.add_row("reading the Parquet columns alone", f"{time.perf_counter() - start:.1f}", "")
        for name, folder in (("evaluate, q-hat given", with_q), ("evaluate, q-hat fitted", other)):
            seconds, memory = run("evaluate", "--log", str(folder), "--target", "column:pi")
            table.add_row(name, f"{seconds:.1f}", f"{memory:,.0f}")
        table.add_row("vw-estimators, its three estimators", f"{peer(with_q):.1f}", "")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Console().print(table, f"(this process itself: {own:,.0f} MB)")


if __name__ == "__main__":
    main()
