"""Cells are compared by what the rule in force pays: sums by hour have rewards, too, and since when
the rule is in force is known.

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


def upgrade() -> None:
    for name, kind in _SUMS.items():
        column = sa.Column(name, kind, nullable=False, server_default="0")
        op.add_column("cell_rollups", column)
    same = " AND ".join(f"cell_rollups.{name} = summed.{name}" for name in _KEY)
    op.execute(
        f"UPDATE cell_rollups SET {', '.join(f'{name} = summed.{name}' for name in _SUMS)}"
        f" FROM ({_PAID}) AS summed WHERE {same}"
    )
    op.create_table(
        "rules",
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("formula", sa.Text()),
        sa.PrimaryKeyConstraint("slot", "since", name="pk_rules"),
    )
    since: dict[str, int] = {}
    connection = op.get_bind()
    for slot, rule, last in connection.execute(sa.text(_RULES)).all():
        connection.execute(
            sa.text("INSERT INTO rules (slot, since, rule) VALUES (:slot, :since, :rule)"),
            {"slot": slot, "since": since.get(slot, 0), "rule": rule},
        )
        since[slot] = last + 1


def downgrade() -> None:
    op.drop_table("rules")
    for name in _SUMS:
        op.drop_column("cell_rollups", name)
