"""Profiles remember the titles watched last; a slot may have a challenger.

Works with the release before: it writes genre weights only, leaves the new column as it is, and
knows no challenger.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "profiles", sa.Column("played", sa.Text(), server_default=sa.text("'{}'"), nullable=False)
    )

    op.create_table(
        "challengers",
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version"], ["models.version"], name="fk_challengers_model_version_models"
        ),
        sa.PrimaryKeyConstraint("slot", name="pk_challengers"),
    )


def downgrade() -> None:
    op.drop_table("challengers")
    op.drop_column("profiles", "played")
