"""Run by Alembic. `artwork-bandit migrate` passes a connection; the `alembic` command itself
(`alembic -c setup.cfg revision --autogenerate`) uses ARTWORK_BANDIT_DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from artwork_bandit import settings
from artwork_bandit.store.columns import Instant
from artwork_bandit.store.engine import Store
from artwork_bandit.store.tables import metadata


def render_item(kind: str, item: object, _autogen: object) -> str | bool:
    """Write our own types into scripts as what the database sees, so that scripts never change."""
    return "sa.BigInteger()" if kind == "type" and isinstance(item, Instant) else False


def run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '15min'"
        )
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_server_default=True,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    with Store(settings.load().database_url).engine.begin() as opened:
        run(opened)
