"""How much of what could be gained does a trained model capture, by size of log and settings?

    python -m simulations.learning --movielens DIR [--rows 20000,100000] [--seeds 3]

Prints the share of the headroom between uniform and the contextual oracle that the greedy policy
captures, on members and titles as in the log, beside the truly best single variant of each title
and VW's own `--cb_adf`. World: MovieLens members, 300 titles x 6 variants, beta 0.5.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import vowpalwabbit
from rich.console import Console
from rich.table import Table

from artwork_bandit.domain import Floats
from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.policies import vowpal
from artwork_bandit.policies.block import Actions
from artwork_bandit.policies.exploration import Exploration
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.policies.segments import maximum, total
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import examples
from artwork_bandit.training import train as training
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.vowpal import ARGUMENTS
from simulations.worlds import START, UniformLog, movielens, uniform_log

CONTENDERS = {
    "default": ARGUMENTS,
    "without interactions": "--loss_function logistic --freegrad",
    "coin": "--loss_function logistic --coin -q gv",
    "VW as it comes": "--loss_function logistic -q gv",
}


CB_ADF = {
    "VW --cb_adf, as it comes": "--cb_adf --cb_type mtr -q gv",
    "VW --cb_adf, freegrad": "--cb_adf --cb_type mtr --freegrad -q gv",
    "VW --cb_adf, small steps": "--cb_adf --cb_type mtr -l 0.005 --power_t 0.3 -q gv",
}
"""VW's own contextual bandit, on the same features."""


def captured(log: UniformLog, value: float) -> float:
    """Return the share of the headroom that a true value captures."""
    offsets = log.block.offsets
    oracle = maximum(log.truth, offsets).mean()
    uniform = (total(log.truth, offsets) / np.diff(offsets)).mean()
    return float((value - uniform) / (oracle - uniform))


def greedy_value(log: UniformLog, arguments: str, seed: int) -> float:
    """Train on the log; return the true value of always showing the best-scored variant."""
    how = training.Settings(arguments=arguments, seed=seed)
    made = training.train(lambda: [log.block], log.lookup, SLOTS["artwork"], how).bundle
    greedy = Exploration(form="greedy", strength=0.0, explored_share=1e-9)
    return log.value(ModelPolicy(made.model, greedy))


def cb_adf_value(log: UniformLog, arguments: str) -> float:
    """Return the true value of VW's own `--cb_adf` on the same features, greedily."""
    found = examples.survey(lambda: [log.block], log.lookup)
    block = log.block.take(np.arange(len(log.block)))
    actions = Actions.of(block, log.lookup)
    contexts = found.contexts.encode(block.contexts)
    variants = found.variants.encode(actions.columns.features)
    numbers = [found.variant_numbers[int(key)] for key in actions.columns.keys]
    texts = [vowpal.variant_text(x, n) for x, n in zip(variants, numbers, strict=True)]
    pairs = found.pairs(SLOTS["artwork"].genre_feature)
    with tempfile.TemporaryDirectory() as folder:
        text, model, out = (Path(folder, name) for name in ("x.txt", "m.vw", "p.txt"))
        with text.open("w") as file:
            for i in range(len(block)):
                rows = actions.rows[actions.offsets[i] : actions.offsets[i + 1]]
                liked = vowpal.affinities(contexts[i], variants[rows], pairs)
                file.write(f"shared {vowpal.context_text(contexts[i])}\n")
                for j, (row, affinity) in enumerate(zip(rows, liked.tolist(), strict=True)):
                    label = f"0:{-block.reward[i]}:{block.propensity[i]} "
                    shown = label if j == block.chosen[i] else ""
                    file.write(f"{shown}{texts[row]} {vowpal.affinity_text(affinity)}\n")
                file.write("\n")
        runner.train(text, model, arguments, 1)
        vowpalwabbit.Workspace(f"--quiet -t -i {model} -d {text} -p {out}").finish()
        best = [int(line.split(":", 1)[0]) for line in out.read_text().splitlines() if line]
    # VW prints actions by predicted cost, the cheapest first.
    return float(log.truth[log.block.offsets[:-1] + best].mean())


def best_single(log: UniformLog) -> float:
    """Return the true value of each title's truly best variant for everybody."""
    offsets, sets = log.block.offsets, log.block.set_of_row
    width = int(np.diff(offsets)[0])
    table: Floats = log.truth.reshape(-1, width)
    means = np.array([table[sets == s].mean(axis=0) for s in range(len(log.block.action_sets))])
    best = means.argmax(axis=1)[sets]
    return float(table[np.arange(len(table)), best].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--rows", default="20000,100000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--arguments", action="append", default=[], help="more VW arguments to try")
    arguments = parser.parse_args()
    contenders = CONTENDERS | {extra: extra for extra in arguments.arguments}
    sizes = [int(text) for text in arguments.rows.split(",")]
    table = Table(
        title=f"Share of headroom captured, beta {arguments.beta}, {arguments.seeds} seeds"
    )
    table.add_column("policy")
    for size in sizes:
        table.add_column(f"{size:,} decisions", justify="right")
    found: dict[str, list[list[float]]] = {}
    for seed in range(1, arguments.seeds + 1):
        settings = WorldSettings(beta=arguments.beta)
        setting = movielens(arguments.movielens, START, 300, 6, settings, seed)
        for at, size in enumerate(sizes):
            log = uniform_log(setting, size, np.random.default_rng([seed, size]))
            values = {"best single (known)": best_single(log)}
            for name, text in CB_ADF.items():
                values[name] = cb_adf_value(log, text)
            for name, text in contenders.items():
                values[name] = greedy_value(log, text, seed)
            for name, value in values.items():
                found.setdefault(name, [[] for _ in sizes])[at].append(captured(log, value))
    for name, columns in found.items():
        cells = [f"{np.mean(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in columns]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
