"""What are similar audiences worth, to members with little history and with much?

    python -m simulations.histories --movielens DIR [--world A|B] [--rows 100000] [--seeds 5]

Every decision of a uniform log meets a member of whom so many first titles watched are known, drawn
at random from 0, 1, 3, 10 and 50. Prints, by that number and with 95% intervals over seeds, the
share of the headroom (uniform to the oracle that knows all tastes) that the greedy policy captures
with similar audiences, the difference they make, and what ranking by affinity captures.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.domain import Context, Contexts, Floats
from artwork_bandit.operations import history_import
from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.policies.block import Actions, InMemory
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.training import train as training
from simulations.going_on import GREEDY
from simulations.learning import OURS, SLOT, interval, liked_most
from simulations.worlds import START, Setting, UniformLog, movielens, uniform_log

KNOWN = (0, 1, 3, 10, 50)


def contexts_of(setting: Setting, folder: Path) -> list[Context]:
    """Return, for each member and each of the numbers known, the context."""
    films, _ = history_import.read_movielens(folder, START)
    genres = {film.title_id: film.genres for film in films}
    watched: dict[str, list[tuple[object, str, float]]] = {m: [] for m in setting.world.members}
    for event in setting.history:
        share = (event.seconds_watched or 0.0) / (event.duration_seconds or 1.0)
        watched[str(event.member_id)].append((event.occurred_at, str(event.title_id), share))
    found = []
    for member in setting.world.members:
        seen = sorted(watched[member])  # type: ignore[type-var]
        for known in KNOWN:
            tastes: dict[str, float] = {}
            for _, title, share in seen[:known]:
                for genre in genres[title]:
                    tastes[genre] = tastes.get(genre, 0.0) + share
            played = {title: round(share, 2) for _, title, share in seen[:known]}
            found.append(Context(genres=tastes, played=played))
    return found


def by_known(log: UniformLog, at: np.ndarray, chosen: Floats) -> list[float]:
    """Return the share of headroom by how much is known; `chosen` [rows] is the true value."""
    table = log.truth.reshape(len(log.block), -1)
    shares = []
    for i in range(len(KNOWN)):
        rows = at == i
        uniform, oracle = table[rows].mean(), table[rows].max(axis=1).mean()
        shares.append(float((chosen[rows].mean() - uniform) / (oracle - uniform)))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--world", choices=["A", "B"], default="A")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    with_them, without = OURS
    names = (with_them, "minus without audiences", "affinity, no training")
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for seed in range(1, arguments.seeds + 1):
        setting = movielens(
            arguments.movielens, START, 300, 6, WorldSettings(), seed, hidden=arguments.world == "B"
        )
        rng = np.random.default_rng([seed, arguments.rows])
        log = uniform_log(setting, arguments.rows, rng)
        at = rng.integers(len(KNOWN), size=arguments.rows)
        of_row = log.block.contexts.used()[1] * len(KNOWN) + at
        contexts = Contexts(contexts_of(setting, arguments.movielens), of_row)
        log = dataclasses.replace(log, block=dataclasses.replace(log.block, contexts=contexts))
        shares = {}
        for name in (with_them, without):
            made = training.train(InMemory([log.block]), log.lookup, SLOT, OURS[name]).bundle
            pmf = Actions.of(log.block, log.lookup).pmf(ModelPolicy(made.model, GREEDY), log.block)
            chosen = (pmf * log.truth).reshape(len(log.block), -1).sum(axis=1)
            shares[name] = np.array(by_known(log, at, chosen))
        found[names[0]].append(shares[with_them].tolist())
        found[names[1]].append((shares[with_them] - shares[without]).tolist())
        found[names[2]].append(by_known(log, at, liked_most(log)))
    table = Table(
        title=f"Share of headroom by titles known of a member, world {arguments.world}, "
        f"{arguments.rows:,} decisions, {arguments.seeds} seeds, 95% intervals"
    )
    table.add_column("policy")
    for known in KNOWN:
        table.add_column(f"{known} titles", justify="right")
    for name, per_seed in found.items():
        cells = (interval(list(column)) for column in zip(*per_seed, strict=True))
        table.add_row(name, *("{:+.3f} ± {:.3f}".format(*cell) for cell in cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
