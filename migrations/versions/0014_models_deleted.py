"""Of models that never chose anything, the bytes are deleted after a while; when, is kept with the
model. How long outcomes counted is kept beside the rule that they were paid by.

Works with the release before, which says of such a model that its bytes do not hash as they did,
and nothing of how long outcomes count.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
works_with = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("deleted_at", sa.BigInteger()))
    op.add_column("rules", sa.Column("window_seconds", sa.Float(53)))


def downgrade() -> None:
    op.drop_column("rules", "window_seconds")
    op.drop_column("models", "deleted_at")
