"""What a model does where it knows little, where there is nothing to learn, and where clicks lie.

    python -m simulations.situations --movielens DIR [--rows 20000,100000] [--seeds 5] [--only NAME]

Tables (`new`, `beta-0`, `misleading`, `clicks`), in the world of `simulations.learning`, with 95%
intervals over seeds:

new things     the live policy (its exploration included) against uniform in the first 50
               impressions of titles, and of variants of known titles, that its log had none of
nothing to     beta 0: what the greedy policy earns beside policies that know no member, learned
personalise    from the same log: each title's best mean, shrunken means, and shrunken towards what
               compositions earn
misleading     one variant of each title draws twice the clicks and a third of the quality plays:
clicks         the greedy policy beside one that knows which these are, once learned from plays
               alone and once as ours is, one trained on clicks, and one that knows how likely each
               row's click and play were and would have been, and from these by Bayes' rule which
               variants mislead: clicks and plays tell no more
clicks that    the greedy policy beside one that learned from plays alone, where half of the clicks
are known      of anybody on anything come to a quality play; where people click by accident too;
               and where pictures draw those who would rather have seen the next one play
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from artwork_bandit.domain import Floats, Ints
from artwork_bandit.operations.audience import WorldSettings
from artwork_bandit.policies.block import Actions, InMemory
from artwork_bandit.policies.exploration import Exploration
from artwork_bandit.policies.policy import BoundScorer, ModelPolicy
from artwork_bandit.training import train as training
from simulations.learning import AS_TRAINED, SLOT, interval
from simulations.worlds import START, Setting, UniformLog, movielens, uniform_log

NEW_TITLES, NEW_VARIANTS = 30, 60
FIRST = 50
TITLES = 300
TABLES = ("new", "beta-0", "misleading", "clicks")
LEARNED = ("means", "shrunken means", "shrunken towards compositions")
"""Policies that show everybody the same."""
CLICKS = ("half of the clicks are played", "accidents", "clicks of others")
"""How clicks come about where they are known."""
BY_ACCIDENT = 0.04
MISLEADING = 2
"""Which of a title's variants misleads."""
GREEDY = Exploration(form="greedy", strength=0.0, explored_share=1e-9)


def pmf_of(log: UniformLog, trained: training.Trained, *, greedy: bool) -> Floats:
    """Return [rows, width], the live or the greedy policy's pmf on a log."""
    policy = trained.bundle.policy(1)
    if greedy:
        policy = ModelPolicy(trained.bundle.model, GREEDY)
    return Actions.of(log.block, log.lookup).pmf(policy, log.block).reshape(table(log).shape)


def table(log: UniformLog) -> Floats:
    """Return the truth [rows, width]; all titles of these worlds have as many variants."""
    found: Floats = log.truth.reshape(len(log.block), -1)
    return found


def learned(log: UniformLog) -> training.Trained:
    return training.train(InMemory([log.block]), log.lookup, SLOT, AS_TRAINED)


def greedy_rate(log: UniformLog, trained: training.Trained) -> float:
    return float((pmf_of(log, trained, greedy=True) * table(log)).sum(axis=1).mean())


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


def with_clicks(log: UniformLog, how: str) -> UniformLog:
    """Return the log with its clicks, as they come about; plays are as likely as they were."""
    truth = table(log)
    clicked = {
        "half of the clicks are played": np.minimum(2 * truth, 1),
        "accidents": truth + (1 - truth) * BY_ACCIDENT,
        "clicks of others": np.maximum(truth, np.minimum(2 * np.roll(truth, 1, axis=1), 1)),
    }[how]
    at = np.arange(len(truth)), log.block.chosen
    rng = np.random.default_rng([len(truth), CLICKS.index(how)])
    clicks = rng.random(len(truth)) < clicked[at]
    played = clicks & (rng.random(len(truth)) < (truth / clicked)[at])
    block = replace(log.block, reward=played.astype(np.float64), clicked=clicks.astype(np.float64))
    return replace(log, block=block)


def known_clicks(log: UniformLog, how: str) -> dict[str, float]:
    """Return the quality plays per impression of policies that know clicks, and do not."""
    log = with_clicks(log, how)
    alone = replace(log, block=replace(log.block, clicked=None))
    return {
        "uniform": float(table(log).mean()),
        "plays alone": greedy_rate(log, learned(alone)),
        "ours": greedy_rate(log, learned(log)),
        "oracle": float(table(log).max(axis=1).mean()),
    }


def misled(log: UniformLog) -> tuple[UniformLog, Floats]:
    """Return the log in which one variant of each title misleads, twice the clicks and a third of
    the quality plays; and each row's click. Twice as many clicks as quality plays are normal."""
    truth = table(log).copy()
    clicked = np.minimum(2 * truth, 1)
    clicked[:, MISLEADING], played = _misled(truth[:, MISLEADING], clicked[:, MISLEADING])
    truth[:, MISLEADING] = clicked[:, MISLEADING] * played
    rng = np.random.default_rng(len(truth))
    row = np.arange(len(truth))
    clicks = rng.random(len(truth)) < clicked[row, log.block.chosen]
    finished = rng.random(len(truth)) < (truth / clicked)[row, log.block.chosen]
    block = replace(
        log.block, reward=(clicks & finished).astype(np.float64), clicked=clicks.astype(np.float64)
    )
    return replace(log, truth=truth.ravel(), block=block), clicks.astype(np.float64)


def expected_by_chances(honest: UniformLog, log: UniformLog) -> Floats:
    """Return [titles, width], what variants' effects are expected to be, as logits, by the chance
    that they mislead: Bayes' rule with the true chances of each row's click and play."""
    block, width = log.block, table(log).shape[1]
    rate = table(honest)[np.arange(len(block)), block.chosen]
    clicks = np.minimum(2 * rate, 1)
    both = []
    for clicked, played in ((clicks, rate / clicks), _misled(rate, clicks)):
        seen = np.where(block.reward > 0, played, 1 - played)
        chances = np.where(block.clicked, clicked * seen, 1 - clicked)
        logs = np.log(np.maximum(chances, 1e-12))
        of = block.set_of_row * width + block.chosen
        both.append(np.bincount(of, logs, len(log.variants) * width).reshape(-1, width))
    ratio = both[1] - both[0] - np.log(width - 1)
    chance = 1 / (1 + np.exp(-np.clip(ratio, -50, 50)))
    found: Floats = np.log(1 - chance + chance / 3)
    return found


def _misled(rate: Floats, clicks: Floats) -> tuple[Floats, Floats]:
    """Return how likely a click is, and a play by a click, where these lie: twice the clicks, a
    third of the plays."""
    twice = np.minimum(2 * clicks, 1)
    return twice, rate / 3 / twice


def misleading(honest: UniformLog) -> dict[str, float]:
    """Return the quality plays per impression of policies in the world that misleads."""
    log, clicks = misled(honest)
    truth = table(log)
    kept = [[v for j, v in enumerate(some) if j != MISLEADING] for some in log.variants]
    sets = tuple(
        replace(s, variant_ids=tuple(v.variant_id for v in some))
        for s, some in zip(log.block.action_sets, kept, strict=True)
    )
    known = log.block.chosen != MISLEADING
    part = log.block.take(known)
    moved = part.chosen - (part.chosen > MISLEADING)
    of_title = {s.title_id: s for s in sets}
    part = replace(
        part, chosen=moved, action_sets=tuple(of_title[s.title_id] for s in part.action_sets)
    )
    honest_only = replace(log, block=part, variants=kept)
    by_plays = learned(replace(honest_only, block=replace(part, clicked=None)))
    knows = learned(honest_only)
    found, block = scores_of(log, knows), log.block
    assert knows.bundle.learned is not None, "it was trained by this release"
    effects = knows.bundle.learned.per_logit * expected_by_chances(honest, log)
    likeliest = (found + effects[block.set_of_row]).argmax(axis=1)
    by_clicks = learned(replace(log, block=replace(block, reward=clicks)))
    return {
        "uniform": float(truth.mean()),
        "trained on clicks": greedy_rate(log, by_clicks),
        "ours": greedy_rate(log, learned(log)),
        "knows all chances": float(truth[np.arange(len(truth)), likeliest].mean()),
        "knows which mislead, plays alone": honest_rate(log, by_plays),
        "knows which mislead": honest_rate(log, knows),
        "oracle": float(truth.max(axis=1).mean()),
    }


def scores_of(log: UniformLog, trained: training.Trained) -> Floats:
    """Return [rows, width], the model's scores."""
    block, everywhere = log.block, Actions.of(log.block, log.lookup)
    scores = BoundScorer.of(trained.bundle.model, everywhere.columns)
    of_row = np.arange(len(block))
    found = scores.scores(block.contexts, of_row, everywhere.rows, everywhere.offsets)
    return found.reshape(table(log).shape)


def honest_rate(log: UniformLog, trained: training.Trained) -> float:
    """Return what the greedy policy earns that shows none that misleads."""
    found = scores_of(log, trained).copy()
    found[:, MISLEADING] = -np.inf
    truth = table(log)
    return float(truth[np.arange(len(truth)), found.argmax(axis=1)].mean())


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
    against: Callable[[dict[str, float]], float], beside: str,
) -> Table:  # fmt: skip
    """Return a table of mean rates per policy and size, and ours against another."""
    out = Table(title=title)
    out.add_column("policy")
    columns = []
    for size in sizes:
        out.add_column(f"{size:,} decisions", justify="right")
        columns.append([of_seed(seed, size) for seed in range(1, seeds + 1)])
    for name in columns[0][0]:
        cells = ["{:.4f} ± {:.4f}".format(*interval([f[name] for f in c])) for c in columns]
        out.add_row(name, *cells)
    ratio = [[f["ours"] / against(f) - 1 for f in c] for c in columns]
    cells = [
        "{:+.1%} ± {:.1%}".format(*interval(r)) for r in ratio
    ]  # fmt: skip
    out.add_row(f"ours against {beside}", *cells)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--rows", default="20000,100000")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=TABLES, help="one table")
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
            sizes, arguments.seeds, lambda f: max(f[name] for name in LEARNED), "the best learned",
        ),
        "misleading": lambda: rates(
            "Misleading variants: quality plays per impression",
            lambda s, n: misleading(log(s, n, 0.5)), sizes, arguments.seeds,
            lambda f: f["knows which mislead"], "one that knows",
        ),
    }  # fmt: skip
    for name in TABLES if arguments.only is None else (arguments.only,):
        if name == "clicks":
            for how in CLICKS:
                console.print(_clicks_table(how, log, sizes, arguments.seeds))
        else:
            console.print(made[name]())


def _clicks_table(
    how: str, log: Callable[[int, int, float], UniformLog], sizes: list[int], seeds: int
) -> Table:
    return rates(
        f"Clicks are known ({how}): quality plays per impression",
        lambda s, n: known_clicks(log(s, n, 0.5), how), sizes, seeds,
        lambda f: f["plays alone"], "plays alone",
    )  # fmt: skip


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
