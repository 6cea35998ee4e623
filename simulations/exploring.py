"""What does exploring cost: in the eyes of the model, and in truth?

    python -m simulations.exploring --movielens DIR [--rows 5000,20000,100000] [--seeds 3]

A model learns from a uniform log of a world whose truth is known; its SquareCB then explores as
much as training chose (`training.exploring`). Printed is what that costs of what the greedy policy
gains over uniform choice, before the floor: the share that was allowed, what the model says, and
the truth, in worlds where a twelfth of what is shown is played, and where a hundredth is.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.policies import exploration, ragged
from artwork_bandit.policies.block import Actions, InMemory
from artwork_bandit.policies.policy import BoundScorer
from artwork_bandit.training import train as training
from artwork_bandit.training.exploring import cost_share
from simulations.learning import DEFAULT, SLOT
from simulations.worlds import START, movielens, uniform_log

MOST_JUDGED = 20_000
BASES = {"as in world A": -2.5, "one in a hundred plays": -5.0}


def costs(folder: Path, base: float, rows: int, seed: int) -> tuple[float, float, float]:
    """Return (what the model says that exploring costs, what it costs, gamma), as shares."""
    world = replace(WorldSettings(), base=base)
    setting = movielens(folder, START, 300, 6, world, seed)
    log = uniform_log(setting, rows, np.random.default_rng(seed))
    made = training.train(InMemory([log.block]), log.lookup, SLOT, DEFAULT).bundle
    actions = Actions.of(log.block, log.lookup)
    n = min(rows, MOST_JUDGED)
    offsets = actions.offsets[: n + 1]
    contexts, of_row = log.block.take(np.arange(n)).contexts.used()
    scorer = BoundScorer.of(made.model, actions.columns)
    scores = scorer.scores(contexts, of_row, actions.rows[: offsets[-1]], offsets)
    pmf = exploration.weigh(made.form, scores, offsets, made.strength)
    best = ragged.first_maximum(scores, offsets)
    even = exploration.uniform(offsets)
    told, truly = (
        float((worth[best].sum() - worth @ pmf) / (worth[best].sum() - worth @ even))
        for worth in (scores, log.truth[: offsets[-1]])
    )
    return told, truly, made.strength


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--rows", default="5000,20000,100000")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    table = Table(title=f"What exploring costs of what is gained, {arguments.seeds} seeds")
    for name in ("world", "decisions", "allowed", "model says", "in truth", "gamma"):
        table.add_column(name, justify="left" if name == "world" else "right")
    for name, base in BASES.items():
        for rows in (int(text) for text in arguments.rows.split(",")):
            found = np.array(
                [costs(arguments.movielens, base, rows, s + 1) for s in range(arguments.seeds)]
            )
            told, truly, gamma = np.median(found, axis=0)
            table.add_row(
                name, f"{rows:,}", f"{cost_share(rows):.1%}", f"{told:.1%}", f"{truly:.1%}",
                f"{gamma:,.0f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
