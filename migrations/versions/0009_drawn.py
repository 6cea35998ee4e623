"""What was not drawn, and what other systems drew, leave the sums that compare what was drawn here.

A variant that was eligible alone was not drawn: where a title's exploration is paused, that is what
a model likes for this very member, and says nothing of members at large. Members of imported logs
were drawn into no cell of this system: sums by hour have them in a cell of their own.

Works with the release before, which counts what it joins or imports from then on as before;
`rollups rebuild` of this release mends that.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ALONE = (
    "action_set_id IN (SELECT action_set_id FROM action_sets"
    " WHERE json_array_length(variant_ids) = 1)"
)
_COMPARED = (
    "UPDATE summaries SET marks = marks + 1 WHERE EXISTS (SELECT 1 FROM rollups"
    " WHERE rollups.slot = summaries.slot AND rollups.title_id = summaries.title_id"
    f" AND rollups.{_ALONE})"
)
_IMPORTED = (
    "SELECT slot, occurred_at / 3600000000 AS hour, {cell} AS cell, member_bucket % 64 AS bucket,"
    " count(*) AS units, sum(quality_play) AS plays FROM rewards"
    " WHERE policy = 'imported' AND confirm = 'client' AND cell <> 'imported' GROUP BY 1, 2, 3, 4"
)


def upgrade() -> None:
    op.execute(_COMPARED)
    op.execute(
        "UPDATE rollups SET drawn = 0, drawn_plays = 0, weight = 0, weight2 = 0, weighted_plays = 0"
        f" WHERE drawn > 0 AND {_ALONE}"
    )
    _move("cell", "'imported'")


def downgrade() -> None:
    op.execute(_COMPARED)
    op.execute(
        "UPDATE rollups SET drawn = units, drawn_plays = plays, weight = units, weight2 = units,"
        f" weighted_plays = plays WHERE {_ALONE}"
    )
    _move("'imported'", "cell")


def _move(before: str, after: str) -> None:
    """Count imported rows in another cell."""
    op.execute(
        "INSERT INTO cell_rollups"
        " (slot, hour, cell, model_version, bucket, impressions, units, plays)"
        " SELECT slot, hour, cell, 0, bucket, units, units, plays"
        f" FROM ({_IMPORTED.format(cell=after)}) AS moved WHERE true"
        " ON CONFLICT (slot, hour, cell, model_version, bucket) DO UPDATE SET"
        " impressions = cell_rollups.impressions + excluded.impressions,"
        " units = cell_rollups.units + excluded.units, plays = cell_rollups.plays + excluded.plays"
    )
    op.execute(
        "UPDATE cell_rollups SET impressions = cell_rollups.impressions - moved.units,"
        " units = cell_rollups.units - moved.units, plays = cell_rollups.plays - moved.plays"
        f" FROM ({_IMPORTED.format(cell=before)}) AS moved"
        " WHERE cell_rollups.slot = moved.slot AND cell_rollups.hour = moved.hour"
        " AND cell_rollups.cell = moved.cell AND cell_rollups.model_version = 0"
        " AND cell_rollups.bucket = moved.bucket"
    )
    op.execute("DELETE FROM cell_rollups WHERE units = 0 AND impressions = 0")
