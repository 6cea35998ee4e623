"""Titles whose variants come, go and change: compared on the decisions they have in common."""

import dataclasses

import numpy as np
import pytest

from artwork_bandit.comparison import drawn
from artwork_bandit.comparison.segments import by_segment
from artwork_bandit.comparison.variants import Comparison, of_rows
from artwork_bandit.comparison.verdict import Word
from artwork_bandit.domain import ActionSet, Context, Variant, VariantStatus
from artwork_bandit.operations import summing
from artwork_bandit.policies.segments import Segments
from artwork_bandit.store.rewards import SettledUnit
from artwork_bandit.store.rollups import BUCKETS, Rollup

A_DAY = 960


def variants(*names: str) -> list[Variant]:
    return [
        Variant(variant_id=name, title_id="t", slot="artwork", uri=f"/{name}.svg",
                is_default=name == "a")
        for name in names
    ]  # fmt: skip


def a_set(number: int, names: str, revisions: tuple[int, ...] = ()) -> ActionSet:
    return ActionSet(
        action_set_id=number, title_id="t", slot="artwork", revision_ids=revisions,
        variant_ids=tuple(names),
    )  # fmt: skip


def days(
    first: int, count: int, shown: ActionSet, rates: dict[str, float], a_day: int = A_DAY
) -> list[Rollup]:
    """Uniform choices, each variant played by its rate, as evenly as whole numbers allow."""
    rng = np.random.default_rng([first, shown.action_set_id])
    k, each = len(shown.variant_ids), a_day // BUCKETS // len(shown.variant_ids)
    rows = []
    for day in range(first, first + count):
        for bucket in range(BUCKETS):
            for name in shown.variant_ids:
                plays = int(rng.binomial(each, rates[name]))
                rows.append(
                    Rollup(
                        day=day,
                        action_set_id=shown.action_set_id,
                        cell="explore",
                        variant_id=name,
                        bucket=bucket,
                        impressions=each,
                        units=each,
                        plays=plays,
                        drawn=each,
                        drawn_plays=plays,
                        weight=float(each * k),
                        weight2=float(each * k**2),
                        weighted_plays=float(plays * k),
                    )
                )
    return rows


def compared(
    known: list[Variant], rows: list[Rollup], *sets: ActionSet, earlier: tuple[int, ...] = ()
) -> Comparison:
    rows, named = drawn.with_earlier_named(rows, {s.action_set_id: s for s in sets}, set(earlier))
    return of_rows("t", "artwork", known, rows, named, 0.05, None)


def test_another_picture_is_compared_from_then_on() -> None:
    before, after = a_set(1, "ab", (1, 2)), a_set(2, "ab", (1, 3))
    rows = days(0, 28, before, {"a": 0.1, "b": 0.2})
    rows += days(28, 28, after, {"a": 0.1, "b": 0.05})
    pooled = compared(variants("a", "b"), rows, before, after)
    assert (pooled.verdict.word, pooled.verdict.leader) == (Word.WINNER, 1)
    found = compared(variants("a", "b"), rows, before, after, earlier=(2,))
    assert (found.verdict.word, found.verdict.leader) == (Word.WINNER, 0)
    b = found.rows[1]
    assert b.corrected.estimate == pytest.approx(0.05, abs=0.01)
    assert b.raw.rate == pytest.approx(0.05, abs=0.01)
    assert b.impressions == b.earlier == found.units // 4


def test_the_leader_is_ahead_on_common_decisions_not_of_other_days() -> None:
    early, late = a_set(1, "ab"), a_set(2, "abc")
    rows = days(0, 30, early, {"a": 0.05, "b": 0.08})
    rows += days(30, 28, late, {"a": 0.15, "b": 0.24, "c": 0.18})
    found = compared(variants("a", "b", "c"), rows, early, late)
    _, b, c = found.rows
    assert c.corrected.estimate > b.corrected.estimate  # it was there on the better days only
    assert (found.verdict.word, found.verdict.leader) == (Word.WINNER, 1)
    assert b.lift.estimate > c.lift.estimate
    assert b.chance_to_be_best > 0.99
    effects = summing.effects_of(found)
    assert effects["b"][0] > effects["c"][0] > effects["a"][0]
    assert sum(effect * worth for effect, worth in effects.values()) == pytest.approx(0)


def test_lifts_are_over_the_baseline_on_the_same_days() -> None:
    alone, both = a_set(1, "a"), a_set(2, "ac")
    rows = days(0, 28, alone, {"a": 0.1}) + days(28, 28, both, {"a": 0.02, "c": 0.04})
    found = compared(variants("a", "c"), rows, alone, both)
    assert found.rows[1].lift.lower < 1.0 < found.rows[1].lift.upper
    assert found.rows[1].lift.estimate == pytest.approx(1.0, abs=0.3)
    assert found.verdict.leader == 1
    assert found.verdict.gain == found.rows[1].lift.estimate


def test_what_was_never_shown_to_the_same_members_is_not_compared() -> None:
    here, there = a_set(1, "a"), a_set(2, "b")
    rows = days(0, 28, here, {"a": 0.1}) + days(0, 28, there, {"b": 0.3})
    found = compared(variants("a", "b"), rows, here, there)
    assert found.verdict.word is Word.WAIT
    assert "never be shown to the same members" in found.verdict.reason
    assert (found.verdict.gain, found.verdict.leader, found.verdict.days_left) == (None,) * 3
    assert found.rows[1].lift.estimate is None
    assert "never shown to the same" in found.rows[1].lift.reason
    assert [row.chance_to_be_best for row in found.rows] == [None, None]
    for row in found.rows:
        assert row.corrected.estimate == pytest.approx(row.raw.rate, abs=1e-9)


def test_nothing_is_said_beside_a_week_that_is_not_to_be_trusted() -> None:
    shown = a_set(1, "ab")
    sound = days(0, 28, shown, {"a": 0.1, "b": 0.3})
    lost = [  # half of b's impressions of one week never came
        row._replace(drawn=row.drawn // 2, units=row.units // 2, weight=row.weight / 2,
                     weight2=row.weight2 / 2)
        if row.variant_id == "b" and row.day < 7 else row
        for row in sound
    ]  # fmt: skip
    assert compared(variants("a", "b"), sound, shown).verdict.word is Word.WINNER
    found = compared(variants("a", "b"), lost, shown)
    assert found.warning is not None
    assert found.verdict.word is Word.WAIT
    assert "not to be trusted" in found.verdict.reason


def test_that_nobody_plays_a_variant_is_known_and_holds_up_no_winner() -> None:
    shown = a_set(1, "abc")
    rows = days(0, 28, shown, {"a": 0.1, "b": 0.0, "c": 0.2})
    found = compared(variants("a", "b", "c"), rows, shown)
    assert (found.verdict.word, found.verdict.leader) == (Word.WINNER, 2)
    b = found.rows[1]
    assert b.corrected.estimate == pytest.approx(0, abs=1e-12)
    assert 0 < b.corrected.upper < 0.01
    assert b.lift.reason == "one of the two is hardly ever played"


def test_a_star_needs_all_running_variants_known() -> None:
    rng = np.random.default_rng(3)
    sets = {1: a_set(1, "ab"), 2: a_set(2, "abc")}
    units = []
    for i in range(6000):
        shown = sets[1 if i < 5850 else 2]  # c came last
        name = shown.variant_ids[int(rng.integers(len(shown.variant_ids)))]
        units.append(
            SettledUnit(
                day=i // 1000,
                action_set_id=shown.action_set_id,
                cell="explore",
                variant_id=name,
                member_bucket=int(rng.integers(256)),
                propensity=1 / len(shown.variant_ids),
                quality_play=int(rng.random() < {"a": 0.1, "b": 0.4, "c": 0.6}[name]),
                context=Context(),
            )
        )
    known = variants("a", "b", "c")
    (row,) = by_segment(units, sets, known, Segments("device"), "t", 0.05)
    assert row.rates[2].estimate is None
    assert row.best is None
    stopped = [*known[:2], dataclasses.replace(known[2], status=VariantStatus.PAUSED)]
    (row,) = by_segment(units, sets, stopped, Segments("device"), "t", 0.05)
    assert row.best == 1


def test_another_systems_log_is_taken_to_draw_as_it_says() -> None:
    sets = {1: a_set(1, "abc")}
    rows = [row._replace(cell="imported") for row in days(0, 7, sets[1], dict.fromkeys("abc", 0.1))]
    assert drawn.table(rows, sets, list("abc"), 0.05).even_share.tolist() == [1.0]
    seldom = [row._replace(weight=row.weight * 20, weight2=row.weight2 * 400) for row in rows[:9]]
    found = drawn.table([*rows, *seldom], sets, list("abc"), 0.05).even_share
    assert found.tolist() == pytest.approx([0.05])
    found = drawn.table([*rows, *seldom], sets, list("abc"), 0.2).even_share
    assert found.tolist() == pytest.approx([0.05])
