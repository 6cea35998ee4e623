"""How much of what could be gained does a trained model capture, by size of log?

    python -m simulations.learning --movielens DIR [--world A|B] [--rows 20000,100000,300000]

Prints, with 95% intervals over seeds, the share of the headroom between uniform and the contextual
oracle that the greedy policy captures, on members and titles as in the log, beside the truly best
single variant of each title, ranking by affinity without any training, and VW's own `--cb_adf` on
the same features; saves `plots/learning-A.png`. Worlds: MovieLens members, 300 titles x 6 variants,
beta 0.5; in world B a third of the genre tags are missing or wrong, and members have a taste beyond
the tags that only their histories reveal.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import vowpalwabbit
from rich.console import Console
from rich.table import Table

from artwork_bandit.domain import Floats
from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.operations.planning import priors_for
from artwork_bandit.policies import vowpal, vowpal_text
from artwork_bandit.policies.block import Actions, InMemory
from artwork_bandit.policies.exploration import Exploration
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.policies.priors import Priors
from artwork_bandit.policies.ragged import first_maximum, maximum, total
from artwork_bandit.slots import SLOTS
from artwork_bandit.training import train as training
from artwork_bandit.training import vowpal as runner
from artwork_bandit.training.survey import Survey, survey
from simulations.worlds import START, UniformLog, movielens, uniform_log

SLOT = SLOTS["artwork"]
PLOTS = Path("plots")
T_975 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}
"""Student's t by number of seeds."""
DEFAULT = training.Settings(priors=lambda rows: Priors())
AS_TRAINED = training.Settings(priors=lambda rows: priors_for("auto", [], rows))
"""As `artwork-bandit train` does: priors are chosen on the log if it is large enough."""
OURS = {
    "artwork-bandit": AS_TRAINED,
    "artwork-bandit, without audiences": replace(AS_TRAINED, with_audiences=False),
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


def greedy_value(log: UniformLog, how: training.Settings) -> float:
    """Train on the log; return the true value of always showing the best-scored variant."""
    made = training.train(InMemory([log.block]), log.lookup, SLOT, how).bundle
    greedy = Exploration(form="greedy", strength=0.0, explored_share=1e-9)
    return log.value(ModelPolicy(made.model, greedy))


def encoded(log: UniformLog) -> tuple[Survey, Actions, Floats, Floats]:
    """Return the survey, the actions, and contexts and variants in columns."""
    found = survey(InMemory([log.block]), log.lookup, SLOT.reward.bounds)
    actions = Actions.of(log.block, log.lookup)
    contexts = found.contexts.encode(list(log.block.contexts))
    return found, actions, contexts, found.variants.encode(actions.columns.features)


def liked_most(log: UniformLog) -> Floats:
    """Return, per row, the true value of the variant whose genre the member likes most: no
    training."""
    found, actions, contexts, variants = encoded(log)
    form = vowpal.Form.of(Priors(), found.contexts, found.variants)
    row = np.repeat(np.arange(len(log.block)), np.diff(actions.offsets))
    liked = np.empty(len(row))
    for some in np.array_split(np.arange(len(row)), max(1, len(row) // 200_000)):
        kinds = form.affinities(contexts[row[some]], variants[actions.rows[some]])
        liked[some] = kinds[:, :2].sum(axis=1)  # every tag alike
    best: Floats = log.truth[first_maximum(liked, actions.offsets)]
    return best


def affinity_value(log: UniformLog) -> float:
    """Return the true value of ranking by affinity."""
    return float(liked_most(log).mean())


def cb_adf_value(log: UniformLog, arguments: str) -> float:
    """Return the true value of VW's own `--cb_adf` on the same features, greedily."""
    found, actions, contexts, variants = encoded(log)
    block = log.block
    numbers = [found.variant_numbers[int(key)] for key in actions.columns.keys]
    form = vowpal.Form.of(Priors(), found.contexts, found.variants)
    described = variants[:, : form.described]
    texts = [
        f"|v{text} |o {number}:0.1"
        for text, number in zip(vowpal_text.columns_texts(described), numbers, strict=True)
    ]
    shared = vowpal_text.columns_texts(contexts)
    with tempfile.TemporaryDirectory() as folder:
        text, model, out = (Path(folder, name) for name in ("x.txt", "m.vw", "p.txt"))
        with text.open("w") as file:
            for i in range(len(block)):
                rows = actions.rows[actions.offsets[i] : actions.offsets[i + 1]]
                seen = np.broadcast_to(contexts[i], (len(rows), contexts.shape[1]))
                liked = vowpal_text.columns_texts(form.affinities(seen, variants[rows]))
                file.write(f"shared |g{shared[i]}\n")
                for j, (row, affinity) in enumerate(zip(rows, liked, strict=True)):
                    label = f"0:{-block.reward[i]}:{block.propensity[i]} "
                    shown = label if j == block.chosen[i] else ""
                    file.write(f"{shown}{texts[row]} |a{affinity}\n")
                file.write("\n")
        runner.train(text, model, arguments, 1, 22)
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


def contenders(peers: bool) -> dict[str, Callable[[UniformLog], float]]:
    """Return what is compared: a name, and the true value of what it makes of a log."""
    found: dict[str, Callable[[UniformLog], float]] = {
        "best single variant (known)": best_single,
        "affinity, no training": affinity_value,
    }
    for name, how in OURS.items():
        found[name] = lambda log, how=how: greedy_value(log, how)
    if peers:
        for name, text in CB_ADF.items():
            found[name] = lambda log, text=text: cb_adf_value(log, text)
    return found


def interval(values: list[float]) -> tuple[float, float]:
    """Return (mean, half width of the 95% interval over seeds)."""
    n = len(values)
    half = T_975.get(n, 1.96) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(np.mean(values)), float(half)


def plot(found: dict[str, list[list[float]]], sizes: list[int], world: str) -> Path:
    """Save the learning curves with bands; return the file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, columns in found.items():
        middle, half = np.array([interval(c) for c in columns]).T
        (line,) = axes.plot(sizes, middle, marker="o", label=name)
        axes.fill_between(sizes, middle - half, middle + half, color=line.get_color(), alpha=0.15)
    axes.set(
        xscale="log", xlabel="uniformly logged decisions", ylabel="share of headroom captured",
        title=f"World {world}: uniform is 0, the contextual oracle 1",
    )  # fmt: skip
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")
    path = PLOTS / f"learning-{world}.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--world", choices=["A", "B"], default="A")
    parser.add_argument("--rows", default="20000,100000,300000")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--no-peers", action="store_true", help="only what is ours")
    parser.add_argument("--only", nargs="+", metavar="POLICY", help="the policies of these names")
    arguments = parser.parse_args()
    sizes = [int(text) for text in arguments.rows.split(",")]
    table = Table(
        title=f"Share of headroom captured, world {arguments.world}, beta {arguments.beta}, "
        f"{arguments.seeds} seeds, 95% intervals"
    )
    table.add_column("policy")
    for size in sizes:
        table.add_column(f"{size:,} decisions", justify="right")
    compared = contenders(not arguments.no_peers)
    if arguments.only is not None:
        compared = {name: compared[name] for name in arguments.only}
    found: dict[str, list[list[float]]] = {name: [[] for _ in sizes] for name in compared}
    for seed in range(1, arguments.seeds + 1):
        settings = WorldSettings(beta=arguments.beta)
        setting = movielens(
            arguments.movielens, START, 300, 6, settings, seed, hidden=arguments.world == "B"
        )
        for at, size in enumerate(sizes):
            log = uniform_log(setting, size, np.random.default_rng([seed, size]))
            for name, value in compared.items():
                found[name][at].append(captured(log, value(log)))
    for name, columns in found.items():
        table.add_row(name, *("{:.3f} ± {:.3f}".format(*interval(c)) for c in columns))
    Console(width=110).print(table)
    Console().print(f"plot: {plot(found, sizes, arguments.world)}")


if __name__ == "__main__":
    main()
