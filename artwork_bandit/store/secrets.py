"""Secrets the service makes for itself, once: what signs decision ids, salts draws and cells."""

from __future__ import annotations

import os

import sqlalchemy as sa

from artwork_bandit.store.engine import Store, insert_ignoring
from artwork_bandit.store.tables import secrets

SECRET_BYTES = 32


def get_or_create(store: Store, name: str) -> bytes:
    """Return the secret of that name, making it if this is the first time anybody asks."""
    query = sa.select(secrets.c.value).where(secrets.c.name == name)
    with store.read() as connection:
        if (value := connection.execute(query).scalar()) is not None:
            return bytes(value)
    with store.write() as connection:
        made = {"name": name, "value": os.urandom(SECRET_BYTES)}
        insert_ignoring(connection, secrets, [made])
        return bytes(connection.execute(query).scalar_one())


def put(store: Store, name: str, value: bytes) -> None:
    """Set a secret, for runs that must repeat exactly. Raises Conflict if it is already set."""
    with store.write() as connection:
        connection.execute(sa.insert(secrets), [{"name": name, "value": value}])
