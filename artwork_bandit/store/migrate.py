"""Bringing a database to this release with Alembic."""

from __future__ import annotations

import importlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from artwork_bandit.errors import ArtworkBanditError, InvalidInput
from artwork_bandit.store.engine import Store
from artwork_bandit.store.turns import wait_for_turn


def migrate(store: Store) -> tuple[str | None, str]:
    """Upgrade the database; return (revision before, revision now)."""
    before = current_revision(store)
    try:
        _run(store, command.upgrade, "head")
    except CommandError as error:
        raise InvalidInput(
            f"the database is at a revision this release does not know: {error}; use the release "
            "that made it, or a newer one"
        ) from error
    after = current_revision(store)
    assert after is not None, "an upgraded database has a revision"
    return before, after


def check(store: Store) -> None:
    """Raise InvalidInput if the tables of the database differ from `store.tables`."""
    try:
        _run(store, command.check)
    except CommandError as error:
        raise InvalidInput(f"the database differs from this release: {error}") from error


def require_current(store: Store) -> None:
    """Raise InvalidInput unless the database is at this release's revision."""
    with store.read() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory(str(migrations_folder())).get_current_head()
    if found != head:
        raise InvalidInput(
            f"the database is at revision {found or 'none'}, this release needs {head}; "
            "run `artwork-bandit migrate`"
        )


def current_revision(store: Store) -> str | None:
    with store.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrations_folder() -> Path:
    """Return where Alembic's scripts are: a folder of the installed package."""
    module = importlib.import_module("artwork_bandit.migrations")
    if module.__file__ is None:
        raise ArtworkBanditError("the package was installed without its migrations")
    return Path(module.__file__).parent


def _run(store: Store, action: object, *arguments: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    with store.engine.connect() as connection:
        if store.dialect == "sqlite":
            # One transaction for the whole upgrade, which pysqlite would not begin for DDL.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        wait_for_turn(connection, "migrate")  # as two servers that start together may both migrate
        config.attributes["connection"] = connection
        action(config, *arguments)  # type: ignore[operator]
        connection.commit()
