"""Explore, live and challenger cell as one log: its propensities are exact, and their weights
smaller."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from artwork_bandit.domain import instant, microseconds
from artwork_bandit.errors import InvalidInput
from artwork_bandit.evaluation.evidence import Method
from artwork_bandit.evaluation.question import Question
from artwork_bandit.evaluation.report import as_json
from artwork_bandit.evaluation.results import Report
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.evaluation.verdict import Verdict
from artwork_bandit.operations import judge, log_import
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.operations.together import (
    SETTLING,
    Apart,
    Timeline,
    Together,
    judged,
    together,
    together_if_told,
)
from artwork_bandit.policies.policy import Policy, Uniform
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import cells, migrate, parquet, registry, replay, tables
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import models
from artwork_bandit.store.window import Window
from tests.operations.test_guard import two_models
from tests.samples import NOW, fill
from tests.simulated import Simulation
from tests.test_cli import run

ARTWORK = SLOTS["artwork"]
SHARES = {"explore": 0.2, "baseline": 0.1, "live": 0.7}


def lived(simulation: Simulation) -> tuple[ReplaySource, Policy]:
    """Let a bad model serve, and another; return the log since, and what a good one would do."""
    store = simulation.service.store
    good, bad = two_models(simulation, 900)
    simulation.now += dt.timedelta(days=30)
    with store.write() as connection:
        cells.set_shares(connection, SHARES)
        registry.promote(connection, bad, "for the test", simulation.now)
        policy = registry.load(connection, good).policy(good)
    simulation.service.state.refresh()
    simulation.now += SETTLING
    begun = simulation.now
    simulation.visits(900)
    with store.write() as connection:
        registry.promote(connection, good, "for the test", simulation.now)
    simulation.service.state.refresh()
    simulation.visits(400)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    return ReplaySource.of(store, None, "artwork", since=begun), policy


def test_weights_are_exact_and_smaller_than_each_cell_s_own(simulation: Simulation) -> None:
    source, policy = lived(simulation)
    mixed = together(source)
    own, both = (list(s.blocks()) for s in (source, mixed))
    rows = np.concatenate([b.occurred_at for b in both])
    assert len(rows) < sum(map(len, own))  # those of the baseline, and after the promotion
    assert {c for b in both for c in b.cells} == {"explore", "live"}
    targets = [Target(name="good", policy=policy), Target(name="uniform", policy=Uniform())]
    question = Question(
        targets=tuple(targets), lookup=source.lookup, method=Method(bounds=(0.0, 1.0))
    )
    plain, told = (judge.answer(s, question) for s in (source, mixed))
    assert all(check.status is Verdict.OK for check in told.checks), told.checks
    for target in targets:
        assert target.policy is not None
        found, before = told.targets[target.name], plain.targets[target.name]
        truth = simulation.true_value(target.policy)
        assert found.estimators["ips"].lower < truth < found.estimators["ips"].upper
        assert abs(found.support.mean_weight - 1) < 0.15
        assert found.support.largest < 0.5 * before.support.largest
        assert found.support.effective_sample_size > 1.3 * before.support.effective_sample_size
    # Another share of the explore cell would be found out.
    wrong = replace(mixed, mixture=replace(mixed.mixture, shares=Timeline.of((0.9, 0.1, 0.0), [])))
    off = judge.answer(wrong, question)
    right, far = (
        next(c.value for c in report.checks if c.name == "counts_against_propensities")
        for report in (told, off)
    )
    assert abs(right) < 3
    assert abs(far) > 10


def tried(simulation: Simulation) -> tuple[ReplaySource, int, int]:
    """Let nobody challenge a bad model, then a good one, then nobody; return the log, and both."""
    store = simulation.service.store
    good, bad = two_models(simulation, 900)
    simulation.now += dt.timedelta(days=30)
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=simulation.now)
        editor.set_cells({"explore": 0.15, "baseline": 0.05, "live": 0.4, "challenger": 0.4})
        registry.promote(connection, bad, "for the test", simulation.now)
    begun = simulation.now + SETTLING

    def visits(action: str, *arguments: Any) -> None:
        if action:
            simulation.now += dt.timedelta(minutes=1)
            edited(simulation, action, *arguments)
        simulation.service.state.refresh()
        simulation.now += 2 * SETTLING
        simulation.visits(500)

    visits("")
    visits("challenge", good)
    visits("end_challenge", "artwork")
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    return ReplaySource.of(store, None, "artwork", since=begun), good, bad


def edited(simulation: Simulation, action: str, *arguments: Any) -> None:
    with simulation.service.store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=simulation.now)
        getattr(editor, action)(*arguments)


def rows_of(source: ReplaySource, cell: str) -> int:
    return sum(int((block.cells == cell).sum()) for block in source.blocks())


def test_what_challengers_showed_is_weighed_too(simulation: Simulation) -> None:
    source, good, _ = tried(simulation)
    store, mixed = simulation.service.store, together(source)
    assert rows_of(mixed, "challenger") == rows_of(source, "challenger") > 400
    with store.read() as connection:
        policy = registry.load(connection, good).policy(good)
        course = registry.challenging(connection, "artwork")
    assert [version for _, version in course] == [good, None]
    targets = (Target(name="good", policy=policy), Target(name="uniform", policy=Uniform()))
    question = Question(targets=targets, lookup=source.lookup, method=Method(bounds=(0.0, 1.0)))
    challenged = source.narrowed(*(at for at, _ in course))
    without = replace(together(challenged).mixture, known_since=None)
    told, fewer = (
        judge.answer(log, question)
        for log in (together(challenged), replace(together(challenged), mixture=without))
    )
    whole = judge.answer(mixed, question)
    for report in (told, fewer, whole):
        assert all(check.status is Verdict.OK for check in report.checks), report.checks
        for target in targets:
            found = report.targets[target.name]
            assert abs(found.support.mean_weight - 1) < 0.15
            ips = found.estimators["ips"]
            assert abs(ips.estimate - simulation.true_value(target.policy)) < 3 * ips.standard_error
    assert fewer.rows + rows_of(challenged, "challenger") == told.rows
    most, before = (report.targets["good"].support for report in (told, fewer))
    assert most.largest < 0.5 * before.largest
    assert most.effective_sample_size > 2 * before.effective_sample_size
    # Had somebody else challenged, it would be found out.
    other = replace(mixed.mixture, challengers=Timeline.of(None, []))
    off = judge.answer(replace(mixed, mixture=other), question)
    assert abs(off.targets["good"].support.mean_weight - 1) > 0.15


def test_where_nobody_knows_who_challenged_the_others_are_weighed(simulation: Simulation) -> None:
    source, good, _ = tried(simulation)
    store, challenges = simulation.service.store, tables.challenges
    all_rows = rows_of(together(source), "challenger")
    with store.write() as connection:
        connection.execute(sa.update(models).where(models.c.version == good).values(bundle=b"?"))
    assert 0 < (unread := rows_of(together(source), "challenger")) < all_rows
    with store.write() as connection:  # as of a release that kept no course
        connection.execute(sa.delete(challenges).where(challenges.c.model_version == good))
    assert 0 < rows_of(together(source), "challenger") < unread
    with store.write() as connection:  # a server of that release let it challenge
        row = {"slot": "artwork", "model_version": good, "since": simulation.now}
        connection.execute(sa.insert(tables.challengers).values(row))
    mixed = together(source)
    assert rows_of(mixed, "challenger") == 0
    assert rows_of(mixed, "live") == rows_of(source, "live")


def test_read_again_and_narrowed_it_is_the_same(simulation: Simulation) -> None:
    source, _ = lived(simulation)
    mixed = together(source)

    def told(log: Together) -> list[tuple[str, float]]:
        return [
            (i, p)
            for b in log.blocks()
            for i, p in zip(b.decision_ids.tolist(), b.propensity.tolist(), strict=True)
        ]

    whole = told(mixed)
    with mixed.again(with_contexts=False) as log:
        for _ in range(2):
            again = [i for b in log.blocks("plain") for i in b.decision_ids.tolist()]
            assert again == [i for i, _ in whole]
    half = source.quantile(0.5)
    parts = (source.narrowed(source.window.since, half), source.narrowed(half, None))
    assert [row for part in map(together, parts) for row in told(part)] == whole


def test_what_cannot_be_told_together_is_not(simulation: Simulation, tmp_path: Path) -> None:
    source, _ = lived(simulation)
    store = simulation.service.store
    path = tmp_path / "log.parquet"
    parquet.write(path, replay.blocks(store, Window()))
    in_file = ReplaySource.of(store, path, "artwork")
    with pytest.raises(Apart, match="a log in files does not say which models served"):
        together(in_file)
    assert together_if_told(in_file) is in_file
    with store.write() as connection:
        cells.set_shares(connection, {"live": 1.0})
    with pytest.raises(Apart, match="one alone has had members"):
        together(source)


def test_where_all_rows_are_of_the_hour_after_a_change_the_command_says_so(
    simulation: Simulation, database_url: str
) -> None:
    source, _ = lived(simulation)
    span = source.span()
    with simulation.service.store.write() as connection:
        version = registry.live(connection, "artwork").version
        for at in range(span.first, span.last, 30 * 60 * 1_000_000):
            registry.promote(connection, version, "for the test", instant(at))
    since = instant(span.first).isoformat()
    ask = ("evaluate", "--target", "uniform", "--together", "--from", since)
    rows = source.rows()
    said = run(*ask, database=database_url, code=1)
    assert f"all {rows:,} rows are of the baseline cell, or of the hour after shares or" in said
    assert "or without --together" in said


def test_each_row_knows_the_shares_of_its_time(simulation: Simulation) -> None:
    source, policy = lived(simulation)
    store = simulation.service.store
    whole = [r for b in together(source).blocks() for r in b.propensity.tolist()]
    simulation.now += dt.timedelta(minutes=10)
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=simulation.now)
        editor.set_cells({"live": 0.4, "explore": 0.6})
    set_at = simulation.now
    simulation.service.state.refresh()
    simulation.visits(60)
    simulation.now += SETTLING
    simulation.visits(900)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    mixed = together(source)
    assert mixed.mixture.shares.values == [(0.2, 0.7, 0.0), (0.6, 0.4, 0.0)]
    told = list(mixed.blocks())
    at, propensity, reached = (
        np.concatenate(x)
        for x in zip(*((b.occurred_at, b.propensity, 1 / b.sizes) for b in told), strict=True)
    )
    later = at >= microseconds(set_at)
    assert propensity[~later].tolist() == whole
    assert at[later].min() >= microseconds(set_at + SETTLING)
    assert propensity[later].min() >= 0.6 * reached.min()
    assert propensity[~later].min() < 0.5 * reached.min()
    question = Question(
        targets=(Target(name="good", policy=policy), Target(name="uniform", policy=Uniform())),
        lookup=source.lookup, method=Method(bounds=(0.0, 1.0)),
    )  # fmt: skip
    report = judge.answer(mixed, question)
    assert report.apart == source.rows() - report.rows > 0
    assert (report.first, report.last) == (at.min(), at.max())
    assert "weighed as one policy's log" in report.notes[0]
    assert as_json(report, "database", 1, [])["log"]["propensities"] == "together"
    assert all(check.status is Verdict.OK for check in report.checks), report.checks
    for target in report.targets.values():
        assert abs(target.support.mean_weight - 1) < 0.15
    # After the first shares are long past nobody asks for them.
    since = source.narrowed(set_at + SETTLING, None)
    assert together(since).mixture.shares.values == [(0.6, 0.4, 0.0)]
    with pytest.raises(InvalidInput, match="cells weighed as one policy's log cannot be told"):
        judge.judge(mixed, ["uniform"], by="cell")


def test_what_was_in_force_between_changes_that_clocks_disagree_of_is_unsure() -> None:
    """The second of three changes was made on a host whose clock is three days ahead: an hour, or
    less, after the first."""
    hour = dt.timedelta(hours=1)
    made = [NOW, NOW + 72 * hour, NOW + 2 * hour]
    line = Timeline.of("a", list(zip(made, "bcd", strict=True)))
    moments = np.array([microseconds(NOW + h * hour) for h in (-1, 1.5, 2.5, 50, 71, 72.5, 74)])
    place, settled = line.at(moments)
    assert [line.values[i] for i in place[[0, 1, 5, 6]]] == ["a", "b", "d", "d"]
    assert settled.tolist() == [True, False, False, False, False, False, True]
    agreed = Timeline.of("a", list(zip(sorted(made), "bcd", strict=True)))
    assert agreed.at(moments)[1].tolist() == [True, True, False, True, True, False, True]
    later = line.later(microseconds(NOW + 80 * hour))
    assert later.at(moments[-1:])[1].tolist() == [True]


def test_what_is_paused_is_left_out(simulation: Simulation) -> None:
    source, _ = lived(simulation)
    mixed = together(source)
    (block,) = replay.blocks(simulation.service.store, source.window)
    certain = block.take(np.isin(block.cells, ["explore", "live"]))
    certain = replace(certain, propensity=np.ones(len(certain)))
    assert list(mixed.mixture.blocks([certain])) == []
    assert sum(map(len, mixed.mixture.blocks([block]))) > 0


def test_rows_of_a_model_that_cannot_be_read_are_left_out(simulation: Simulation) -> None:
    source, _ = lived(simulation)
    with simulation.service.store.write() as connection:
        connection.execute(sa.update(models).where(models.c.version == 2).values(bundle=b"?"))
    mixed = together(source)
    with simulation.service.store.read() as connection:
        promoted = registry.promoted(connection, "artwork")[-1][0]
    rows = [at for block in mixed.blocks() for at in block.occurred_at.tolist()]
    assert rows
    assert min(rows) >= microseconds(promoted + SETTLING)


def test_imported_rows_are_nobody_s_of_these_cells(simulation: Simulation, tmp_path: Path) -> None:
    """They are judged all the same, each by its own propensity."""
    simulation.visits(900)
    store, settings = simulation.service.store, simulation.settings
    join_rewards(store, ARTWORK, settings, simulation.later())
    path = tmp_path / "log.parquet"
    parquet.write(path, replay.blocks(store, Window()))
    other = Store(f"sqlite:///{tmp_path}/other.db")
    migrate.migrate(other)
    fill(other, 6)
    log_import.import_log(other, path, settings, simulation.later(), dry_run=False)
    with pytest.raises(Apart, match="rows were imported"):
        together(ReplaySource.of(other, None, "artwork"))
    assert retrain(other, ARTWORK, settings, simulation.later()).verdict == "live"
    other.close()


def test_where_both_cells_together_tell_too_little_all_rows_are_asked(
    simulation: Simulation,
) -> None:
    store = simulation.service.store
    _, bad = two_models(simulation, 900)
    promoted_at = simulation.now
    with store.write() as connection:
        cells.set_shares(connection, {"explore": 0.8, "live": 0.2})
        registry.promote(connection, bad, "for the test", simulation.now)
    simulation.service.state.refresh()
    simulation.visits(300)  # within the hour
    made = retrain(store, ARTWORK, simulation.settings, simulation.later())
    assert made.metrics["difference"] is not None, made.reason
    source = ReplaySource.of(store, None, "artwork", since=promoted_at)
    assert judge.judge(together(source), ["uniform"])[0].targets["uniform"].verdict == "REFUSE"
    report, _ = judged(source, ["uniform"])
    assert report.targets["uniform"].verdict != "REFUSE"
    assert report.apart is None


@pytest.mark.parametrize(("shares", "both"), [(SHARES, True), ({"explore": 1.0}, False)])
def test_the_gate_judges_both_cells_together_where_it_can(
    simulation: Simulation, shares: dict[str, float], both: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, judged = simulation.service.store, list[ReplaySource]()
    simulation.visits(900)
    retrain(store, ARTWORK, simulation.settings, simulation.later())
    simulation.now += dt.timedelta(days=30)
    with store.write() as connection:
        cells.set_shares(connection, shares)
    simulation.service.state.refresh()
    simulation.visits(900)
    answer = judge.answer

    def answers(source: ReplaySource, question: Question, **more: Any) -> Report:
        judged.append(source)
        return answer(source, question, **more)

    monkeypatch.setattr(judge, "answer", answers)
    made = retrain(store, ARTWORK, simulation.settings, simulation.later())
    assert [isinstance(source, Together) for source in judged] == [both]  # and it told enough
    assert made.metrics["difference"] is not None
