"""Events say on which device and at what local time they happened; profiles remember habits.

Works with the release before: it leaves the new columns as they are.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("device", sa.Text()))
    op.add_column("events", sa.Column("hour", sa.Integer()))
    op.add_column("events", sa.Column("weekday", sa.Integer()))
    op.add_column(
        "profiles", sa.Column("habits", sa.Text(), server_default=sa.text("'{}'"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("profiles", "habits")
    for name in ("weekday", "hour", "device"):
        op.drop_column("events", name)
