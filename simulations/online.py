"""A stream of decisions, learned from as it comes: live cell, retraining, exploration and all.

    python -m simulations.online --movielens DIR [--decisions 100000] [--seeds 5] [--change]

Every contender meets the same members and titles in the same order with the same luck, chooses,
sees only what its own choices earned, and learns every thousand decisions (contextualbandits, which
fits anew, every 5,000; Vowpal Wabbit's own bandit after each). Ours runs as it is served: cells of
members, the default shares, propensities, retraining as `artwork-bandit train` does it when the
worker would, without the gate. Prints the share of the headroom
between uniform and the contextual oracle in the last fifth of the stream, what was explored
included, on the live cell's members, with 95% intervals over seeds, and ours minus each; saves
`plots/online.png`. With `--change` the genres and compositions swap their effects halfway, profiles
stay; the table is then of the last fifth before the change, and of how much of the stream it takes
to be back at 80% of that.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from artwork_bandit.operations.audience import WorldSettings
from simulations.contenders import CONTENDERS, PACKAGES, Contender
from simulations.learning import PLOTS, interval
from simulations.streams import Stream, stream
from simulations.worlds import START, movielens

EVERY = 5_000
LAST = 0.2
"""Share of the stream, at its end, that is judged."""
BACK = 0.8
SMOOTHED = 2
"""Learning rounds whose mean must be back: one is noise."""


def shares(values: np.ndarray, s: Stream) -> np.ndarray:
    """Return, per learning round, the share of the headroom captured on the live members' rows."""
    found = []
    for rows in s.rounds(EVERY):
        live = rows[s.is_live[rows]]
        uniform, oracle = s.truth[live].mean(), s.truth[live].max(axis=1).mean()
        found.append((values[live].mean() - uniform) / (oracle - uniform))
    return np.array(found)


def run(made: Contender, s: Stream, told: Callable[[int], None]) -> np.ndarray:
    """Let a contender choose and learn; return the true value of its choice in every row, before
    the draw: what it explores is included."""
    values = np.empty(len(s))
    for rows in s.rounds(made.every):
        pmf = made.choose(rows)
        values[rows] = (pmf * s.truth[rows]).sum(axis=1)
        told(len(rows))
    return values


def window(found: np.ndarray, begin: float, end: float) -> float:
    """Return the mean share of the rounds between two shares of the stream."""
    n = len(found)
    return float(found[round(begin * n) : round(end * n)].mean())


def recovery(found: np.ndarray, before: float) -> float:
    """Return the share of the stream after the change until the curve is back for good enough."""
    half = len(found) // 2
    for i in range(half, len(found) - SMOOTHED + 1):
        if found[i : i + SMOOTHED].mean() >= BACK * before:
            return (i + 1 - half) / len(found)
    return float("nan")


def plot(curves: dict[str, list[np.ndarray]], decisions: int, name: str) -> Path:
    """Save the curves with bands over seeds; return the file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for label, found in curves.items():
        table = np.array(found)
        at = (np.arange(table.shape[1]) + 0.5) * decisions / table.shape[1]
        middle, half = np.array([interval(list(column)) for column in table.T]).T
        (line,) = axes.plot(at, middle, label=label)
        axes.fill_between(at, middle - half, middle + half, color=line.get_color(), alpha=0.15)
    axes.set(
        xlabel="decisions so far", ylabel="share of headroom captured, exploration included",
        title="Online: uniform is 0, the contextual oracle 1",
    )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    path = PLOTS / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return path


def table_of(curves: dict[str, list[np.ndarray]], ours: str, change: bool, title: str) -> Table:
    """Return the figures."""
    end = 0.5 if change else 1.0
    judged = {k: [window(f, end - LAST, end) for f in found] for k, found in curves.items()}
    table = Table(title=title)
    table.add_column("policy")
    table.add_column("last fifth" + (" before the change" if change else ""), justify="right")
    table.add_column("ours minus it", justify="right")
    table.add_column("whole stream", justify="right")
    if change:
        table.add_column("back at 80% after", justify="right")
        table.add_column("last fifth", justify="right")
    for name, values in judged.items():
        row = [name, "{:.2f} ± {:.2f}".format(*interval(values))]
        less = [a - b for a, b in zip(judged[ours], values, strict=True)]
        row.append("" if name == ours else "{:+.3f} ± {:.3f}".format(*interval(less)))
        row.append("{:.2f} ± {:.2f}".format(*interval([float(f.mean()) for f in curves[name]])))
        if change:
            back = [recovery(f, b) for f, b in zip(curves[name], values, strict=True)]
            row.append(", ".join("never" if np.isnan(b) else f"{b:.0%}" for b in back))
            final = [window(f, 1 - LAST, 1) for f in curves[name]]
            row.append("{:.2f} ± {:.2f}".format(*interval(final)))
        table.add_row(*row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--days", type=float, default=60.0, help="how long the stream lasts")
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--change", action="store_true", help="effects swap halfway")
    arguments = parser.parse_args()
    chosen = {
        name: make for name, make in CONTENDERS.items()
        if not arguments.only or name in arguments.only
    }  # fmt: skip
    for package in (p for p in PACKAGES if find_spec(p.lower()) is None):
        chosen = {name: make for name, make in chosen.items() if not name.startswith(package)}
        print(f"{package} is not installed: left out (pip install {package.lower()})")
    curves: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    console = Console(width=120)
    with Progress(console=console) as progress:
        total = arguments.seeds * len(chosen) * arguments.decisions
        task = progress.add_task("decisions", total=total)
        for seed in range(1, arguments.seeds + 1):
            settings = WorldSettings(beta=arguments.beta)
            setting = movielens(arguments.movielens, START, 300, 6, settings, seed)
            s = stream(
                setting, arguments.decisions, dt.timedelta(days=arguments.days),
                np.random.default_rng([seed, arguments.decisions]), swap=arguments.change,
            )  # fmt: skip
            for name, make in chosen.items():
                values = run(make(s, seed), s, lambda n: progress.advance(task, n))
                curves[name].append(shares(values, s))
    what = f"beta {arguments.beta}, {arguments.decisions:,} decisions, {arguments.seeds} seeds"
    ours = next(iter(chosen))
    console.print(table_of(curves, ours, arguments.change, f"Share of headroom, {what}"))
    name = "online-change" if arguments.change else "online"
    console.print(f"plot: {plot(curves, arguments.decisions, name)}")


if __name__ == "__main__":
    main()
