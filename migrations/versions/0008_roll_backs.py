"""Promotions say whether they went back to the model before: promoted again by hand is not that.

Works with the release before: it leaves the new column empty, and then the old reading holds.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("promotions", sa.Column("rolls_back", sa.Boolean()))


def downgrade() -> None:
    op.drop_column("promotions", "rolls_back")
