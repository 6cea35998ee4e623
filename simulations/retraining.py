"""From SQL to a trained model: time beside Vowpal Wabbit alone, and memory as the log grows.

    python -m simulations.retraining --movielens DIR [--rows 100000,1000000]

For each size a SQLite log of uniform choices is imported, then trained on by a process of its own,
whose wall time and peak memory (its own or its VW's) are printed beside those of VW alone reading
the prepared examples of the same log.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.operations import imports
from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.operations.cluster import reading
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.vowpal import Form
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import migrate, parquet
from artwork_bandit.store.engine import Store
from artwork_bandit.training import examples
from artwork_bandit.training import train as training
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.survey import survey
from simulations.worlds import START, movielens, uniform_log

SLOT = SLOTS["artwork"]
HOW = training.Settings(priors=lambda rows: Priors())
PART = 50_000


def fill(url: str, folder: Path, movielens_folder: Path, rows: int) -> None:
    """Make a database with a log of that many rows."""
    setting = movielens(movielens_folder, START, 300, 6, WorldSettings(), 1)
    store = Store(url)
    migrate.migrate(store)
    imports.import_catalog(store, setting.titles, setting.variants, START, dry_run=False)
    path = folder / "log.parquet"
    rng = np.random.default_rng(1)

    def blocks():  # type: ignore[no-untyped-def]
        for start in range(0, rows, PART):
            block = uniform_log(setting, min(PART, rows - start), rng).block
            yield dataclasses.replace(
                block,
                decision_ids=np.array([f"d{start + i}" for i in range(len(block))], object),
                # Members see a title once here: each row is a unit of its own.
                member_ids=np.array(
                    [f"{m}-{start + i}" for i, m in enumerate(block.member_ids)], object
                ),
                occurred_at=block.occurred_at + start * 1_000_000,
            )

    parquet.write(path, blocks())
    imports.import_log(store, path, START, dry_run=False)
    store.close()


def trained(url: str) -> None:
    """Train on a database's log."""
    source = ReplaySource.of(Store(url), None, SLOT.name)
    with reading(source) as log:
        training.train(log, source.lookup, SLOT, HOW)


def prepared(url: str, folder: Path) -> str:
    """Write the log's examples; return VW's arguments for them."""
    source = ReplaySource.of(Store(url), None, SLOT.name)
    with reading(source) as log:
        found = survey(log, source.lookup, SLOT.reward.bounds)
        form = Form.of(Priors(), found.contexts, found.variants)
        with Path(folder, "x.txt").open("w") as out:
            examples.write(out, log, source.lookup, found, form, SLOT, HOW.half_life)
    return f"{runner.ARGUMENTS} {form.interactions}"


def measured(url: str, folder: Path, rows: int, table: Table) -> None:
    """Add a row of figures."""
    begun = time.perf_counter()
    line = [sys.executable, "-m", "simulations.retraining", "--train", url]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    whole = time.perf_counter() - begun
    arguments = prepared(url, folder)
    begun = time.perf_counter()
    runner.train(folder / "x.txt", folder / "m.vw", arguments, 1, 20)
    alone = time.perf_counter() - begun
    table.add_row(
        f"{rows:,}", f"{whole:.1f} s", f"{alone:.1f} s", f"{whole / alone:.2f}x (goal 2.5)",
        f"{float(said):.0f} MB",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path)
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        trained(arguments.train)
        # Of this process or of its VW, whichever needed more.
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        print(max(resource.getrusage(w).ru_maxrss / 1024 for w in who))
        return
    if arguments.movielens is None:
        parser.error("--movielens is needed")
    table = Table(title="From SQL to a trained model")
    for name in ("decisions", "whole", "VW alone", "ratio", "peak memory"):
        table.add_column(name, justify="right")
    for rows in (int(text) for text in arguments.rows.split(",")):
        with tempfile.TemporaryDirectory(prefix="artwork-bandit-") as folder:
            url = f"sqlite:///{folder}/log.db"
            fill(url, Path(folder), arguments.movielens, rows)
            measured(url, Path(folder), rows, table)
    Console().print(table)


if __name__ == "__main__":
    main()
