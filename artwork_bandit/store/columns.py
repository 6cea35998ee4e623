"""What columns are made of, the same on SQLite and PostgreSQL.

Instants are stored as 64-bit integers, microseconds since 1970 UTC (`Instant`): exact, the same
arithmetic on both (window ends are sums), and fast to read in columns. On PostgreSQL,
`to_timestamp(occurred_at / 1e6)` shows them.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa

from artwork_bandit import domain

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(sa.types.TypeDecorator[dt.datetime]):
    """An aware UTC datetime, stored as integer microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Any) -> int | None:
        return None if value is None else domain.microseconds(value)

    def process_result_value(self, value: int | None, dialect: Any) -> dt.datetime | None:
        return None if value is None else domain.instant(value)


Identity64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A 64-bit automatic key; SQLite counts only columns declared exactly INTEGER."""


def floored(column: sa.ColumnElement[Any], length: int) -> sa.ColumnElement[int]:
    """Return the whole lengths, in microseconds, from 1970 to an instant: below 0 before it, as
    Python divides, where SQL cuts towards 0."""
    at = sa.type_coerce(column, sa.BigInteger)
    return (at - (at % length + length) % length) // length


def one_of(column: str, values: list[str], name: str) -> sa.CheckConstraint:
    """Return the constraint that a text is one of a few."""
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=name)
