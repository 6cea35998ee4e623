"""Promotions say whether they went back to the model before: promoted again by hand is not that.
Events that count for nothing are found by why.

Works with the release before: it leaves the new column empty, and then the old reading holds.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


_UNJOINED = sa.text("source = 'client' AND unjoined IS NOT NULL")


def upgrade() -> None:
    op.add_column("promotions", sa.Column("rolls_back", sa.Boolean()))
    op.create_index(
        "ix_events_unjoined", "events", ["unjoined", "occurred_at"],
        sqlite_where=_UNJOINED, postgresql_where=_UNJOINED,
    )  # fmt: skip


def downgrade() -> None:
    op.drop_index("ix_events_unjoined", "events")
    op.drop_column("promotions", "rolls_back")
