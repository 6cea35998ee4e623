"""Do the 95% intervals of `evaluate` cover? Logs of known truth, members who repeat.

    python -m simulations.coverage [--logs 2000] [--same-limits] [--members 100 --earning 0.2]
    python -m simulations.coverage --cells

For each size of log and overlap of target with logging policy: the share of logs refused, and of
the others the share whose interval covers the target's true value, with the half-width beside it,
for the default interval (Cressie-Read) and the others that can be asked for; and of the difference
between the target and the logging policy, and between the target and another policy, a mixture of
both with a third of its own. `--same-limits`
refuses with the others only what is refused with the default, and so says why they refuse more.
`--members` and `--earning` make logs in which only some of few members ever earn anything.
`--cells` makes a tenth of the members an explore cell, who are shown everything equally often, and
judges each log twice: each row by its own propensity, and both cells together (`evaluate
--together`).
Coverage is flagged if it is below .95 by more than chance (one-sided, 1 in 1,000).
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from artwork_bandit.domain import ActionSet, Contexts, ReplayBlock
from artwork_bandit.evaluation.evaluate import Evaluation
from artwork_bandit.evaluation.evidence import Interval, Method
from artwork_bandit.evaluation.question import LOGGING, Question, Survey
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import BOUNDED, Verdict
from artwork_bandit.policies.block import ActionTable, names_only

VARIANTS, TITLES = 6, 20
ESTIMATORS = ("ips", "snips", "dr", "sndr")
DIFFERENCES = {LOGGING: "minus logging", "column:rival": "minus another"}
INTERVALS: tuple[Interval, ...] = ("cressie-read", "delta", "bootstrap", "anytime")
EXPLORED = 0.1
"""Share of the explore cell."""
COMMON, RARE = -2.2, -5.3
"""Logits of rewards of about .13 and .007."""
OVERLAPS = {"good": 0.5, "poor": 3.0}
"""How far the target's preferences (logits, by taste) are from uniform logging's: its SD."""


def simulate(
    rng: np.random.Generator, rows: int, spread: float, base: float = COMMON,
    members: int | None = None, earning: float = 1.0, explored: float = 0.0,
) -> tuple[ReplayBlock, dict[str, float]]:  # fmt: skip
    """Return a log with the pmfs of a target and of another policy, and the true values: the
    target's, and what it is above each that it is compared with.

    Members differ in taste (one of four) and in how much they play at all, and come 8 times on
    average, if there are not other `members`; logging is epsilon-greedy on a wrong idea of tastes,
    the floor 0.3. Where a share of members is `explored`, all is uniform for them, the floor of
    the others is 0.05, and the pmf of both together is a target too. `base` is the logit of a
    middling reward, of the share `earning` of members: the truth is that of the population they
    come from.
    """
    members = members or max(40, rows // 8)
    taste = rng.integers(4, size=members)
    eager = rng.normal(0, 0.7, members)
    effect = rng.normal(0, 0.6, (TITLES, 4, VARIANTS))
    target_of = _softmax(rng.normal(0, spread, (TITLES, 4, VARIANTS)))
    greedy = rng.integers(VARIANTS, size=(TITLES, 4))
    floor = 0.05 if explored else 0.3
    logging_of = np.full((TITLES, 4, VARIANTS), floor / VARIANTS)
    np.put_along_axis(logging_of, greedy[..., None], floor / VARIANTS + 1 - floor, axis=2)
    chance = 1 / (1 + np.exp(-base - eager[:, None, None] - effect[:, taste].swapaxes(0, 1)))
    true_chance = earning * chance
    if earning < 1:
        chance *= (rng.random(members) < earning)[:, None, None]
    member = rng.integers(members, size=rows)
    title = rng.integers(TITLES, size=rows)
    explores = rng.random(members) < explored if explored else np.zeros(members, bool)
    live = logging_of[title, taste[member]]
    logged = np.where(explores[member][:, None], 1 / VARIANTS, live)
    chosen = (rng.random((rows, 1)) > np.cumsum(logged, axis=1)).sum(axis=1).clip(max=VARIANTS - 1)
    reward = (rng.random(rows) < chance[member, title, chosen]).astype(np.float64)
    own = _softmax(rng.normal(0, spread, (TITLES, 4, VARIANTS)))
    logging_of = explored / VARIANTS + (1 - explored) * logging_of
    rival_of = (logging_of + target_of + own) / 3
    truth, *others = (
        float(np.mean(np.sum(of[:, taste].swapaxes(0, 1) * true_chance, axis=2)))
        for of in (target_of, logging_of, rival_of)
    )
    truths = {"": truth} | {k: truth - v for k, v in zip(DIFFERENCES, others, strict=True)}
    names = np.array([f"m{i}" for i in range(members)], object)
    index = np.arange(rows)
    block = ReplayBlock(
        decision_ids=np.array([f"d{i}" for i in range(rows)], object),
        occurred_at=index,
        member_ids=names[member],
        action_sets=tuple(
            ActionSet(
                action_set_id=t, title_id=f"t{t}", slot="artwork", revision_ids=(),
                variant_ids=tuple(f"t{t}-{v}" for v in range(VARIANTS)),
            )
            for t in range(TITLES)
        ),
        set_of_row=title,
        chosen=chosen,
        propensity=logged[index, chosen],
        reward=reward,
        contexts=Contexts.unknown(rows),
        cells=np.full(rows, None, object),
        targets={
            "target": target_of[title, taste[member]].ravel(),
            "rival": rival_of[title, taste[member]].ravel(),
            "together": logging_of[title, taste[member]].ravel(),
        },
    )  # fmt: skip
    return block, truths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=2000)
    parser.add_argument("--rows", default="2000,20000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--same-limits", action="store_true")
    parser.add_argument("--overlap", choices=list(OVERLAPS), help="only these cells")
    parser.add_argument("--members", type=int, help="default: one for 8 rows")
    parser.add_argument("--earning", type=float, default=1.0, help="share that ever earns")
    parser.add_argument("--cells", action="store_true", help="one in ten members explores")
    arguments = parser.parse_args()
    who = (arguments.members, arguments.earning, EXPLORED if arguments.cells else 0.0)
    for rows in (int(text) for text in arguments.rows.split(",")):
        for rewards, base in {"common": COMMON, "rare": RARE}.items():
            for overlap, spread in OVERLAPS.items():
                if arguments.overlap not in (None, overlap):
                    continue
                rng = np.random.default_rng([arguments.seed, rows, round(10 * spread)])
                name = f"{rows:,} rows, {overlap} overlap, {rewards} rewards"
                judge = _SameLimits if arguments.same_limits else Evaluation
                Console(width=120).print(
                    _measure(judge, rng, arguments.logs, rows, spread, base, who, name)
                )


class _SameLimits(Evaluation):
    """Refuses with every interval what is refused with the default."""

    _limits = BOUNDED


def _measure(
    judge: type[Evaluation], rng: np.random.Generator, logs: int, rows: int, spread: float,
    base: float, who: tuple[int | None, float, float], name_of: str,
) -> Table:  # fmt: skip
    intervals = INTERVALS[:1] if who[2] else INTERVALS
    refused: Counter[str] = Counter()
    covered: Counter[tuple[str, str]] = Counter()
    width: Counter[tuple[str, str]] = Counter()
    every: Counter[tuple[str, str]] = Counter()
    for _ in track(range(logs), name_of):
        block, truths = simulate(rng, rows, spread, base, *who)
        for way, log in (_ways(block) if who[2] else {"": block}).items():
            for against, difference in DIFFERENCES.items():
                evaluation = _evaluated(judge, log, against)
                for interval in intervals:
                    method = Method(interval=interval)
                    evaluation.question = replace(evaluation.question, method=method)
                    judged = evaluation.report().targets["column:target"]
                    of = {(difference, truths[against]): judged.difference}
                    how = f"{interval}{way}"
                    if against == LOGGING:
                        refused[how] += judged.verdict is Verdict.REFUSE
                        of |= {(n, truths[""]): judged.estimators[n] for n in ESTIMATORS}
                    for (name, truth), found in of.items():
                        if found.lower is None or found.upper is None:
                            continue  # refused, or beyond what a mean reward can be
                        every[how, name] += 1
                        covered[how, name] += found.lower <= truth <= found.upper
                        width[how, name] += (found.upper - found.lower) / 2
    table = Table(title=name_of)
    names = (*ESTIMATORS, *DIFFERENCES.values())
    for name in ("intervals", *names):
        table.add_column(name, justify="left" if name == "intervals" else "right")
    for how in refused:
        cells = []
        for name in names:
            n = every[how, name]
            if not n:
                cells.append("-")
                continue
            share = covered[how, name] / n
            low = share < 0.95 - 3.09 * math.sqrt(0.95 * 0.05 / n)
            cells.append(f"{share:.3f}{' LOW' if low else ''} (±{width[how, name] / n:.4f})")
        table.add_row(f"{how} ({refused[how] / logs:.0%} refused)", *cells)
    return table


def _ways(block: ReplayBlock) -> dict[str, ReplayBlock]:
    """Return a log of two cells by each row's own propensity, and by those of both together."""
    both = block.targets["together"].reshape(-1, VARIANTS)[np.arange(len(block)), block.chosen]
    return {", own propensities": block, ", together": replace(block, propensity=both)}


def _evaluated(judge: type[Evaluation], block: ReplayBlock, against: str) -> Evaluation:
    """Return the evaluation of a log, whose report may be asked for."""
    names = ("column:target",) if against == LOGGING else ("column:target", against)
    targets = tuple(Target(name=name) for name in names)
    question = Question(targets=targets, lookup=names_only, against=against)
    span = Span.of(block.occurred_at)
    survey = Survey(question, span)
    survey.add(block)
    evaluation = judge(question, span, survey)
    evaluation.add(block, ActionTable(names_only))
    return evaluation


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


if __name__ == "__main__":
    main()
