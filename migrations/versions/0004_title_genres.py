"""A variant's revision holds the genres its title had: what a model sees of it.

Works with the release before: its revisions hold no genres, and a tag is then taken as it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("variant_revisions", sa.Column("title_genres", sa.JSON()))
    op.execute(
        "UPDATE variant_revisions SET title_genres = ("
        "SELECT titles.genres FROM titles JOIN variants ON variants.title_id = titles.title_id "
        "WHERE variants.variant_id = variant_revisions.variant_id)"
    )


def downgrade() -> None:
    op.drop_column("variant_revisions", "title_genres")
