"""Bringing a database to this release with Alembic."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from artwork_bandit.errors import ArtworkBanditError, InvalidInput, StoreUnavailable
from artwork_bandit.store import generations
from artwork_bandit.store.engine import Store, translated, upsert
from artwork_bandit.store.tables import generations as generations_table
from artwork_bandit.store.turns import wait_for_turn

WORKS_WITH = "works_with"
"""Among the generations: the oldest revision whose release works with the database as it is. The
newest migration says it."""


def migrate(store: Store) -> tuple[str | None, str]:
    """Upgrade the database; return (revision before, revision now)."""
    before = current_revision(store)
    try:
        _run(store, _upgrade, "head")
    except CommandError as error:
        with contextlib.suppress(InvalidInput):
            require_current(store)  # a later release has migrated it, and this one works with it
            assert before is not None, "it has a revision, of a later release"
            return before, before
        raise InvalidInput(
            f"the database is at a revision this release does not know: {error}; use the release "
            "that made it, or a newer one"
        ) from error
    except StoreUnavailable as error:
        if "lock timeout" not in str(error):
            raise
        raise StoreUnavailable(
            f"{error}; nothing was changed: run it again when nobody reads for long, as a dump does"
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
    """Raise InvalidInput unless this release works with the database's revision: its own, or one of
    a later release that says so."""
    scripts = ScriptDirectory(str(migrations_folder()))
    with store.read() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        head = scripts.get_current_head()
        if found == head:
            return
        known = found is None or found in {script.revision for script in scripts.walk_revisions()}
        oldest = None if known else generations.read(connection).get(WORKS_WITH)
    if not known and oldest is not None and head is not None and int(head) >= oldest:
        return
    advice = (
        "run `artwork-bandit migrate`" if known
        else "a later release has migrated it, with which this one does not work: use that"
    )  # fmt: skip
    raise InvalidInput(
        f"the database is at revision {found or 'none'}, this release needs {head}; {advice}"
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


def _upgrade(config: Config, revision: str) -> None:
    """Upgrade, and tell releases before how old they may be to work with what comes of it."""
    command.upgrade(config, revision)
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_revision("head")
    assert head is not None, "there are migrations"
    row = {"name": WORKS_WITH, "number": int(head.module.works_with)}
    upsert(config.attributes["connection"], generations_table, [row], "name")


def _run(store: Store, action: object, *arguments: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    with translated(), store.engine.connect() as connection:
        if store.dialect == "sqlite":
            # One transaction for the whole upgrade, which pysqlite would not begin for DDL.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        wait_for_turn(connection, "migrate")  # as two servers that start together may both migrate
        config.attributes["connection"] = connection
        action(config, *arguments)  # type: ignore[operator]
        connection.commit()
