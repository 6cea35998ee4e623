"""What a model does where it knows little, where there is nothing to learn, and where clicks lie.

    python -m simulations.situations --movielens DIR [--rows 20000,100000] [--seeds 5]
                                     [--only TABLE] [--how WAY]

Tables (`new`, `beta-0`, `misleading`, `clicks`), in the world of `simulations.learning`, with 95%
intervals over seeds:

new things     the live policy (its exploration included) against uniform in the first 50
               impressions of titles, and of variants of known titles, that its log had none of
nothing to     beta 0: what the greedy policy earns beside policies that know no member, learned
personalise    from the same log: each title's best mean, shrunken means, and shrunken towards what
               compositions earn
misleading     one variant in six draws twice the clicks and a third of the quality plays, one of
clicks         each title, each by chance, or half of every third title's: the greedy policy beside
               one that knows which these are, once learned from plays alone and once as ours is,
               one trained on clicks, and one that knows how likely each row's click and play were
               and would have been, and from these by Bayes' rule which variants mislead
clicks that    the greedy policy beside one that learned from plays alone, where half of the clicks
are known      of anybody on anything come to a quality play; where people click by accident too;
               and where pictures draw those who would rather have seen the next one play
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.operations.audience import WorldSettings
from simulations.greedy import greedy_rate, learned, pmf_of, table
from simulations.learning import interval
from simulations.misled import KNOW_WHICH, WHICH, misleading
from simulations.worlds import START, Setting, UniformLog, movielens, uniform_log

OfWay = Callable[[UniformLog, str, int], dict[str, float]]

NEW_TITLES, NEW_VARIANTS = 30, 60
FIRST = 50
TITLES = 300
TABLES = ("new", "beta-0", "misleading", "clicks")
LEARNED = ("means", "shrunken means", "shrunken towards compositions")
"""Policies that show everybody the same."""
CLICKS = ("half of the clicks are played", "accidents", "clicks of others")
"""How clicks come about where they are known."""
BY_ACCIDENT = 0.04


def new_things(setting: Setting, rows: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Return name -> (uniform, ours, oracle) quality plays per first impression."""
    titles = [t.title_id for t in setting.titles]
    rng.shuffle(titles)
    new, changed = set(titles[:NEW_TITLES]), set(titles[NEW_TITLES:][:NEW_VARIANTS])
    hidden = {next(v for v in setting.variants if v.title_id == t).variant_id for t in changed}
    known = [
        v for v in setting.variants if v.title_id not in new and v.variant_id not in hidden
    ]  # fmt: skip
    trained = learned(uniform_log(replace(setting, variants=known), rows, rng))
    found = {}
    for name, of, only in (
        ("new titles", new, None), ("new variants, when shown", changed, hidden),
    ):  # fmt: skip
        some = [v for v in setting.variants if v.title_id in of]
        log = uniform_log(replace(setting, variants=some), FIRST * len(of) * 8, rng)
        pmf, truth = pmf_of(log, trained, greedy=False), table(log)
        shown = [] if only is None else [[v.variant_id in only for v in s] for s in log.variants]
        row, at = first_impressions(log, pmf, shown, rng, len(log.variants))
        found[name] = [
            float(truth[row].mean()), float(truth[row, at].mean()),
            float(truth[row].max(axis=1).mean()),
        ]  # fmt: skip
    return found


def first_impressions(
    log: UniformLog, pmf: Floats, shown: list[list[bool]], rng: np.random.Generator, titles: int
) -> tuple[Ints, Ints]:
    """Return (row, variant) of each title's first impressions, of the marked variants only if any
    are marked."""
    drawn = (np.cumsum(pmf, axis=1) < rng.random((len(pmf), 1))).sum(axis=1)
    counts = np.zeros(titles, np.int64)
    rows = []
    for i, (title, variant) in enumerate(
        zip(log.block.set_of_row.tolist(), drawn.tolist(), strict=True)
    ):
        if counts[title] < FIRST and (not shown or shown[title][variant]):
            counts[title] += 1
            rows.append(i)
    kept = np.array(rows)
    return kept, drawn[kept]


def non_contextual(log: UniformLog) -> dict[str, float]:
    """Return the true value of policies that show everybody the same, learned from a log."""
    block, truth = log.block, table(log)
    shape = (len(log.variants), truth.shape[1])
    shown, earned = np.zeros(shape), np.zeros(shape)
    np.add.at(shown, (block.set_of_row, block.chosen), 1)
    np.add.at(earned, (block.set_of_row, block.chosen), block.reward)
    of_title = earned.sum(axis=1, keepdims=True) / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    features = [[str(v.features["composition"]) for v in some] for some in log.variants]
    composition = np.unique(np.array(features), return_inverse=True)[1].reshape(shape)
    expected = shown * of_title
    lift = np.bincount(composition.ravel(), earned.ravel()) / np.bincount(
        composition.ravel(), expected.ravel()
    )
    spread = _between(shown, earned, of_title)
    found = {}
    plain, lifted = of_title * np.ones(shape), of_title * lift[composition]
    for name, prior, rows in zip(
        LEARNED, (plain, plain, lifted), (1e-9, spread, spread), strict=True
    ):
        rate = (earned + rows * prior) / (shown + rows)
        best = rate.argmax(axis=1)
        found[name] = float(truth[np.arange(len(truth)), best[block.set_of_row]].mean())
    return found


def _between(shown: Floats, earned: Floats, of_title: Floats) -> float:
    """Return the rows a title's mean is worth for each variant: empirical Bayes, by moments."""
    mean = np.broadcast_to(of_title, shown.shape)
    noise = mean * (1 - mean) / np.maximum(shown, 1)
    spread = ((earned / np.maximum(shown, 1) - mean) ** 2 - noise).mean()
    within = float((mean * (1 - mean)).mean())
    return within / max(float(spread), within / 1e6)


def with_clicks(log: UniformLog, how: str, seed: int) -> UniformLog:
    """Return the log with its clicks, as they come about; plays are as likely as they were."""
    truth = table(log)
    clicked = {
        "half of the clicks are played": np.minimum(2 * truth, 1),
        "accidents": truth + (1 - truth) * BY_ACCIDENT,
        "clicks of others": np.maximum(truth, np.minimum(2 * np.roll(truth, 1, axis=1), 1)),
    }[how]
    at = np.arange(len(truth)), log.block.chosen
    rng = np.random.default_rng([len(truth), CLICKS.index(how), seed])
    clicks = rng.random(len(truth)) < clicked[at]
    played = clicks & (rng.random(len(truth)) < (truth / clicked)[at])
    block = replace(log.block, reward=played.astype(np.float64), clicked=clicks.astype(np.float64))
    return replace(log, block=block)


def known_clicks(log: UniformLog, how: str, seed: int) -> dict[str, float]:
    """Return the quality plays per impression of policies that know clicks, and do not."""
    log = with_clicks(log, how, seed)
    alone = replace(log, block=replace(log.block, clicked=None))
    return {
        "uniform": float(table(log).mean()),
        "learns from plays alone": greedy_rate(log, learned(alone)),
        "ours": greedy_rate(log, learned(log)),
        "oracle": float(table(log).max(axis=1).mean()),
    }


def beta_0(log: UniformLog) -> dict[str, float]:
    truth = table(log)
    best = np.array([truth[log.block.set_of_row == t].mean(axis=0).max() for t in range(TITLES)])
    return (
        {"uniform": float(truth.mean())}
        | non_contextual(log)
        | {"ours": greedy_rate(log, learned(log))}
        | {"best of each title (known)": float(best[log.block.set_of_row].mean())}
    )


def rates(
    title: str, of_seed: Callable[[int, int], dict[str, float]], sizes: list[int], seeds: int,
    beside: Sequence[Sequence[str]],
) -> Table:  # fmt: skip
    """Return a table of mean rates per policy and size, and of ours against the best of others."""
    out = Table(title=title)
    out.add_column("policy")
    columns = []
    for size in sizes:
        out.add_column(f"{size:,} decisions", justify="right")
        columns.append([of_seed(seed, size) for seed in range(1, seeds + 1)])
    for name in columns[0][0]:
        cells = ["{:.4f} ± {:.4f}".format(*interval([f[name] for f in c])) for c in columns]
        out.add_row(name, *cells)
    for others in beside:
        ratio = [[f["ours"] / max(f[name] for name in others) - 1 for f in c] for c in columns]
        cells = ["{:+.1%} ± {:.1%}".format(*interval(r)) for r in ratio]
        best = others[0] if len(others) == 1 else "best learned"
        out.add_row(f"ours against: {best}", *cells)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--rows", default="20000,100000")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=TABLES, help="one table")
    parser.add_argument("--how", choices=WHICH + CLICKS, help="one way, of tables that have some")
    arguments = parser.parse_args()
    console = Console(width=110)
    sizes = [int(text) for text in arguments.rows.split(",")]

    def world(seed: int, beta: float) -> Setting:
        return movielens(arguments.movielens, START, TITLES, 6, WorldSettings(beta=beta), seed)

    def log(seed: int, size: int, beta: float) -> UniformLog:
        return uniform_log(world(seed, beta), size, np.random.default_rng([seed, size]))

    made: dict[str, Callable[[], Table]] = {
        "new": lambda: _new_table(world, sizes, arguments.seeds),
        "beta-0": lambda: rates(
            "Beta 0: quality plays per impression", lambda s, n: beta_0(log(s, n, 0.0)),
            sizes, arguments.seeds, [LEARNED],
        ),
    }  # fmt: skip
    ways: dict[str, tuple[str, Sequence[str], OfWay, tuple[str, ...]]] = {
        "misleading": ("Misleading variants", WHICH, misleading, KNOW_WHICH),
        "clicks": ("Clicks are known", CLICKS, known_clicks, ("learns from plays alone",)),
    }
    for name in TABLES if arguments.only is None else (arguments.only,):
        if name in made:
            console.print(made[name]())
            continue
        title, hows, of_way, beside = ways[name]
        for how in (how for how in hows if arguments.how in (None, how)):
            found = rates(
                f"{title} ({how}): quality plays per impression",
                lambda s, n, of=of_way, how=how: of(log(s, n, 0.5), how, s), sizes, arguments.seeds,
                [(other,) for other in beside],
            )  # fmt: skip
            console.print(found)


def _new_table(world: Callable[[int, float], Setting], sizes: list[int], seeds: int) -> Table:
    out = Table(title=f"First {FIRST} impressions, quality plays per impression")
    for name in ("", "log", "uniform, same members", "live policy", "ours - uniform", "headroom"):
        out.add_column(name, justify="right" if name else "left")
    for size in sizes:
        found = [
            new_things(world(seed, 0.5), size, np.random.default_rng([seed, size, 2]))
            for seed in range(1, seeds + 1)
        ]
        for name in found[0]:
            uniform, ours, oracle = np.array([f[name] for f in found]).T
            gain = ours - uniform
            out.add_row(
                name, f"{size:,}", f"{uniform.mean():.4f}", f"{ours.mean():.4f}",
                "{:+.4f} ± {:.4f}".format(*interval(list(gain))),
                "{:.2f} ± {:.2f}".format(*interval(list(gain / (oracle - uniform)))),
            )  # fmt: skip
    return out


if __name__ == "__main__":
    main()
