"""Roll-ups are sums of the rewards: whatever was joined when, on both databases."""

import datetime as dt
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command

from artwork_bandit.comparison import cells as cell_comparison
from artwork_bandit.comparison import variants as comparison
from artwork_bandit.domain import ReplayBlock
from artwork_bandit.operations.editing import Editor
from artwork_bandit.operations.joining import join_rewards
from artwork_bandit.operations.judge import judge
from artwork_bandit.operations.log_import import import_log
from artwork_bandit.operations.replay_source import ReplaySource
from artwork_bandit.operations.summing import sum_up
from artwork_bandit.policies.block import Actions
from artwork_bandit.policies.policy import Fixed
from artwork_bandit.slots import SLOTS
from artwork_bandit.store import (
    aggregates,
    attribution,
    catalog,
    migrate,
    parquet,
    registry,
    replay,
    requests,
    resumming,
    rewards,
    rollups,
    summaries,
)
from artwork_bandit.store.engine import Connection, Store
from artwork_bandit.store.tables import cell_rollups, impressions
from artwork_bandit.store.tables import rewards as rewards_table
from artwork_bandit.store.tables import rollups as rollups_table
from artwork_bandit.store.window import Window
from tests.samples import NOW
from tests.simulated import WINDOW, Simulation

SHARES = {"explore": 0.4, "baseline": 0.2, "live": 0.4}


@pytest.fixture
def simulation(store: Store, database_url: str) -> Simulation:
    begun = Simulation.begin(store, database_url, titles=3, members=80, shares=SHARES)
    begun.visits(300)  # members come again: continuations too
    return begun


def all_rows(store: Store, table: sa.Table) -> list[tuple]:
    with store.read() as connection:
        rows = connection.execute(sa.text(f"SELECT * FROM {table.name}")).all()
    return sorted(
        tuple(round(x, 9) if isinstance(x, float) else x for x in row) for row in rows
    )  # fmt: skip


def test_they_are_what_the_migration_makes_of_the_rewards(
    simulation: Simulation, store: Store
) -> None:
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    joined = join_rewards(store, SLOTS["artwork"], simulation.settings, later)
    found = all_rows(store, rollups_table), all_rows(store, cell_rollups)
    assert sum(row[8] for row in found[0]) == joined
    assert sum(row[7] for row in found[0]) > joined  # continuations were on screen as well
    simulation.service.close()
    migrate._run(store, command.downgrade, "0004")
    migrate._run(store, command.upgrade, "head")
    assert (all_rows(store, rollups_table), all_rows(store, cell_rollups)) == found
    with store.read() as connection:
        assert len(summaries.stale(connection, "artwork", 10)) == 3


def test_they_can_be_made_again(simulation: Simulation, store: Store) -> None:
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    join_rewards(store, SLOTS["artwork"], simulation.settings, later)
    found = all_rows(store, rollups_table), all_rows(store, cell_rollups)
    with store.read() as connection:
        before = len(summaries.stale(connection, "artwork", 10))
    with store.write() as connection:
        assert resumming.wrong(connection) == 0
        connection.execute(
            sa.update(rollups_table).values(plays=9).where(rollups_table.c.title_id == "t1")
        )
        connection.execute(sa.delete(rollups_table).where(rollups_table.c.title_id == "t2"))
        connection.execute(sa.delete(cell_rollups).where(cell_rollups.c.cell == "live"))
        assert resumming.wrong(connection) > 10
        resumming.rebuild(connection)
        assert resumming.wrong(connection) == 0
    assert (all_rows(store, rollups_table), all_rows(store, cell_rollups)) == found
    with store.read() as connection:
        assert (before, len(summaries.stale(connection, "artwork", 10))) == (0, 3)
    simulation.service.close()


def live_on_without_exploring(simulation: Simulation, store: Store, visits: int) -> None:
    """Pause exploration for one title; let members come, be drawn anew, and be counted."""
    with store.write() as connection:
        editor = Editor(connection=connection, author="Ann", now=simulation.now)
        editor.pause_exploration("t1", True)
    simulation.service.state.refresh()
    simulation.now += dt.timedelta(days=20)
    simulation.visits(visits)
    join_rewards(store, SLOTS["artwork"], simulation.settings, simulation.later())


def test_what_was_shown_while_exploration_was_paused_compares_nothing(
    simulation: Simulation, store: Store, tmp_path: Path
) -> None:
    """Each member was shown what suits them: that is not what others would make of it."""
    slot = SLOTS["artwork"]
    join_rewards(store, slot, simulation.settings, simulation.later())

    def compared() -> list[tuple[float | None, float]]:
        with store.read() as connection:
            variants = catalog.list_variants(connection, "t1", "artwork")
            rows = rollups.of_title(connection, "artwork", "t1")
            sets = requests.get_action_sets(connection, {row.action_set_id for row in rows})
        found = comparison.of_rows("t1", "artwork", variants, rows, sets, 0.05, None)
        return [(row.corrected.estimate, row.effective_rows) for row in found.rows]

    before = compared()
    live_on_without_exploring(simulation, store, 200)
    with store.read() as connection:
        rows = rollups.of_title(connection, "artwork", "t1")
        assert resumming.wrong(connection) == 0
    alone = [row for row in rows if row.units and not row.drawn and row.cell != "baseline"]
    assert sum(row.units for row in alone) > 50
    assert all(row.weight == row.drawn_plays == 0 for row in alone)
    assert compared() == before
    with store.read() as connection:
        found = comparison.compare(connection, "t1", "artwork", 0.05)
    even = sum(row.random.count for row in found.rows)
    assert even == sum(row.drawn for row in rows if row.cell == "explore")
    source = ReplaySource.of(store, None, "artwork", since=simulation.now - dt.timedelta(days=15))
    (block,) = source.blocks()
    of_title = np.array([s.title_id == "t1" for s in block.action_sets])[block.set_of_row]
    paused = of_title & (block.propensity == 1) & (block.cells != "baseline")
    assert paused.any()
    assert np.all(block.sizes > 1)
    (whole,) = ReplaySource.of(store, None, "artwork").blocks()
    found, drawn = (
        judge(ReplaySource.of(store, log, "artwork"), ["uniform"])[0]
        for log in (None, without(whole, whole.certain, tmp_path))
    )
    assert found.certain_share > drawn.certain_share == 0
    judged = [report.targets["uniform"].estimators["dr"].estimate for report in (found, drawn)]
    assert judged[0] is not None
    assert judged[0] == judged[1]
    simulation.service.close()


def without(block: ReplayBlock, left_out: np.ndarray, folder: Path) -> Path:
    """Write a log that lacks some rows; return its file."""
    path = folder / "others.parquet"
    parquet.write(path, [block.take(~left_out)])
    return path


def test_sums_of_the_release_before_are_mended_and_what_follows_is_made_again(
    simulation: Simulation, store: Store, tmp_path: Path
) -> None:
    live_on_without_exploring(simulation, store, 60)
    path = tmp_path / "log.parquet"
    (block,) = replay.blocks(store, Window())
    others = [np.array([f"{x}{i}" for i in range(len(block))], object) for x in "dm"]
    parquet.write(path, [replace(block, decision_ids=others[0], member_ids=others[1])])
    import_log(store, path, simulation.settings, simulation.later(), dry_run=False)
    sum_up(store, "artwork", simulation.settings, simulation.later())
    found = all_rows(store, rollups_table), all_rows(store, cell_rollups)
    assert any(row[2] == "imported" for row in found[1])
    assert any(row[4] == "imported" for row in found[0])
    with store.read() as connection:
        compared = comparison.compare(connection, "t1", "artwork", 0.05)
        here = sum(row.random.count for row in compared.rows)
        of_here = rollups.of_title(connection, "artwork", "t1")
    assert here == sum(row.drawn for row in of_here if row.cell == "explore")
    assert here < sum(row.drawn for row in of_here)
    simulation.service.close()
    migrate._run(store, command.downgrade, "0008")
    before = all_rows(store, rollups_table), all_rows(store, cell_rollups)
    assert before[0] != found[0]
    assert not any(row[2] == "imported" for row in before[1])
    assert not any(row[4] == "imported" for row in before[0])
    with store.write() as connection:
        connection.execute(sa.text("UPDATE summaries SET summed = marks"))
    migrate._run(store, command.upgrade, "head")
    assert (all_rows(store, rollups_table), all_rows(store, cell_rollups)) == found
    with store.read() as connection:
        assert resumming.wrong(connection) == 0
        assert "t1" in summaries.stale(connection, "artwork", 10)


def test_days_before_1970_are_the_same_made_again(
    simulation: Simulation, store: Store, tmp_path: Path
) -> None:
    simulation.visits(60)
    join_rewards(store, SLOTS["artwork"], simulation.settings, simulation.later())
    path = tmp_path / "log.parquet"
    (block,) = replay.blocks(store, Window())
    names = [np.array([f"{x}{i}" for i in range(len(block))], object) for x in "dm"]
    long_ago = -1 - np.arange(len(block), dtype=np.int64) * 3_000_000_000
    old = replace(block, decision_ids=names[0], member_ids=names[1], occurred_at=long_ago)
    parquet.write(path, [old])
    import_log(store, path, simulation.settings, simulation.later(), dry_run=False)
    with store.read() as connection:
        assert resumming.wrong(connection) == 0
    simulation.service.close()


def test_what_policies_spread_evenly_at_least_is_the_least_there_was(store: Store) -> None:
    """Weeks that were drawn with a smaller share are judged by that one, whatever is set today."""
    with store.write() as connection:
        assert registry.least_explored(connection, "artwork", 0.2) == 0.2
        first, second, third = (
            registry.register(
                connection, slot="artwork", data=b"", window=(None, None), rows=1, now=NOW,
                settings={"explored_share": share},
            )
            for share in (0.01, 0.05, 1e-6)
        )  # fmt: skip
        assert registry.least_explored(connection, "artwork", 0.2) == 0.2  # none has served
        registry.promote(connection, first, "for the test", NOW)
        registry.challenge(connection, second, NOW)
        registry.reject(connection, third, "for the test")
        found = [registry.least_explored(connection, "artwork", s) for s in (0.2, 0.001)]
        assert found == [0.01, 0.001]
        assert registry.least_explored(connection, "trailer", 0.2) == 0.2


def test_the_baseline_is_the_default_that_there_was(simulation: Simulation, store: Store) -> None:
    """Whoever makes another variant the default changes nothing of the past."""
    simulation.visits(60)
    join_rewards(store, SLOTS["artwork"], simulation.settings, simulation.later())

    def chosen() -> list[float]:
        source = ReplaySource.of(store, None, "artwork")
        (block,) = source.blocks()
        return Actions.of(block, source.lookup).pmf(Fixed(), block).tolist()

    before = chosen()
    with store.write() as connection:
        for variant in catalog.list_variants(connection, "t1", "artwork"):
            other = variant.variant_id == "t1-a2"
            changed = replace(variant, is_default=other)
            catalog.put_variants(connection, [changed], simulation.later())
        assert [
            v.variant_id for v in catalog.list_variants(connection, "t1", "artwork") if v.is_default
        ] == ["t1-a2"]
    assert chosen() == before
    simulation.service.close()


def test_making_them_again_while_rewards_are_joined_loses_and_doubles_none(
    simulation: Simulation, store: Store
) -> None:
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    errors: list[BaseException] = []

    def join() -> None:
        try:
            for share in range(1, 21):
                rewards.join(store, SLOTS["artwork"], WINDOW, NOW + (later - NOW) * share / 20)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=join)
    thread.start()
    while thread.is_alive():
        with store.write() as connection:
            resumming.rebuild(connection)
    thread.join()
    assert errors == []
    with store.write() as connection:
        assert resumming.wrong(connection) == 0
    simulation.service.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_while_they_are_made_again_events_are_taken_in(
    simulation: Simulation, store: Store
) -> None:
    """A join that waits for them holds nobody up, who takes in events, meanwhile."""
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    waits = sa.text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    join = threading.Thread(target=rewards.join, args=(store, SLOTS["artwork"], WINDOW, later))
    with store.write() as connection:
        resumming.rebuild(connection)
        join.start()
        for _ in range(1_000):
            if connection.execute(waits).scalar():
                break
            time.sleep(0.01)
        else:
            pytest.fail("the join waits for nothing")
        with store.write() as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            attribution.share(other)
    join.join(timeout=60)
    with store.read() as connection:
        assert resumming.wrong(connection) == 0
    simulation.service.close()


def test_joining_in_parts_and_twice_at_once_counts_once(
    simulation: Simulation, store: Store
) -> None:
    settings, slot = simulation.settings, SLOTS["artwork"]
    middle = NOW + (simulation.now - NOW) / 2
    join_rewards(store, slot, settings, middle)
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    errors: list[BaseException] = []

    def join() -> None:
        try:
            rewards.join(store, slot, WINDOW, later)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=join) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with store.read() as connection:
        units = connection.execute(sa.select(sa.func.count()).select_from(rewards_table)).scalar()
        shown = connection.execute(sa.select(sa.func.count()).select_from(impressions)).scalar()
    rows = all_rows(store, rollups_table)
    assert (sum(r[8] for r in rows), sum(r[7] for r in rows)) == (units, shown)
    simulation.service.close()


def test_a_comparison_has_the_units_drawn_and_the_certain_ones_apart(
    simulation: Simulation, store: Store
) -> None:
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    join_rewards(store, SLOTS["artwork"], simulation.settings, later)
    with store.read() as connection:
        query = sa.select(rewards_table).where(rewards_table.c.title_id == "t0")
        units = connection.execute(query).all()
        compared = comparison.compare(connection, "t0", "artwork", 0.05)
        rows = rollups.of_title(connection, "artwork", "t0")
        variants = catalog.list_variants(connection, "t0")
    for row in compared.rows:
        own = [u for u in units if u.variant_id == row.variant.variant_id]
        assert (row.raw.count, row.raw.successes) == (len(own), sum(u.quality_play for u in own))
        even = [u for u in own if u.cell == "explore"]
        assert row.random.count == len(even)
    drawn = [u for u in units if u.cell != "baseline"]
    assert sum(r.drawn for r in rows) == len(drawn)
    assert sum(r.weight for r in rows) == pytest.approx(sum(1 / u.propensity for u in drawn))
    assert len(compared.rows) == len(variants)
    simulation.service.close()


def test_cells_over_any_span_are_exact(simulation: Simulation, store: Store) -> None:
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    join_rewards(store, SLOTS["artwork"], simulation.settings, later)
    rng = np.random.default_rng(4)
    for _ in range(12):
        a, b = sorted(rng.uniform(-3600, 7200, 2))
        since, until = NOW + dt.timedelta(seconds=a), NOW + dt.timedelta(seconds=b)
        for some in ((since, until), (None, until), (since, None)):
            with store.read() as connection:
                found = aggregates.by_cell(connection, "artwork", *some)
                query = sa.select(rewards_table.c.cell, sa.func.count()).group_by(
                    rewards_table.c.cell
                )
                if some[0]:
                    query = query.where(rewards_table.c.occurred_at >= some[0])
                if some[1]:
                    query = query.where(rewards_table.c.occurred_at < some[1])
                true = dict(connection.execute(query).all())
            assert {c: int(n.units.sum()) for c, n in found.items() if n.units.sum()} == true
    with store.read() as connection:
        compared = cell_comparison.compare(connection, "artwork", None, None)
    assert sum(r.take_fraction.count for r in compared.cells) == sum(
        row[6] for row in all_rows(store, cell_rollups)
    )
    live = next(row for row in compared.cells if row.cell == "live")
    assert live.without_model == live.take_fraction.count > 0  # no model has been live yet
    simulation.service.close()


def test_titles_with_many_sums_are_summed_up_one_by_one(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewards.join(store, SLOTS["artwork"], WINDOW, simulation.later())
    monkeypatch.setattr("artwork_bandit.operations.summing.MOST_ROWS", 10)
    asked = []
    of_titles = rollups.of_titles

    def ask(connection: Connection, slot: str, titles: Iterable[str]) -> Iterator[object]:
        asked.append(len(list(titles)))
        return of_titles(connection, slot, titles)

    monkeypatch.setattr(rollups, "of_titles", ask)
    assert sum_up(store, "artwork", simulation.settings, simulation.later()) == 3
    assert asked == [1, 1, 1]
    with store.read() as connection:
        assert not summaries.stale(connection, "artwork", 10)


def test_a_title_that_cannot_be_summed_up_keeps_no_other_from_its_turn(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewards.join(store, SLOTS["artwork"], WINDOW, simulation.later())
    of_rows = comparison.of_rows

    def fails(title: str, *more: object) -> object:
        if title == "t1":
            raise KeyError(title)
        return of_rows(title, *more)

    monkeypatch.setattr(comparison, "of_rows", fails)
    assert sum_up(store, "artwork", simulation.settings, simulation.later()) == 3
    with store.read() as connection:
        known = summaries.get(connection, "artwork", ["t0", "t1", "t2"])
        assert not summaries.stale(connection, "artwork", 10)
    assert [known[t].verdict is None for t in ("t0", "t1", "t2")] == [False, True, False]
    simulation.service.close()


def test_a_title_marked_while_it_is_summed_up_is_summed_up_again(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = simulation.now + WINDOW + dt.timedelta(seconds=1)
    rewards.join(store, SLOTS["artwork"], WINDOW, later)
    put = summaries.put

    def marked_meanwhile(connection, values, summed) -> None:  # type: ignore[no-untyped-def]
        summaries.mark(connection, {("artwork", "t1")})
        put(connection, values, summed)

    monkeypatch.setattr(summaries, "put", marked_meanwhile)
    assert sum_up(store, "artwork", simulation.settings, later) == 3
    monkeypatch.undo()
    with store.read() as connection:
        assert list(summaries.stale(connection, "artwork", 10)) == ["t1"]
    assert sum_up(store, "artwork", simulation.settings, later) == 1
    with store.read() as connection:
        known = summaries.get(connection, "artwork", ["t0", "t1"])
        assert not summaries.stale(connection, "artwork", 10)
    assert known["t0"].units
    assert known["t0"].impressions_week == known["t0"].impressions
    # Nothing is shown any more: the last week empties, and then there is nothing left to do.
    assert sum_up(store, "artwork", simulation.settings, later + dt.timedelta(hours=23)) == 0
    after = later + dt.timedelta(days=9)
    assert sum_up(store, "artwork", simulation.settings, after) == 3
    assert sum_up(store, "artwork", simulation.settings, after + dt.timedelta(days=9)) == 0
    with store.read() as connection:
        (empty,) = summaries.get(connection, "artwork", ["t0"]).values()
    assert (empty.impressions_week, empty.impressions) == (0, known["t0"].impressions)
    assert known["t0"].verdict
    simulation.service.close()


def test_a_change_of_verdict_is_dated_and_remembered(sqlite_url: str, tmp_path: Path) -> None:
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), tmp_path / "copy.db")
    store = Store(f"sqlite:///{tmp_path}/copy.db")
    simulation = Simulation.begin(store, f"sqlite:///{tmp_path}/copy.db", titles=1, members=400)
    simulation.visits(60)
    first = simulation.now + WINDOW + dt.timedelta(seconds=1)
    join_rewards(store, SLOTS["artwork"], simulation.settings, first)
    with store.read() as connection:
        before = summaries.get(connection, "artwork", ["t0"])["t0"]
        assert summaries.changed_since(connection, "artwork", NOW, 5) == []
    with store.write() as connection:
        catalog.put_variants(
            connection,
            catalog.list_variants(connection, "t0")[:1],
            NOW,
        )
        connection.execute(
            sa.update(catalog.variants)
            .where(catalog.variants.c.variant_id != "t0-a0")
            .values(status="retired")
        )
        summaries.mark(connection, {("artwork", "t0")})
    later = first + dt.timedelta(days=1)
    sum_up(store, "artwork", simulation.settings, later)
    with store.read() as connection:
        after = summaries.get(connection, "artwork", ["t0"])["t0"]
        (name, listed), = summaries.changed_since(connection, "artwork", first, 5)  # fmt: skip
    assert (before.verdict, after.verdict) == ("Not enough data yet", "Nothing to compare")
    assert after.verdict_before == "Not enough data yet"
    assert (name, listed.verdict_since) == ("Title 0", later)
    simulation.service.close()
    store.close()
