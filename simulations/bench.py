"""What it costs, beside what people would use instead: `make bench`.

1. A homepage chosen in process, beside Vowpal Wabbit's own `predict` and MABWiser (`bench_page`).
2. Choices over HTTP with a durable log, beside an empty endpoint; memory, model swaps, and a
   database that stops for 30 seconds (`bench_http`).
3. How the cost of a page grows, as a table and `plots/page-growth.png`.
4. Retraining, beside VW alone reading the prepared examples of the same log.

Figures are medians of CPU or wall times on this machine; what carries over is the ratios.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.priors import Priors
from artwork_bandit.training import train as training
from artwork_bandit.training import vowpal as runner
from simulations import bench_http, bench_page
from simulations.bench_page import SLOT, Bench
from simulations.worlds import UniformLog

PLOTS = Path("plots")


def retraining(table: Table, log: UniformLog) -> None:
    how = training.Settings(priors=lambda rows: Priors())
    begun = time.perf_counter()
    training.train(InMemory([log.block]), log.lookup, SLOT, how)
    whole = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "x.txt")
        form = bench_page.write_examples(text, log, how)
        begun = time.perf_counter()
        runner.train(text, Path(folder, "m.vw"), f"{runner.ARGUMENTS} {form.interactions}", 1, 20)
        alone = time.perf_counter() - begun
    table.add_row(
        f"training on {len(log.block):,} decisions", f"{whole:.1f} s",
        f"{alone:.1f} s, VW alone on prepared text", f"{whole / alone:.1f}x its time",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--titles", type=int, default=5_556, help="with nine variants each")
    parser.add_argument("--rows", type=int, default=50_000, help="of the log that is trained on")
    arguments = parser.parse_args()
    console = Console(width=150)
    bench = Bench.of(bench_page.setting(arguments.titles, 9, 1), arguments.rows)
    table = Table(title="artwork-bandit beside its peers")
    for name in ("what", "here", "beside", "ratio or goal"):
        table.add_column(name)
    bench_page.beside_peers(table, bench)
    bench_http.over_http(table, bench)
    retraining(table, bench.log)
    console.print(table)
    console.print(bench_page.growth(PLOTS))


if __name__ == "__main__":
    main()
