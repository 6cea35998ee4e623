"""Going on from a model, again and again, beside learning from the whole log: how good, how fast?

    python -m simulations.going_on --movielens DIR [--world A|B] [--rows 100000] [--step 4000]

A model learns from the first 20,000 uniform decisions; then, every few thousand, another goes on
from the one before and reads only what came since. Prints, with 95% intervals over seeds, the share
of the headroom that it captures, beside the whole log learned from at once, and what both took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.exploration import Exploration
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.training import train as training
from artwork_bandit.training.start import Start
from simulations.learning import DEFAULT, SLOT, captured, interval
from simulations.worlds import START, UniformLog, movielens, uniform_log

GREEDY = Exploration(form="greedy", strength=0.0, explored_share=1e-9)
FIRST = 20_000


def learned(
    log: UniformLog, first: int, last: int, start: Start | None = None
) -> tuple[training.Trained, float]:
    """Return a model of the rows [first, last), and the seconds it took."""
    begun = time.perf_counter()
    block = log.block.take(np.arange(first, last))
    made = training.train(InMemory([block]), log.lookup, SLOT, DEFAULT, start=start)
    return made, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--world", choices=["A", "B"], default="A")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--step", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    names = ("first 20,000", "going on", "whole log", "going on minus whole")
    shares: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names[1:3]}
    for seed in range(1, arguments.seeds + 1):
        setting = movielens(
            arguments.movielens, START, 300, 6, WorldSettings(), seed, hidden=arguments.world == "B"
        )
        log = uniform_log(setting, arguments.rows, np.random.default_rng([seed, arguments.rows]))

        def share(made: training.Trained, log: UniformLog = log) -> float:
            return captured(log, log.value(ModelPolicy(made.bundle.model, GREEDY)))

        made, _ = learned(log, 0, FIRST)
        shares["first 20,000"].append(share(made))
        for first in range(FIRST, arguments.rows, arguments.step):
            last = min(first + arguments.step, arguments.rows)
            made, took = learned(log, first, last, Start.of(made.bundle))
            seconds["going on"].append(took)
        shares["going on"].append(share(made))
        made, took = learned(log, 0, arguments.rows)
        seconds["whole log"].append(took)
        shares["whole log"].append(share(made))
        shares["going on minus whole"].append(shares["going on"][-1] - shares["whole log"][-1])
    table = Table(
        title=f"Share of headroom, world {arguments.world}, {arguments.rows:,} decisions, steps of "
        f"{arguments.step:,}, {arguments.seeds} seeds, 95% intervals"
    )
    for column in ("model", "share of headroom", "median seconds to train once"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, found in shares.items():
        took = f"{np.median(seconds[name]):.1f}" if name in seconds else ""
        table.add_row(name, "{:+.3f} ± {:.3f}".format(*interval(found)), took)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
