"""Who challenged from when on is kept, so that what the challenger cell showed can be weighed
together with what the others did.

A tenth of the members are of the challenger cell by default, from this release on. Where members
came before, and nobody has set the cells, they keep what was the default.

Works with the release before, which says nothing of who challenges from then on: the challenger
cell's rows are then left out, as they were.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


_BEFORE = {"explore": [0, 1_000], "baseline": [1_000, 1_500], "live": [1_500, 10_000]}


def upgrade() -> None:
    op.create_table(
        "challenges",
        sa.Column(
            "challenge_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True, autoincrement=True,
        ),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Integer(), sa.ForeignKey("models.version")),
        sa.Column("since", sa.BigInteger(), nullable=False),
    )  # fmt: skip
    op.execute(
        "INSERT INTO challenges (slot, model_version, since)"
        " SELECT slot, model_version, since FROM challengers"
    )

    connection = op.get_bind()
    came = connection.scalar(sa.text("SELECT EXISTS (SELECT 1 FROM requests)"))
    were_set = connection.scalar(sa.text("SELECT EXISTS (SELECT 1 FROM cells)"))
    if came and not were_set:
        rows = [{"name": name, "ranges": json.dumps([r])} for name, r in _BEFORE.items()]
        connection.execute(
            sa.text("INSERT INTO cells (name, ranges) VALUES (:name, CAST(:ranges AS json))")
            if connection.dialect.name == "postgresql"
            else sa.text("INSERT INTO cells (name, ranges) VALUES (:name, :ranges)"),
            rows,
        )


def downgrade() -> None:
    op.drop_table("challenges")
