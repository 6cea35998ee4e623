"""What a log cannot tell is not told, whatever way it is asked; what it can tell is."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from artwork_bandit.domain import ActionSet, Context, Contexts, Floats, ReplayBlock
from artwork_bandit.estimators import sequence
from artwork_bandit.evaluation.evaluate import evaluate
from artwork_bandit.evaluation.evidence import TIGHTEST, Method
from artwork_bandit.evaluation.html import as_html
from artwork_bandit.evaluation.report import show
from artwork_bandit.evaluation.results import Report
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import Verdict
from artwork_bandit.operations.gate import gate
from artwork_bandit.policies.block import names_only
from artwork_bandit.policies.policy import Uniform

SOME, OTHER = Target(name="column:some"), Target(name="column:other")


def log(
    logged: Floats, drawn: Floats | None = None, *, rows: int = 6_000, seed: int = 1,
    chance: float = 0.1, told: bool = True, **targets: Floats,
) -> ReplayBlock:  # fmt: skip
    """Rows that were drawn from `drawn` [k], by default from what is `logged`; pmfs [k]."""
    rng = np.random.default_rng(seed)
    pmf = np.asarray(logged, float)
    chosen = rng.choice(len(pmf), rows, p=pmf if drawn is None else drawn)
    of = ActionSet(
        action_set_id=1, title_id="t", slot="artwork", revision_ids=(),
        variant_ids=tuple(f"v{i}" for i in range(len(pmf))),
    )  # fmt: skip
    return ReplayBlock(
        decision_ids=np.arange(rows).astype(str).astype(object), occurred_at=np.arange(rows),
        member_ids=(np.arange(rows) % (rows // 3)).astype(str).astype(object), action_sets=(of,),
        set_of_row=np.zeros(rows, np.int64), chosen=chosen, propensity=pmf[chosen],
        reward=(rng.random(rows) < chance).astype(float), contexts=Contexts.unknown(rows),
        cells=np.full(rows, None, object), logging_pmf=np.tile(pmf, rows) if told else None,
        targets={name: np.tile(p, rows) for name, p in targets.items()},
    )  # fmt: skip


def judge(block: ReplayBlock, *targets: Target, **how: object) -> Report:
    return evaluate([block], targets or (SOME,), names_only, **how)


def status(report: Report, name: str) -> Verdict:
    return next(c.status for c in report.checks if c.name == name)


TOP_3 = np.array([1, 1, 1, 0]) / 3


def test_a_segment_tells_no_more_than_the_whole_of_which_it_is_all() -> None:
    block = log(TOP_3, some=np.array([0.5, 0.3, 0.1, 0.1]), other=np.array([0.5, 0.3, 0.2, 0.0]))
    block = replace(block, contexts=Contexts.of([Context(device="tv")] * len(block)))
    report = judge(block, SOME, OTHER, by="device", against=SOME.name)
    some, other = report.targets[SOME.name], report.targets[OTHER.name]
    assert some.verdict is Verdict.REFUSE
    (tv,) = some.segments
    assert tv.verdict is Verdict.REFUSE
    assert tv.value.estimate is tv.difference.estimate is None
    assert "never logged" in (tv.reason or "")
    (tv,) = other.segments
    assert other.estimators["dr"].estimate is not None
    assert tv.value.estimate is not None
    assert other.difference.estimate is tv.difference.estimate is None
    # A value that no mean reward can be is not given, though nothing is refused.
    beyond = replace(tv.value, estimate=None, lower=None, upper=None, reason="beyond any reward")
    odd = replace(other, segments=[replace(tv, reason=None, value=beyond)])
    report.targets[OTHER.name] = odd
    console = Console(width=100, record=True, file=io.StringIO())
    show(report, "the log", console)
    assert "beyond any reward" in (said := console.export_text())
    assert "None" not in said
    assert "beyond any reward (" in as_html(report, "the log", 1, [])


def test_a_policy_that_never_shows_some_variants_is_no_fault_of_its_log() -> None:
    fair = np.array([0.5, 0.3, 0.2, 0.0])
    report = judge(log(TOP_3, some=fair))
    assert report.verdict is Verdict.OK
    assert report.targets[SOME.name].verdict is not Verdict.REFUSE
    # Without its pmf nobody can tell that from impressions that are lost.
    report = judge(log(TOP_3, some=fair, told=False))
    assert report.verdict is Verdict.CAUTION
    assert any("logging_pmf would tell" in c.message for c in report.checks)


def test_propensities_that_nothing_was_drawn_with_are_refused() -> None:
    """The mean weight of all variants together is 1; of each it is 2, 0 and 1."""
    logged, drawn = np.array([0.25, 0.25, 0.5]), np.array([0.5, 0.0, 0.5])
    for told in (True, False):
        report = judge(log(logged, drawn, told=told), Target(name="uniform", policy=Uniform()))
        assert status(report, "counts_against_propensities") is Verdict.OK
        assert status(report, "counts_of_each_variant") is Verdict.REFUSE
        assert report.targets["uniform"].estimators["ips"].estimate is None


def test_sound_logs_of_any_shape_are_not_refused_for_their_counts() -> None:
    rng = np.random.default_rng(4)
    for i in range(200):
        pmf = rng.dirichlet(np.full(int(rng.integers(2, 12)), rng.choice([0.2, 1.0, 5.0])))
        pmf = 0.02 / len(pmf) + 0.98 * pmf
        told = bool(i % 2)
        report = judge(log(pmf, rows=300, seed=i, told=told), Target(name="u", policy=Uniform()))
        assert status(report, "counts_of_each_variant") is Verdict.OK


@pytest.mark.parametrize("told", [True, False])
def test_members_who_drew_once_for_all_their_rows_are_no_broken_log(told: bool) -> None:
    logged, rows, members = np.array([0.6, 0.2, 0.1, 0.1]), 4_000, 200
    for seed in range(100):
        block = log(logged, rows=rows, seed=seed, told=told)
        member = np.random.default_rng(seed).integers(members, size=rows)
        chosen = np.random.default_rng(seed + 1).choice(4, members, p=logged)[member]
        block = replace(
            block, member_ids=member.astype(str).astype(object), chosen=chosen,
            propensity=logged[chosen],
        )  # fmt: skip
        report = judge(block, Target(name="u", policy=Uniform()))
        assert status(report, "counts_of_each_variant") is Verdict.OK


def test_a_rate_that_cannot_be_is_not_given() -> None:
    """Few rows, nearly all of them rewarded: their weights happen to add up to more."""
    logged, wanted = np.array([0.8, 0.1, 0.1]), np.array([0.1, 0.1, 0.8])
    for seed in range(40):
        found = judge(log(logged, rows=900, seed=seed, chance=0.995, some=wanted)).targets[
            SOME.name
        ]
        value = found.estimators["ips"].estimate
        if found.verdict is not Verdict.REFUSE and value is None:
            assert "a mean reward lies in 0 to 1" in (found.estimators["ips"].reason or "")
            assert found.estimators["snips"].estimate == pytest.approx(0.99, abs=0.02)
            break
        assert value is None or value <= 1
    else:
        pytest.fail("no log came to more than 1")


def test_an_estimate_at_the_end_of_its_interval_is_a_caution() -> None:
    logged, wanted = np.array([0.9, 0.05, 0.05]), np.array([0.05, 0.05, 0.9])
    seen = 0
    for seed in range(60):
        found = judge(log(logged, rows=2_000, seed=seed, chance=0.9, some=wanted))
        judged = found.targets[SOME.name]
        numbers = [*judged.estimators.values(), judged.difference]
        at_the_end = any(
            e.estimate is not None and e.interval and e.estimate in (e.lower, e.upper)
            for e in numbers
        )
        seen += at_the_end
        assert at_the_end == any(c.name == "at_the_end" for c in judged.checks)
    assert seen


def test_the_anytime_interval_is_one_sequence_whatever_the_rows() -> None:
    """Its width against the standard error grows slowly for ever; a fixed multiple would once be
    crossed by every log."""
    found = []
    for rows in (3_000, 30_000):
        block = log(np.full(4, 0.25), rows=rows, some=np.array([0.4, 0.3, 0.2, 0.1]))
        ips = judge(block, method=Method(interval="anytime")).targets[SOME.name].estimators["ips"]
        half = (ips.upper - ips.lower) / 2
        assert half == pytest.approx(sequence.half_width(ips.standard_error, rows, 0.05, TIGHTEST))
        found.append(half / ips.standard_error)
    assert found[0] > found[1]
    assert sequence.half_width(1.0, 1e9, 0.05, TIGHTEST) > 1.2 * found[1]


def test_segments_do_not_hang_on_how_the_log_is_cut() -> None:
    rng = np.random.default_rng(3)
    pmf = np.array([0.7, 0.1, 0.1, 0.1])
    one, two = log(pmf, some=pmf[::-1]), log(np.full(4, 0.25), seed=2, some=pmf[::-1])
    devices = [["tv"] * 6_000, ["phone"] * 6_000]
    one, two = (
        replace(b, contexts=Contexts.of([Context(device=d) for d in device]))
        for b, device in zip((one, two), devices, strict=True)
    )
    two = replace(two, decision_ids=two.decision_ids + "x")
    order = rng.permutation(12_000)
    mixed = ReplayBlock(
        **{
            name: np.concatenate([getattr(one, name), getattr(two, name)])[order]
            for name in ("decision_ids", "occurred_at", "member_ids", "set_of_row", "chosen",
                         "propensity", "reward", "cells")
        },
        action_sets=one.action_sets,
        contexts=Contexts.of([*one.contexts, *two.contexts]).take(order),
        logging_pmf=np.stack([*[pmf] * 6_000, *[np.full(4, 0.25)] * 6_000])[order].ravel(),
        targets={"some": np.tile(pmf[::-1], 12_000)},
    )  # fmt: skip
    whole, cut = (
        evaluate(blocks, [SOME], names_only, by="device").targets[SOME.name].segments
        for blocks in ([mixed], [one, two])
    )
    for a, b in zip(whole, cut, strict=True):
        assert a.name == b.name
        numbers = [(x.estimate, x.lower, x.upper) for s in (a, b) for x in (s.value, s.difference)]
        assert numbers[:2] == [pytest.approx(n, abs=1e-9) for n in numbers[2:]]


def test_a_report_says_what_its_rows_are_clustered_by() -> None:
    block = log(np.full(4, 0.25), some=np.array([0.4, 0.3, 0.2, 0.1]))
    report = judge(block, cluster="decision_id", method=Method(level=0.9))
    found = report.targets[SOME.name].estimators
    assert found["dr"].interval == "Cressie-Read, clustered by decision"
    assert {e.level for e in found.values()} == {0.9}


def test_rewards_of_few_members_are_refused_however_many_their_rows() -> None:
    block = log(np.full(4, 0.25), rows=9_000, some=np.array([0.4, 0.3, 0.2, 0.1]))
    members = np.arange(9_000) % 90
    eager = members < 8
    block = replace(
        block, member_ids=members.astype(str).astype(object),
        reward=1.0 * (eager & (np.random.default_rng(1).random(9_000) < 0.6)),
    )  # fmt: skip
    found = judge(block).targets[SOME.name]
    assert found.verdict is Verdict.REFUSE
    assert "more members" in next(
        c.message for c in found.checks if c.name == "effective_rewarded_members"
    )


@pytest.mark.parametrize("earned", [0.3, 1.0])
def test_a_log_in_which_all_earn_the_same_tells_no_policies_apart(earned: float) -> None:
    block = log(np.full(4, 0.25), some=np.array([0.7, 0.1, 0.1, 0.1]))
    block = replace(block, reward=np.full(len(block), earned))
    report = judge(block)
    assert status(report, "rewards") is Verdict.REFUSE
    assert report.targets[SOME.name].difference.estimate is None
    assert f"every row earned {earned:g}" in " ".join(c.message for c in report.checks)
    candidate = report.targets[SOME.name]
    verdict, reason, _ = gate(candidate, candidate, "uniform", report.checks)
    assert (verdict, "cannot judge it: every row earned" in reason) == ("rejected", True)
