"""Do the estimators hold on logs of the user's own shape? Simulated, so that the truth is known.

The log's contexts, action sets, propensities and members stay; members are drawn with replacement,
what is shown is drawn again from the logging policy, and rewards from the log's own shrunken mean
per variant times how eager the member is. Where the log has no pmfs, what the shown variant's
propensity leaves is spread over the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Contexts, Floats, ReplayBlock, ranges
from artwork_bandit.errors import NotEnoughData
from artwork_bandit.evaluation.distinct import hashed
from artwork_bandit.evaluation.evaluate import can_judge, evaluate, require_within
from artwork_bandit.evaluation.evidence import Method
from artwork_bandit.evaluation.outcome_model import OutcomeModel, Past
from artwork_bandit.evaluation.question import Cluster
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import Verdict
from artwork_bandit.operations.judge import resolve
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.policies.block import ActionTable, names_only
from artwork_bandit.policies.ragged import total

MOST_ROWS = 10_000
LOGS = 200
EAGERNESS = 0.8
"""How far members' chances differ from the mean, at most, as a share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How one estimator did on one target."""

    target: str
    truth: float
    estimator: str
    refused: float
    """Share of the logs that were refused."""
    bias: float
    """Mean error on the others."""
    error: float
    """Root mean square error."""
    coverage: float | None
    """Share of the intervals that held the truth; None where the estimator gives none."""
    half_width: float | None
    """Mean half width of the intervals."""


def self_test(
    source: ReplaySource, names: Sequence[str], method: Method, cluster: Cluster, seed: int,
    logs: int = LOGS, progress: Callable[[int], None] = lambda done: None,
) -> list[Measured]:  # fmt: skip
    """Return every estimator's bias, error and coverage on simulated logs, per target."""
    targets, lookup = resolve(source, names)
    rng = np.random.default_rng(seed)
    block = _sample(source, rng)
    pmf = _logging(block)
    table = ActionTable(lookup)
    pmfs = {t.name: t.pmf(block, table) for t in targets}
    low, high = method.bounds
    require_within(block.reward, method.bounds)
    share = replace(block, reward=(block.reward - low) / (high - low), q_hat=None)
    chance = _chance(share)
    columns = [Target(name=f"column:{i}", variant_id=t.variant_id) for i, t in enumerate(targets)]
    known = replace(
        block, logging_pmf=pmf, q_hat=None,
        targets={str(i): each for i, each in enumerate(pmfs.values())},
    )  # fmt: skip
    found: dict[tuple[int, str], list[tuple[float, float | None, float | None]]] = {}
    refused = [0] * len(targets)
    for done in range(logs):
        drawn = _draw(known, chance, method.bounds, rng)
        report = evaluate([drawn], columns, names_only, method=method, cluster=cluster)
        for i, judged in enumerate(report.targets.values()):
            refused[i] += judged.verdict is Verdict.REFUSE
            for name, e in judged.estimators.items():
                if e.estimate is not None:
                    found.setdefault((i, name), []).append((e.estimate, e.lower, e.upper))
        progress(done + 1)
    values = [
        low + (high - low) * float(total(each * chance, block.offsets)[can_judge(block, t)].mean())
        for t, each in zip(columns, pmfs.values(), strict=True)
    ]
    return [
        _measured(targets[i].name, values[i], name, refused[i] / logs, rows)
        for (i, name), rows in sorted(found.items())
    ] + [
        Measured(
            target=targets[i].name, truth=values[i], estimator="all", refused=1.0, bias=np.nan,
            error=np.nan, coverage=None, half_width=None,
        )
        for i, count in enumerate(refused) if count == logs
    ]  # fmt: skip


def _measured(
    target: str, truth: float, name: str, refused: float,
    rows: list[tuple[float, float | None, float | None]],
) -> Measured:  # fmt: skip
    errors = np.array([value - truth for value, _, _ in rows])
    ends = [(a, b) for _, a, b in rows if a is not None and b is not None]
    return Measured(
        target=target, truth=truth, estimator=name, refused=refused, bias=float(errors.mean()),
        error=float(np.sqrt(np.mean(errors**2))),
        coverage=float(np.mean([a <= truth <= b for a, b in ends])) if ends else None,
        half_width=float(np.mean([b - a for a, b in ends]) / 2) if ends else None,
    )  # fmt: skip


def _sample(source: ReplaySource, rng: np.random.Generator) -> ReplayBlock:
    """Return rows of a choice, of whole members, until there are enough."""
    rows, members = 0, np.empty(0, np.uint64)
    for block in source.blocks("plain"):
        chosen = block.take(_is_choice(block))
        rows += len(chosen)
        members = np.union1d(members, hashed(chosen.member_ids))
    if len(members) < 2:
        raise NotEnoughData(
            "the log has no choices of two members between two variants: nothing to simulate"
        )
    wanted = max(2, round(len(members) * min(1.0, MOST_ROWS / rows)))
    kept = rng.permutation(members)[:wanted]
    return _joined(
        [b.take(_is_choice(b) & np.isin(hashed(b.member_ids), kept)) for b in source.blocks()]
    )


def _is_choice(block: ReplayBlock) -> npt.NDArray[np.bool_]:
    return np.asarray((block.propensity < 1) & (block.sizes > 1))


def _joined(blocks: Sequence[ReplayBlock]) -> ReplayBlock:
    """Return blocks as one; columns that some lack are left out."""
    blocks = [b for b in blocks if len(b)]
    starts = np.cumsum([0, *(len(b.action_sets) for b in blocks)])
    names = set.intersection(*(set(b.targets) for b in blocks))
    pmfs = [b.logging_pmf for b in blocks if b.logging_pmf is not None]

    def of(name: str) -> np.ndarray:
        return np.concatenate([getattr(b, name) for b in blocks])

    return ReplayBlock(
        decision_ids=of("decision_ids"), occurred_at=of("occurred_at"),
        member_ids=of("member_ids"), chosen=of("chosen"), propensity=of("propensity"),
        reward=of("reward"), cells=of("cells"),
        action_sets=tuple(s for b in blocks for s in b.action_sets),
        set_of_row=np.concatenate(
            [b.set_of_row + at for b, at in zip(blocks, starts, strict=False)]
        ),
        contexts=Contexts.of([c for b in blocks for c in b.contexts]),
        logging_pmf=np.concatenate(pmfs) if len(pmfs) == len(blocks) else None,
        targets={n: np.concatenate([b.targets[n] for b in blocks]) for n in sorted(names)},
    )  # fmt: skip


def _logging(block: ReplayBlock) -> Floats:
    if block.logging_pmf is not None:
        return block.logging_pmf
    sizes, offsets = block.sizes, block.offsets
    pmf: Floats = np.repeat((1 - block.propensity) / np.maximum(sizes - 1, 1), sizes)
    pmf[offsets[:-1] + block.chosen] = block.propensity
    return pmf


def _chance(block: ReplayBlock) -> Floats:
    """Return the simulated mean reward of every variant of every row, in [0, 1]."""
    members, span = hashed(block.member_ids), Span.of(block.occurred_at)
    past = Past()
    past.add(block, span, members)
    found = OutcomeModel(past, span, hindsight=True).predict(block, members)
    return np.clip(found, 0.0, 1.0)


def _draw(
    block: ReplayBlock, chance: Floats, bounds: tuple[float, float], rng: np.random.Generator
) -> ReplayBlock:
    """Return a new log: members with replacement, choices and rewards anew."""
    members, of_row = np.unique(block.member_ids.astype(str), return_inverse=True)
    times = rng.multinomial(len(members), np.full(len(members), 1 / len(members)))
    row = np.repeat(np.arange(len(block)), times[of_row])
    number = ranges(np.zeros(len(block), np.int64), times[of_row])
    assert block.logging_pmf is not None, "the caller has made it"
    drawn = block.take(row)
    assert drawn.logging_pmf is not None, "the caller has made it"
    offsets, sizes = drawn.offsets, drawn.sizes
    flat = ranges(block.offsets[row], sizes)
    up_to = np.cumsum(drawn.logging_pmf)
    before = np.concatenate([[0.0], up_to])[offsets[:-1]]
    whole = up_to[offsets[1:] - 1] - before
    place = np.searchsorted(up_to, before + rng.random(len(row)) * whole, side="right")
    chosen = np.clip(place - offsets[:-1], 0, sizes - 1)
    shown = offsets[:-1] + chosen
    names = np.array(
        [f"{members[of_row[r]]}/{k}" for r, k in zip(row, number, strict=True)], object
    )
    spread = min(EAGERNESS, 1 / max(float(chance.max(initial=0.0)), 0.5) - 1)
    eager = dict.fromkeys(names.tolist(), 1.0)
    draws = 1 + spread * (2 * rng.beta(2, 2, len(eager)) - 1)
    eager = dict(zip(eager, draws.tolist(), strict=True))
    p = chance[flat][shown] * np.array([eager[n] for n in names])
    low, high = bounds
    return replace(
        drawn,
        decision_ids=np.array([f"{i}" for i in range(len(row))], object),
        member_ids=names,
        chosen=chosen,
        propensity=np.clip(drawn.logging_pmf[shown], 1e-12, 1.0),
        reward=low + (high - low) * (rng.random(len(row)) < p),
    )
