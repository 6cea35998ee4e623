"""What other systems drew leaves the cells of this one in the sums by day, too; and the smallest
share that models which served a slot ever spread evenly is known.

Members of imported logs were drawn into no cell of this system: title pages counted those of a cell
called `explore` as drawn at random here. What follows from the sums is made again for every title:
features are compared by lifts over their title's mean from now on, not over its baseline.

Works with the release before, which counts what it imports from then on as before (`rollups
rebuild` of this release mends that), and tells of no model that it has serve; it has one served by
this release as soon as that is promoted or challenges again.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_DAY = 86_400_000_000
_SUMS = ("units", "plays", "drawn", "drawn_plays", "weight", "weight2", "weighted_plays")
_KEY = ("slot", "title_id", "day", "action_set_id", "cell", "variant_id", "bucket")
_IMPORTED = (
    "SELECT slot, title_id,"
    f" (occurred_at - (occurred_at % {_DAY} + {_DAY}) % {_DAY}) / {_DAY} AS day,"
    " action_set_id, {cell} AS cell, variant_id, member_bucket % 64 AS bucket,"
    " count(*) AS units, sum(quality_play) AS plays,"
    " sum(CASE WHEN propensity < 1 THEN 1 ELSE 0 END) AS drawn,"
    " sum(CASE WHEN propensity < 1 THEN quality_play ELSE 0 END) AS drawn_plays,"
    " sum(CASE WHEN propensity < 1 THEN 1 / propensity ELSE 0.0 END) AS weight,"
    " sum(CASE WHEN propensity < 1 THEN 1 / propensity / propensity ELSE 0.0 END) AS weight2,"
    " sum(CASE WHEN propensity < 1 THEN quality_play / propensity ELSE 0.0 END) AS weighted_plays"
    " FROM rewards WHERE policy = 'imported' AND confirm = 'client' AND cell <> 'imported'"
    " GROUP BY 1, 2, 3, 4, 5, 6, 7"
)


def upgrade() -> None:
    op.create_table(
        "floors",
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("explored_share", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("slot", "explored_share", name="pk_floors"),
    )
    connection = op.get_bind()
    found = set()
    served = sa.text(
        "SELECT slot, settings FROM models WHERE version IN (SELECT model_version FROM promotions)"
        " OR version IN (SELECT model_version FROM challengers)"
    )
    for slot, settings in connection.execute(served):
        told = json.loads(settings) if isinstance(settings, str) else settings
        if (share := told.get("explored_share")) is not None:
            found.add((slot, float(share)))
    for slot, share in sorted(found):
        connection.execute(
            sa.text("INSERT INTO floors (slot, explored_share) VALUES (:slot, :share)"),
            {"slot": slot, "share": share},
        )
    _move("cell", "'imported'")
    op.execute("UPDATE summaries SET marks = marks + 1")


def downgrade() -> None:
    _move("'imported'", "cell")
    op.execute("UPDATE summaries SET marks = marks + 1")
    op.drop_table("floors")


def _move(before: str, after: str) -> None:
    """Count imported rows in another cell."""
    sums = ", ".join(_SUMS)
    added = ", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in _SUMS)
    op.execute(
        f"INSERT INTO rollups ({', '.join(_KEY)}, impressions, {sums})"
        f" SELECT {', '.join(_KEY)}, units, {sums}"
        f" FROM ({_IMPORTED.format(cell=after)}) AS moved WHERE true"
        f" ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET"
        f" impressions = rollups.impressions + excluded.impressions, {added}"
    )
    taken = ", ".join(f"{name} = rollups.{name} - moved.{name}" for name in _SUMS)
    same = " AND ".join(f"rollups.{name} = moved.{name}" for name in _KEY)
    op.execute(
        f"UPDATE rollups SET impressions = rollups.impressions - moved.units, {taken}"
        f" FROM ({_IMPORTED.format(cell=before)}) AS moved WHERE {same}"
    )
    op.execute("DELETE FROM rollups WHERE units = 0 AND impressions = 0")
