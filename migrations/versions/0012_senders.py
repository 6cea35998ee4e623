"""Who sent an event is kept, whomever what it followed was shown to: by sender, title and day
events tell of one viewing together.

Works with the release before, whose events say no sender: each is a viewing of its own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_VIEWING = sa.text("type IN ('play', 'rewatch', 'pause', 'abandon') AND sender_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("events", sa.Column("sender_id", sa.Text()))
    op.create_index(
        "ix_events_viewing",
        "events",
        ["sender_id", "title_id", "occurred_at"],
        sqlite_where=_VIEWING,
        postgresql_where=_VIEWING,
    )


def downgrade() -> None:
    op.drop_index("ix_events_viewing", "events")
    op.drop_column("events", "sender_id")
