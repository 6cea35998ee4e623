"""The loop: a log made by the service trains, is judged, goes live; and what is judged is true."""

import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from artwork_bandit.comparison.cells import compare
from artwork_bandit.domain import Context, ReplayBlock
from artwork_bandit.errors import BrokenModel, Conflict, InvalidInput, NotEnoughData
from artwork_bandit.evaluation.verdict import Check, Verdict
from artwork_bandit.operations import log_import, reporting
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.gate import gate
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.judge import judge
from artwork_bandit.operations.planning import priors_for
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.retrain import retrain
from artwork_bandit.policies.block import InMemory
from artwork_bandit.policies.policy import Fixed, Uniform
from artwork_bandit.policies.priors import Priors
from artwork_bandit.serving.state import LiveState
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import cells, parquet, registry, replay
from artwork_bandit.store.engine import Store
from artwork_bandit.store.model_files import ModelFiles
from artwork_bandit.store.tables import events, models, rewards
from artwork_bandit.store.window import Window
from artwork_bandit.training import train as training
from tests.simulated import Simulation

ARTWORK = SLOTS["artwork"]
GREEDY = training.Settings(priors=lambda rows: Priors(), form="greedy")


def source(simulation: Simulation) -> ReplaySource:
    return ReplaySource.of(simulation.service.store, None, "artwork", None, None)


def test_a_model_goes_live_and_earns_more(simulation: Simulation) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(1500)
    outcome = retrain(store, ARTWORK, settings, simulation.later())
    assert outcome.promoted, outcome.reason
    assert simulation.service.state.refresh()
    policy, _ = simulation.service.state.current.policies["artwork", "live"]
    assert policy.model_version == outcome.version
    gain = simulation.true_value(policy) / simulation.true_value(Uniform())
    assert gain > 1.1
    with store.read() as connection:
        record = registry.get(connection, outcome.version)
    assert record.status == "live"
    assert record.reason == outcome.reason
    assert record.window_to is not None
    assert record.metrics["difference_lower"] is not None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_estimates_cover_the_known_value_on_a_log_of_several_cells(
    store: Store, database_url: str
) -> None:
    """Explore and live cells, two model versions, members who repeat over two periods."""
    shares = {"explore": 0.7, "baseline": 0.1, "live": 0.2}
    simulation = Simulation.begin(store, database_url, members=1500, shares=shares)
    simulation.visits(1500)
    retrain(store, ARTWORK, simulation.settings, simulation.later())
    simulation.service.state.refresh()
    simulation.now += ARTWORK.period
    simulation.visits(1500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    names = {"uniform": Uniform(), "baseline": Fixed()}
    report, _ = judge(source(simulation), list(names))
    assert report.certain_share > 0  # the baseline cell's rows left
    for name, policy in names.items():
        truth = simulation.true_value(policy)
        judged = report.targets[name]
        assert judged.verdict is not Verdict.REFUSE, judged.checks
        for estimator in ("ips", "snips", "dr"):
            found = judged.estimators[estimator]
            assert found.lower < truth < found.upper, (name, estimator, truth, found)
    simulation.service.state.close()


def test_events_that_are_late_or_before_their_impression_are_told(simulation: Simulation) -> None:
    store = simulation.service.store
    simulation.visits(1500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())

    def status() -> dict[str, str]:
        report, _ = judge(source(simulation), ["uniform"])
        return {c.name: c.status.value for c in report.checks if "events" in c.name}

    assert status() == {"late_events": "OK", "events_before_impressions": "OK"}
    followed = events.c.type != "impression"
    with store.write() as connection:
        connection.execute(sa.update(events).where(followed).values(unjoined="late"))
    assert status() == {"late_events": "CAUTION", "events_before_impressions": "OK"}
    earlier = sa.type_coerce(events.c.occurred_at, sa.BigInteger) - 3_600_000_000
    with store.write() as connection:
        values = {"unjoined": None, "occurred_at": earlier}
        connection.execute(sa.update(events).where(followed).values(values))
    assert status() == {"late_events": "OK", "events_before_impressions": "CAUTION"}


def test_training_twice_on_the_same_log_gives_the_same_bytes(simulation: Simulation) -> None:
    store = simulation.service.store
    simulation.visits(300)
    first = retrain(store, ARTWORK, simulation.settings, simulation.later())
    second = retrain(store, ARTWORK, simulation.settings, simulation.later())
    with store.read() as connection:
        hashes = {registry.get(connection, o.version).sha256 for o in (first, second)}
    assert len(hashes) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_gate_does_not_promote_what_is_no_better(simulation: Simulation) -> None:
    store, settings = simulation.service.store, simulation.settings
    simulation.visits(1500)
    first = retrain(store, ARTWORK, settings, simulation.later())
    again = retrain(store, ARTWORK, settings, simulation.later())
    assert first.promoted
    assert again.verdict == "rejected"  # the same model
    assert "on every held-out row" in again.reason
    with store.read() as connection:
        assert registry.get(connection, again.version).status == "rejected"
        assert registry.live(connection, "artwork").version == first.version


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_gate_says_which_of_three_and_why(simulation: Simulation) -> None:
    def judged(lower: float, estimate: float, upper: float, more: float = 1.0) -> tuple[str, str]:
        value = Estimate(estimate=0.1, lower=0.09, upper=0.11)
        difference = Estimate(estimate=estimate, lower=lower, upper=upper)
        candidate = replace(sound, estimators={"dr": value}, difference=difference)
        incumbent = replace(sound, estimators={"dr": value})
        verdict, reason, metrics = gate(candidate, incumbent, "model 1", more=more)
        assert metrics["margin"] == pytest.approx(0.01)
        return verdict, reason

    simulation.visits(1500)
    join_rewards(simulation.service.store, ARTWORK, simulation.settings, simulation.later())
    report, _ = judge(source(simulation), ["uniform"])
    sound = report.targets["uniform"]
    Estimate = type(sound.estimators["dr"])  # noqa: N806
    assert judged(0.001, 0.004, 0.007)[0] == "live"
    assert judged(-0.009, 0.004, 0.007)[0] == "live"
    assert judged(-0.011, 0.004, 0.02)[0] == "challenger"  # could be worse by more than 10%
    assert judged(-0.009, -0.004, 0.001)[0] == "challenger"
    assert judged(-0.02, -0.011, 0.001)[0] == "rejected"
    assert judged(-0.009, -0.004, -0.001)[0] == "rejected"
    assert judged(-0.00001, 1e-7, 0.00001) == (
        "rejected",
        "held-out value +0.0000 against model 1 (95% interval -0.0000 to +0.0000): no better",
    )
    assert judged(-0.5, 0.0, 0.5)[1] == "it earns on every held-out row what model 1 does"
    # What has learned from more since a change may be worse by more, by three times at most.
    assert judged(-0.011, 0.004, 0.02, 0.5)[0] == "challenger"
    assert judged(-0.011, 0.004, 0.02, 1.5) == (
        "live",
        "held-out value +0.0040 against model 1 (95% interval -0.0110 to +0.0200), having learned "
        "from 1.5 times as much since the change",
    )
    assert judged(-0.016, 0.004, 0.02, 1.5)[0] == "challenger"
    assert judged(-0.016, -0.014, 0.02, 1.5)[0] == "challenger"
    assert judged(-0.02, -0.016, 0.02, 1.5)[0] == "rejected"
    assert judged(-0.029, 0.004, 0.02, math.inf)[0] == "live"
    verdict, reason = judged(-0.031, 0.004, 0.02, math.inf)
    assert verdict == "challenger"
    assert "from far more since the change: could be worse by more than 0.0300" in reason
    # Rewards from -1 on: what is earned is counted from there.
    value = Estimate(estimate=0.0, lower=-0.01, upper=0.01)
    difference = Estimate(estimate=0.03, lower=-0.02, upper=0.08)
    candidate = replace(sound, estimators={"dr": value}, difference=difference)
    assert gate(candidate, candidate, "model 1", least=-1.0)[0] == "live"
    assert gate(candidate, candidate, "model 1")[0] == "challenger"
    refused = replace(sound, verdict=Verdict.REFUSE)
    why = [Check(name="rows", status=Verdict.REFUSE, value=0, limit=1, message="why not")]
    assert gate(refused, sound, "uniform", why)[:2] == (
        "rejected", "the held-out log cannot judge it: why not"
    )  # fmt: skip


def test_priors_are_chosen_again_when_the_log_has_doubled(simulation: Simulation) -> None:
    store = simulation.service.store
    chosen = Priors(own=0.4)
    with store.write() as connection:
        registry.register(
            connection, slot="artwork", data=b"", window=(None, None), rows=30_000,
            settings={"priors": msgspec.to_builtins(chosen), "tuned_on_rows": 30_000},
            now=simulation.now,
        )  # fmt: skip
        before = [r.settings for r in registry.list_all(connection, "artwork")]
    assert priors_for("auto", before, 40_000) == chosen
    assert priors_for("auto", before, 60_000) is None
    assert priors_for("auto", [], 40_000) is None
    assert priors_for("auto", before, 10_000) == Priors()  # too few to tell
    assert priors_for("always", before, 10_000) is None
    assert priors_for("never", before, 10**6) == Priors()


def test_the_challenger_serves_its_cell_and_nobody_else(simulation: Simulation) -> None:
    store, state = simulation.service.store, simulation.service.state
    simulation.visits(1500)
    first = retrain(store, ARTWORK, simulation.settings, simulation.later())
    assert first.verdict == "live"
    with store.write() as connection:
        cells.set_shares(connection, {"live": 0.5, "challenger": 0.5})
    state.refresh()
    policies = state.current.policies
    assert policies["artwork", "challenger"][0].model_version == first.version  # there is none yet
    simulation.visits(200)
    second = retrain(store, ARTWORK, simulation.settings, simulation.later())
    with store.write() as connection:
        registry.challenge(connection, second.version, simulation.later())
    state.refresh()
    version = {
        cell: policy.model_version for (_, cell), (policy, _) in state.current.policies.items()
    }
    with store.read() as connection:
        live = registry.live(connection, "artwork")
    simulation.visits(100)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    _, versions = judge(source(simulation), ["uniform", "challenger"])
    assert versions == [second.version]
    with store.read() as connection:
        rows = {row.cell: row for row in compare(connection, "artwork", None, None).cells}
        of_cell = sa.select(sa.func.count()).where(rewards.c.cell == "challenger")
        its_own = of_cell.where(rewards.c.model_version == second.version)
        all_of_cell = connection.execute(of_cell).scalar()
        assert rows["challenger"].take_fraction.count == connection.execute(its_own).scalar()
    assert rows["challenger"].take_fraction.count < all_of_cell  # others had chosen there before
    assert rows["challenger"].model_version == second.version
    assert rows["challenger"].since > rows["live"].since
    policies = state.current.policies
    assert policies["artwork", "challenger"][0].model_version == second.version
    assert policies["artwork", "live"][0].model_version == live.version
    assert set(version) == {"explore", "baseline", "live", "challenger", "paused"}
    with store.write() as connection:
        registry.promote(connection, second.version, "it won", simulation.later())
        assert registry.challenger(connection, "artwork") is None


def test_a_log_too_small_is_refused_in_words(simulation: Simulation) -> None:
    store, settings = simulation.service.store, simulation.settings
    with pytest.raises(NotEnoughData, match="empty"):
        retrain(store, ARTWORK, settings, simulation.later())
    simulation.visits(10)
    with pytest.raises(NotEnoughData, match="at least 200"):
        retrain(store, ARTWORK, settings, simulation.later())


def test_rolling_back_goes_one_model_back_at_a_time(simulation: Simulation) -> None:
    store, settings, now = simulation.service.store, simulation.settings, simulation.now
    simulation.visits(300)
    versions = [retrain(store, ARTWORK, settings, simulation.later()).version for _ in range(2)]
    with store.write() as connection:
        for version in versions:
            registry.promote(connection, version, "by hand", now)
        assert registry.roll_back(connection, "artwork", "test", now) == versions[0]
    with store.write() as connection:
        while registry.live(connection, "artwork") is not None:
            registry.roll_back(connection, "artwork", "test", now)
        with pytest.raises(Conflict):
            registry.roll_back(connection, "artwork", "test", now)


def test_a_model_promoted_again_by_hand_stands_on_the_one_it_replaced(
    simulation: Simulation,
) -> None:
    store, settings, now = simulation.service.store, simulation.settings, simulation.now
    simulation.visits(300)
    first, second = (
        retrain(store, ARTWORK, settings, simulation.later()).version for _ in range(2)
    )
    with store.write() as connection:
        for version in (first, second, first):
            registry.promote(connection, version, "by hand", now)
        # It was live before, too: that is no other model to go back to.
        assert [m.version for m in registry.live_before(connection, "artwork")] == [second]
        assert registry.roll_back(connection, "artwork", "test", now) == second
        assert registry.roll_back(connection, "artwork", "test", now) == first
        # What was gone back from is no refuge if the live model's bytes are broken.
        assert second not in [m.version for m in registry.live_before(connection, "artwork")]


def test_an_undone_promotion_goes_back_to_what_was_live(simulation: Simulation) -> None:
    store, settings, now = simulation.service.store, simulation.settings, simulation.now
    simulation.visits(300)
    first, second = (
        retrain(store, ARTWORK, settings, simulation.later()).version for _ in range(2)
    )
    with store.write() as connection:
        editor = Editor(connection=connection, author="me", now=now)
        while registry.live(connection, "artwork") is not None:
            editor.roll_back("artwork")
        editor.promote(first)
        editor.undo(editor.promote(second))
        assert registry.previous(connection, "artwork") is None
        made = editor.roll_back("artwork")
        editor.undo(made)
        assert registry.previous(connection, "artwork") is None


def test_broken_model_bytes_never_serve(simulation: Simulation, tmp_path: Path) -> None:
    store = simulation.service.store
    simulation.visits(300)
    good = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    bad = retrain(store, ARTWORK, simulation.settings, simulation.later(), seed=2).version
    with store.write() as connection:
        registry.promote(connection, good, "test", simulation.now)
    simulation.service.state.refresh()
    with store.write() as connection:
        data = (
            connection.execute(models.select().where(models.c.version == bad))
            .one()
            ._mapping["bundle"]
        )
        flipped = bytes(data[:-1]) + bytes([data[-1] ^ 1])
        connection.execute(models.update().where(models.c.version == bad).values(bundle=flipped))
        registry.promote(connection, bad, "test", simulation.now)
    simulation.service.state.refresh()
    policy, _ = simulation.service.state.current.policies["artwork", "live"]
    assert policy.model_version == good  # the one before stays
    fresh = LiveState(store, b"key", 3600, ModelFiles(tmp_path))
    assert fresh.current.policies["artwork", "live"][0].model_version == good
    assert fresh.broken == {"artwork": bad}
    fresh.close()
    with store.write() as connection:
        connection.execute(models.update().values(bundle=flipped))
    none_left = LiveState(store, b"key", 3600, ModelFiles(tmp_path / "empty"))
    assert none_left.current.policies["artwork", "live"][0].name == "uniform"
    none_left.close()
    with store.read() as connection, pytest.raises(BrokenModel, match="hash"):
        registry.load(connection, bad)


def test_a_model_whose_canaries_changed_is_broken(simulation: Simulation) -> None:
    from artwork_bandit.policies import bundle

    store = simulation.service.store
    simulation.visits(300)
    version = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    with store.read() as connection:
        made = registry.load(connection, version)
    weights = made.model.weights + 0.01 * (np.arange(made.model.weights.shape[1]) == 1)
    data = replace(made, model=replace(made.model, weights=weights)).encode()
    with pytest.raises(BrokenModel, match="canary"):
        bundle.decode(data, bundle.sha256(data))
    with pytest.raises(BrokenModel, match="decoded"):
        bundle.decode(data[:-100], bundle.sha256(data[:-100]))


def test_a_log_that_is_read_again_is_what_it_was_when_it_was_read_first(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "WITH_CONTEXTS", 100)
    monkeypatch.setattr(replay, "PART", 300)
    simulation.visits(300)
    join_rewards(simulation.service.store, ARTWORK, simulation.settings, simulation.later())

    def rows(blocks: Iterable[ReplayBlock]) -> list[object]:
        return [
            (*row, b.action_sets[of].variant_ids)
            for b in blocks
            for *row, of in zip(
                b.decision_ids, b.member_ids, b.occurred_at, b.chosen, b.propensity, b.reward,
                b.cells, b.contexts, b.set_of_row.tolist(), strict=True,
            )
        ]  # fmt: skip

    with source(simulation).again(with_contexts=True) as log:
        next(iter(log.blocks("plain")))  # not read to its end: not copied either
        assert log.parts() == []
        first = rows(log.blocks("all"))
        simulation.visits(100)
        join_rewards(simulation.service.store, ARTWORK, simulation.settings, simulation.later())
        assert rows(log.blocks("all")) == first
        parts = log.parts()
        assert len(parts) > 2
        assert [row for part in parts for row in rows(part.blocks("all"))] == first
        plain = rows(log.blocks("plain"))
        assert [(*row[:7], *row[8:]) for row in plain] == [(*r[:7], *r[8:]) for r in first]
        assert all(row[7] == Context() for row in plain)
    assert len(rows(source(simulation).blocks())) > len(first)
    assert rows(source(simulation).blocks())[: len(first)] == first


def test_export_is_judged_like_the_database_and_imports_once(
    simulation: Simulation, tmp_path: Path
) -> None:
    store = simulation.service.store
    simulation.visits(400)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    path = tmp_path / "log.parquet"
    rows = parquet.write(path, replay.blocks(store, Window()), ARTWORK.reward)
    assert rows == sum(len(b) for b in replay.blocks(store, Window()))
    from_sql, _ = judge(source(simulation), ["uniform", "best-single"])
    file = ReplaySource.of(None, path, "artwork", None, None)
    from_file, _ = judge(file, ["uniform", "best-single"])
    assert from_file.targets["uniform"].estimators == from_sql.targets["uniform"].estimators
    assert from_file.sha256 == from_sql.sha256
    assert from_file.reward_rule == from_sql.reward_rule == "artwork-1"
    now = simulation.later()
    assert (
        log_import.import_log(store, path, simulation.settings, now, dry_run=False).duplicates
        == rows
    )
    other = Store(f"sqlite:///{tmp_path}/other.db")
    from artwork_bandit.store import migrate

    migrate.migrate(other)
    would = log_import.import_log(other, path, simulation.settings, now, dry_run=True)
    assert (would.rows, would.new_titles, would.new_variants) == (rows, 6, 24)
    told: list[tuple[str, float]] = []

    def progress(what: str, share: float) -> None:
        told.append((what, share))

    taken = log_import.import_log(
        other, path, simulation.settings, now, dry_run=False, progress=progress
    )
    assert taken == would
    for what in (f"checking {rows:,} rows", f"taking in {rows:,} rows"):
        shares = [share for said, share in told if said == what]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
    assert (
        log_import.import_log(other, path, simulation.settings, now, dry_run=False).duplicates
        == rows
    )
    there = [block.clicked for block in replay.blocks(other, Window())]
    assert there
    assert all(clicked is not None and np.isnan(clicked).all() for clicked in there)
    again, _ = judge(ReplaySource.of(other, None, "artwork", None, None), ["uniform"])
    found = again.targets["uniform"].estimators["snips"].estimate
    assert found == pytest.approx(from_sql.targets["uniform"].estimators["snips"].estimate)
    other.close()


def test_a_model_is_not_judged_on_rows_it_was_trained_on(simulation: Simulation) -> None:
    store = simulation.service.store
    simulation.visits(1500)
    version = retrain(store, ARTWORK, simulation.settings, simulation.later()).version
    report, versions = judge(source(simulation), [f"model:{version}"])
    judged = report.targets[f"model:{version}"]
    assert versions == [version]
    with store.read() as connection:
        record = registry.get(connection, version)
    assert judged.rows_left_out == record.rows
    assert judged.support.rows == report.rows - record.rows


@pytest.mark.parametrize(
    "name", ["nonsense", "model:x", "model:", "variant:", "column:missing", "live"]
)
def test_unknown_targets_are_refused_in_words(simulation: Simulation, name: str) -> None:
    simulation.visits(3)
    join_rewards(simulation.service.store, ARTWORK, simulation.settings, simulation.later())
    with pytest.raises(InvalidInput):
        judge(source(simulation), [name])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_recent_rows_weigh_more(simulation: Simulation) -> None:
    """The world turns round half-way; a short half-life follows, a long one lags."""
    store = simulation.service.store
    simulation.visits(500)
    simulation.now += dt.timedelta(days=100)
    simulation.world._own = -simulation.world._own - 2.4
    simulation.world._effects = -simulation.world._effects
    simulation.visits(500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    from artwork_bandit.store.features import StoredFeatures

    values = {}
    for days in (5, 10_000):
        how = replace(GREEDY, half_life=dt.timedelta(days=days))
        made = training.train(
            InMemory(list(replay.blocks(store, Window()))), StoredFeatures(store), ARTWORK, how
        )
        values[days] = simulation.true_value(made.bundle.policy(None))
    assert values[5] > values[10_000]


def test_reports_judge_the_best_single_variant_on_the_rows_that_judge_the_others(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is chosen on the rows that models have learned from."""
    store, kept = simulation.service.store, []
    simulation.visits(1500)
    join_rewards(store, ARTWORK, simulation.settings, simulation.later())
    keep = reporting.keep
    monkeypatch.setattr(reporting, "keep", lambda *told: kept.append(told) or keep(*told))
    assert reporting.keep_latest(store, ARTWORK, simulation.later()) is not None
    report = kept[0][3]
    uniform, best = (report.targets[name] for name in ("uniform", "best-single"))
    assert best.support.rows == uniform.support.rows == report.rows
    assert not [check for check in report.checks if check.name == "different_rows"]
