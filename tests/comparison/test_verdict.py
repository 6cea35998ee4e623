"""Words for what is known of variants."""

from dataclasses import replace

import numpy as np
import pytest

from artwork_bandit.comparison.verdict import LONGEST_DAYS, Word, decide
from artwork_bandit.estimators.contrast import Drawn, contrast
from tests.estimators.test_contrast import uniform

NAMES = ["one", "two", "three"]


def said(rates: list[float], rows: int, running: list[int] | None = None, baseline: int = 0,
         a_day: float = 100.0, seed: int = 1):  # fmt: skip
    found = contrast(uniform(np.random.default_rng(seed), rows, rates))
    where = np.arange(len(rates)) if running is None else np.array(running)
    return decide(found, where, baseline, NAMES, a_day)


def test_one_ahead_of_all_is_the_winner() -> None:
    verdict = said([0.1, 0.1, 0.3], 10_000)
    assert (verdict.word, verdict.leader) == (Word.WINNER, 2)
    assert verdict.gain == pytest.approx(2.0, rel=0.25)
    assert "three is ahead of every other" in verdict.reason


def test_the_baseline_may_be_the_winner() -> None:
    verdict = said([0.3, 0.1, 0.1], 10_000)
    assert (verdict.word, verdict.leader, verdict.gain) == (Word.WINNER, 0, 0.0)


def test_two_ahead_of_the_baseline_are_likely_with_the_other_named() -> None:
    verdict = said([0.1, 0.3, 0.3], 10_000)
    assert verdict.word is Word.LIKELY
    assert verdict.leader in (1, 2)
    other = NAMES[3 - verdict.leader]
    assert f"{other} may be as good" in verdict.reason
    assert verdict.days_left is not None


def test_a_variant_that_has_just_come_leaves_it_at_likely_until_it_is_known() -> None:
    log = uniform(np.random.default_rng(4), 10_000, [0.1, 0.3])
    late = uniform(np.random.default_rng(5), 120, [0.1, 0.3, 0.3])
    both = replace(
        log, eligible=np.array([[True, True, False], [True, True, True]]),
        **{
            name: np.concatenate([getattr(log, name), getattr(late, name)])
            for name in ("bucket", "variant", "rows", "plays", "weight", "weight2",
                         "weighted_plays", "cell")
        },
        day=np.repeat([0, 1], [10_000, 120]), action_set=np.repeat([0, 1], [10_000, 120]),
    )  # fmt: skip
    verdict = decide(contrast(both), np.arange(3), 0, NAMES, 100.0)
    assert (verdict.word, verdict.leader) == (Word.LIKELY, 1)
    assert "three may be as good" in verdict.reason
    assert verdict.days_left > 0


def test_the_same_for_long_is_no_difference() -> None:
    verdict = said([0.4, 0.4, 0.4], 300_000)
    assert verdict.word is Word.NONE
    assert "10%" in verdict.reason


def test_a_little_log_says_who_was_seen_too_little_and_how_long_it_takes() -> None:
    verdict = said([0.2, 0.2, 0.2], 90)
    assert verdict.word is Word.WAIT
    assert "seen too little" in verdict.reason
    assert verdict.days_left is not None
    assert 1 <= verdict.days_left <= 10  # at 100 a day some 300 rows are enough to begin with


def test_days_shrink_as_rows_come() -> None:
    days = [said([0.15, 0.15, 0.15], n, a_day=1000.0).days_left for n in (10_000, 40_000)]
    assert days[0] is not None
    assert days[1] is not None
    assert LONGEST_DAYS >= days[0] > days[1] > 0


def test_without_traffic_nobody_can_tell_how_long() -> None:
    assert said([0.2, 0.2, 0.2], 90, a_day=0.0).days_left is None


def test_one_running_variant_is_nothing_to_compare() -> None:
    assert said([0.2, 0.2, 0.2], 5_000, running=[1], baseline=1).word is Word.SINGLE


def test_a_stopped_variant_does_not_hold_up_a_winner() -> None:
    verdict = said([0.1, 0.3, 0.3], 10_000, running=[0, 2])
    assert (verdict.word, verdict.leader) == (Word.WINNER, 2)


def test_what_few_decisions_have_in_common_tells_nothing() -> None:
    """One was retired as another began: each has been seen much, but hardly beside the other."""
    words = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        apart = [drawn_alone(rng, 5_000, variant) for variant in (0, 1)]
        both = uniform(rng, 10, [0.1, 0.1])
        parts = [*apart, both]
        eligible = np.array([[True, False, True], [False, True, True], [True, True, False]])
        log = replace(
            both, eligible=eligible,
            action_set=np.repeat([0, 1, 2], [len(p.rows) for p in parts]),
            **{
                name: np.concatenate([getattr(p, name) for p in parts])
                for name in ("day", "bucket", "variant", "rows", "plays", "weight", "weight2",
                             "weighted_plays", "cell")
            },
        )  # fmt: skip
        found = contrast(log)
        assert found.told[:2].all()
        assert not found.enough[0, 1]
        words.append(decide(found, np.array([0, 1]), 0, NAMES, 100.0))
    assert {verdict.word for verdict in words} == {Word.WAIT}
    assert all("could hardly ever be shown to the same members" in v.reason for v in words)


def drawn_alone(rng: np.random.Generator, rows: int, variant: int) -> Drawn:
    """Decisions between one variant and a third."""
    log = uniform(rng, rows, [0.1, 0.1])
    return replace(log, variant=np.where(log.variant == 0, variant, 2))


def test_what_leads_all_it_can_be_compared_with_says_so() -> None:
    """The third was hardly ever shown beside the first, which beats the second."""
    rng = np.random.default_rng(1)
    two = uniform(rng, 10_000, [0.4, 0.1])
    third = uniform(rng, 5_000, [0.1, 0.1])
    third = replace(third, variant=2 + third.variant)  # beside a fourth
    few = uniform(rng, 10, [0.4, 0.1, 0.1])
    parts = [two, third, few]
    eligible = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0]], bool)
    log = replace(
        two, eligible=eligible, action_set=np.repeat([0, 1, 2], [len(p.rows) for p in parts]),
        **{
            name: np.concatenate([getattr(p, name) for p in parts])
            for name in ("day", "bucket", "variant", "rows", "plays", "weight", "weight2",
                         "weighted_plays", "cell")
        },
    )  # fmt: skip
    said_of = decide(contrast(log), np.array([0, 1, 2]), 0, NAMES, 100.0)
    assert (said_of.word, said_of.leader, said_of.days_left) == (Word.WAIT, 0, None)
    assert said_of.reason == (
        "one is ahead of all it can be compared with, and nothing tells of three"
    )
