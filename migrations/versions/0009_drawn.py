"""A variant that was eligible alone was not drawn: where a title's exploration is paused, that is
what a model likes for this very member, and says nothing of members at large.

Works with the release before, which counts what it joins from then on as drawn again; `rollups
rebuild` of this release mends that.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE rollups SET drawn = 0, drawn_plays = 0, weight = 0, weight2 = 0, weighted_plays = 0"
        " WHERE drawn > 0 AND action_set_id IN"
        " (SELECT action_set_id FROM action_sets WHERE json_array_length(variant_ids) = 1)"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE rollups SET drawn = units, drawn_plays = plays, weight = units, weight2 = units,"
        " weighted_plays = plays"
        " WHERE action_set_id IN"
        " (SELECT action_set_id FROM action_sets WHERE json_array_length(variant_ids) = 1)"
    )
