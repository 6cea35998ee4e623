"""Cells are compared by what the rule in force pays: sums by hour have rewards, too, and since when
the rule is in force is known. So is what imported rewards lie between, rule by rule.

The rewards are gone through before anything is locked; then `events` is, before the sums are: a
join of the release before, which asks for them in that order, ends first or waits.

Works with the release before, which counts what it joins from then on without its rewards:
`rollups rebuild` of this release mends that.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_HOUR = 3_600_000_000
_KEY = ("slot", "hour", "cell", "model_version", "bucket")
_SUMS = {"paid": sa.Integer(), "reward": sa.Float(53), "reward2": sa.Float(53)}
_PAID = (
    "SELECT slot,"
    f" (occurred_at - (occurred_at % {_HOUR} + {_HOUR}) % {_HOUR}) / {_HOUR} AS hour,"
    " CASE WHEN policy = 'imported' THEN 'imported' ELSE cell END AS cell,"
    " coalesce(model_version, 0) AS model_version, member_bucket % 64 AS bucket,"
    " count(*) AS paid, sum(reward) AS reward, sum(reward * reward) AS reward2"
    " FROM rewards WHERE reward <> 0 AND confirm = 'client' GROUP BY 1, 2, 3, 4, 5"
)
_RULES = (
    "SELECT slot, rule, max(occurred_at) FROM rewards"
    " WHERE confirm = 'client' AND policy <> 'imported' GROUP BY slot, rule ORDER BY 3"
)


_IMPORTED = (
    "SELECT slot, rule, min(reward), max(reward) FROM rewards"
    " WHERE policy = 'imported' GROUP BY slot, rule"
)


def upgrade() -> None:
    connection = op.get_bind()
    op.execute(f"CREATE TEMPORARY TABLE summed AS {_PAID}")
    rules = connection.execute(sa.text(_RULES)).all()
    imported = connection.execute(sa.text(_IMPORTED)).all()
    if connection.dialect.name == "postgresql":
        op.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
    for name, kind in _SUMS.items():
        column = sa.Column(name, kind, nullable=False, server_default="0")
        op.add_column("cell_rollups", column)
    same = " AND ".join(f"cell_rollups.{name} = summed.{name}" for name in _KEY)
    op.execute(
        f"UPDATE cell_rollups SET {', '.join(f'{name} = summed.{name}' for name in _SUMS)}"
        f" FROM summed WHERE {same}"
    )
    op.execute("DROP TABLE summed")
    op.create_table(
        "rules",
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("formula", sa.Text()),
        sa.PrimaryKeyConstraint("slot", "since", name="pk_rules"),
    )
    since: dict[str, int] = {}
    for slot, rule, last in rules:
        connection.execute(
            sa.text("INSERT INTO rules (slot, since, rule) VALUES (:slot, :since, :rule)"),
            {"slot": slot, "since": since.get(slot, 0), "rule": rule},
        )
        since[slot] = max(last, since.get(slot, 0)) + 1
    op.create_table(
        "imported_rules",
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("least", sa.Float(53), nullable=False),
        sa.Column("most", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("slot", "rule", name="pk_imported_rules"),
    )
    for row in imported:
        connection.execute(
            sa.text(
                "INSERT INTO imported_rules (slot, rule, least, most)"
                " VALUES (:slot, :rule, :least, :most)"
            ),
            dict(zip(("slot", "rule", "least", "most"), row, strict=True)),
        )


def downgrade() -> None:
    op.drop_table("imported_rules")
    op.drop_table("rules")
    for name in _SUMS:
        op.drop_column("cell_rollups", name)
