"""Migrations run on both databases, with data in them, and leave nothing to migrate."""

import pytest
import sqlalchemy as sa

from artwork_bandit.errors import Conflict, InvalidInput, StoreUnavailable
from artwork_bandit.store import catalog, generations, migrate
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import metadata, rewards
from tests.samples import fill


def test_alembic_check_is_clean(store: Store) -> None:
    migrate.check(store)


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
