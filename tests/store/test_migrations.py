"""Migrations run on both databases, with data in them, and leave nothing to migrate."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from artwork_bandit.domain import Context
from artwork_bandit.errors import Conflict, InvalidInput, StoreUnavailable
from artwork_bandit.policies.cells import DEFAULT_SHARES, reallocate, shares_of
from artwork_bandit.serving.service import Service
from artwork_bandit.settings import Settings
from artwork_bandit.store import catalog, cells, generations, migrate, profiles
from artwork_bandit.store import requests as request_store
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import cell_rollups, metadata, requests, rewards
from artwork_bandit.store.tables import generations as generations_table
from tests.conftest import Postgres
from tests.samples import NOW, fill


def test_alembic_check_is_clean(store: Store) -> None:
    migrate.check(store)


def test_two_that_migrate_at_the_same_time_take_turns(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(postgres.create("both"))
    others: list[threading.Thread] = []
    found: list[str] = []
    upgrade = command.upgrade

    def meanwhile(*arguments: object) -> None:
        if not others:
            others.append(threading.Thread(target=lambda: found.append(migrate.migrate(store)[1])))
            others[0].start()
            others[0].join(timeout=0.5)
        upgrade(*arguments)

    monkeypatch.setattr(command, "upgrade", meanwhile)
    _, head = migrate.migrate(store)
    others[0].join(timeout=30)
    assert found == [head]
    store.close()
    postgres.drop("both")


def test_migrating_again_keeps_the_data(store: Store) -> None:
    fill(store)
    assert migrate.migrate(store)[0] == migrate.current_revision(store)
    with store.read() as connection:
        assert len(catalog.list_variants(connection)) == 12


def test_a_database_without_tables_is_refused_in_words(tmp_path: object) -> None:
    empty = Store(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(InvalidInput, match="artwork-bandit migrate"):
        migrate.require_current(empty)
    with pytest.raises(StoreUnavailable, match="artwork-bandit migrate"), empty.read() as found:
        generations.read(found)
    empty.close()


def test_a_later_release_s_database_is_worked_with_if_that_release_says_so(store: Store) -> None:
    head = migrate.current_revision(store)
    assert head is not None
    migrate.require_current(store)

    def is_at(revision: str, works_with: int | None) -> None:
        with store.write() as connection:
            connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{revision}'"))
            told = generations_table.c.name == migrate.WORKS_WITH
            connection.execute(sa.delete(generations_table).where(told))
            if works_with is not None:
                row = {"name": migrate.WORKS_WITH, "number": works_with}
                connection.execute(sa.insert(generations_table), [row])

    later = f"{int(head) + 1:04}"
    is_at(later, int(head))
    migrate.require_current(store)
    assert migrate.migrate(store) == (later, later)  # whoever migrates at each start goes on
    for works_with in (int(later), None):
        is_at(later, works_with)
        with pytest.raises(InvalidInput, match="a later release has migrated it"):
            migrate.require_current(store)
        with pytest.raises(InvalidInput, match="does not know"):
            migrate.migrate(store)
    is_at("0001", 1)
    with pytest.raises(InvalidInput, match="run `artwork-bandit migrate`"):
        migrate.require_current(store)


def test_the_newest_migration_says_which_release_works_with_what_it_makes(store: Store) -> None:
    with store.read() as connection:
        told = generations.read(connection)[migrate.WORKS_WITH]
    head = migrate.current_revision(store)
    assert head is not None
    assert told <= int(head)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_migration_that_waits_in_vain_says_so(store: Store) -> None:
    with store.engine.connect() as reading:
        reading.exec_driver_sql("SELECT count(*) FROM models")
        migrate._run(store, command.stamp, "0013")
        with pytest.raises(StoreUnavailable, match="nothing was changed: run it again"):
            migrate.migrate(store)
        reading.rollback()


def test_every_rule_is_a_named_constraint() -> None:
    for table in metadata.tables.values():
        for constraint in table.constraints:
            assert constraint.name, f"{table.name} has a constraint without name"


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5])
def test_the_database_itself_refuses_impossible_propensities(
    store: Store, propensity: float
) -> None:
    row = {c.name: 0 for c in rewards.c} | {"propensity": propensity}
    row |= {c.name: "x" for c in rewards.c if isinstance(c.type, sa.Text)}
    row |= {"occurred_at": None, "settled_at": None}
    with pytest.raises(Conflict), store.write() as connection:
        connection.execute(sa.insert(rewards), [row])


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not supported"):
        Store("mysql://x/y")
    with pytest.raises(InvalidInput, match="not valid"):
        Store("nonsense")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_of_the_release_before_keeps_its_data_and_serves(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    url = (
        f"sqlite:///{tmp_path}/old.db"
        if kind == "sqlite"
        else request.getfixturevalue("postgres").create("before")
    )
    store = Store(url)
    migrate._run(store, command.upgrade, "0001")
    with store.write() as connection:  # what that release wrote, in its own columns
        connection.exec_driver_sql(
            "INSERT INTO titles (title_id, name, genres, updated_at) "
            "VALUES ('t', 'T', '[\"a\"]', 0)"
        )
        for number in range(2):
            connection.exec_driver_sql(
                "INSERT INTO variants (variant_id, title_id, slot, position, revision, status, "
                f"is_default, updated_at) VALUES ('v{number}', 't', 'artwork', {number}, 1, "
                "'active', false, 0)"
            )
            connection.exec_driver_sql(
                "INSERT INTO variant_revisions (variant_id, revision, uri, features, created_at) "
                f"VALUES ('v{number}', 1, '/{number}', '{{}}', 0)"
            )
        connection.exec_driver_sql(
            "INSERT INTO action_sets VALUES (7, 't', 'artwork', '[1, 2]', '[\"v0\", \"v1\"]')"
        )
        connection.exec_driver_sql("INSERT INTO profiles VALUES ('m', 0, '{\"a\": 2.0}')")
    assert migrate.migrate(store) == ("0001", "0014")
    migrate.check(store)
    with store.read() as connection:
        assert profiles.get(connection, "m").genres == {"a": 2.0}
        assert profiles.get(connection, "m").played == {}
        assert [(v.variant_id, v.title_genres) for v in catalog.list_variants(connection)] == [
            ("v0", ("a",)), ("v1", ("a",)),
        ]  # fmt: skip
        assert not catalog.get_title(connection, "t").exploration_paused
        assert request_store.get_action_sets(connection, [7])[7].default is None
    service = Service(store, Settings(database_url=url, reload_seconds=3600))
    try:
        with store.write() as connection:  # a server of that release, still running
            connection.exec_driver_sql("UPDATE variants SET status = 'paused' WHERE position = 1")
            generations.bump(connection, "catalog")
        service.state.refresh()
        view = service.state.current.catalogs["artwork"].view(Context(), NOW)
        eligible = view.title("t")
        assert eligible is not None
        assert eligible.action_set.variant_ids == ("v0",)
    finally:
        service.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_the_release_before_is_joining_ends_first(store: Store) -> None:
    """It has read events, and is about to add to sums: a migration waits, and does not deadlock."""
    migrate._run(store, command.downgrade, "0010")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as pool, store.engine.connect() as joining:
        joining.exec_driver_sql("SELECT count(*) FROM events")
        migrating = pool.submit(migrate.migrate, store)
        with store.engine.connect() as looking:
            for _ in range(400):
                if looking.exec_driver_sql(waits).scalar():
                    break
                looking.rollback()
                time.sleep(0.01)
        added = "INSERT INTO cell_rollups VALUES ('artwork', 1, 'live', 1, 1, 1, 1, 1)"
        joining.exec_driver_sql(added)
        joining.commit()
        assert migrating.result(60) == ("0010", "0014")
    with store.read() as connection:
        row = connection.execute(sa.select(cell_rollups)).one()
    assert (row.units, row.paid, row.reward) == (1, 0, 0.0)


@pytest.mark.parametrize(("came", "were_set"), [(True, False), (True, True), (False, False)])
def test_members_stay_in_their_cells_when_the_default_changes(
    store: Store, came: bool, were_set: bool
) -> None:
    before = {"explore": 0.1, "baseline": 0.05, "live": 0.85}
    chosen = {"explore": 0.4, "live": 0.6}
    if were_set:
        with store.write() as connection:
            cells.set_shares(connection, chosen)
    migrate._run(store, command.downgrade, "0012")
    if came:
        with store.write() as connection:
            connection.execute(
                sa.insert(requests).values(
                    request_id="r", member_id="m", slot="artwork", occurred_at=NOW, period=0,
                    cell="live", policy="uniform", confirm="client", fingerprint="f",
                    context="{}", choices=b"",
                )
            )  # fmt: skip
    migrate.migrate(store)
    with store.read() as connection:
        found = cells.read(connection)
    wanted = chosen if were_set else before if came else DEFAULT_SHARES
    assert shares_of(found) == wanted
    if came and not were_set:
        assert set(found) == set(reallocate((), before))
