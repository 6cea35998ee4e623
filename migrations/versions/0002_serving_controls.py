"""Pauses, exploration paused per title, defaults of action sets, changed variants.

Works with the release before: it inserts without the new columns, and servers of this release
read the whole catalogue again when a generation has no changed row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pauses",
        sa.Column(
            "pause_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pause_id", name=op.f("pk_pauses")),
    )
    op.add_column("action_sets", sa.Column("default_index", sa.Integer(), nullable=True))
    op.add_column(
        "titles",
        sa.Column("exploration_paused", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "variants",
        sa.Column("changed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_index(op.f("ix_variants_changed"), "variants", ["changed"])


def downgrade() -> None:
    op.drop_index(op.f("ix_variants_changed"), table_name="variants")
    op.drop_column("variants", "changed")
    op.drop_column("titles", "exploration_paused")
    op.drop_column("action_sets", "default_index")
    op.drop_table("pauses")
