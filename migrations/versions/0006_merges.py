"""Anonymous visitors who turned out to be members.

Works with the release before, which does not know of them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "merges",
        sa.Column("visitor_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("merged_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("visitor_id", name="pk_merges"),
        sa.UniqueConstraint("event_id", name="uq_merges_event_id"),
    )
    op.create_index("ix_merges_member_id", "merges", ["member_id"])


def downgrade() -> None:
    op.drop_table("merges")
