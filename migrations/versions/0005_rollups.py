"""Sums by day, variant, cell and bucket of members; summaries of titles; who changed what; reports.

A worker of the release before goes on joining rewards without adding to the sums: stop it first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DAY, HOUR = 86_400_000_000, 3_600_000_000
DRAWN = "(r.propensity < 1 OR json_array_length(s.variant_ids) = 1)"


def upgrade() -> None:
    op.create_table(
        "rollups",
        *(sa.Column(name, kind, nullable=False) for name, kind in (
            ("slot", sa.Text()), ("title_id", sa.Text()), ("day", sa.Integer()),
            ("action_set_id", sa.BigInteger()), ("cell", sa.Text()), ("variant_id", sa.Text()),
            ("bucket", sa.SmallInteger()), ("impressions", sa.Integer()),
            ("units", sa.Integer()), ("plays", sa.Integer()), ("drawn", sa.Integer()),
            ("drawn_plays", sa.Integer()), ("weight", sa.Float(53)), ("weight2", sa.Float(53)),
            ("weighted_plays", sa.Float(53)),
        )),
        sa.PrimaryKeyConstraint(
            "slot", "title_id", "day", "action_set_id", "cell", "variant_id", "bucket",
            name="pk_rollups",
        ),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "cell_rollups",
        *(sa.Column(name, kind, nullable=False) for name, kind in (
            ("slot", sa.Text()), ("hour", sa.Integer()), ("cell", sa.Text()),
            ("model_version", sa.Integer()), ("bucket", sa.SmallInteger()),
            ("impressions", sa.Integer()), ("units", sa.Integer()), ("plays", sa.Integer()),
        )),
        sa.PrimaryKeyConstraint(
            "slot", "hour", "cell", "model_version", "bucket", name="pk_cell_rollups"
        ),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "summaries",
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("title_id", sa.Text(), nullable=False),
        sa.Column("marks", sa.BigInteger(), nullable=False),
        sa.Column("summed", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.BigInteger()),
        sa.Column("impressions", sa.BigInteger()),
        sa.Column("impressions_week", sa.BigInteger()),
        sa.Column("units", sa.BigInteger()),
        sa.Column("plays", sa.BigInteger()),
        sa.Column("verdict", sa.Text()),
        sa.Column("verdict_since", sa.BigInteger()),
        sa.Column("verdict_before", sa.Text()),
        sa.Column("leader", sa.Text()),
        sa.Column("gain", sa.Float(53)),
        sa.Column("days_left", sa.Float(53)),
        sa.Column("reason", sa.Text()),
        sa.Column("warning", sa.Text()),
        sa.Column("effects", sa.JSON()),
        sa.PrimaryKeyConstraint("slot", "title_id", name="pk_summaries"),
    )
    where = {f"{name}_where": sa.text("marks <> summed") for name in ("sqlite", "postgresql")}
    op.create_index("ix_summaries_stale", "summaries", ["slot", "made_at"], **where)
    op.create_index("ix_summaries_slot_verdict", "summaries", ["slot", "verdict"])
    op.create_index("ix_summaries_title_id", "summaries", ["title_id"])
    identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "changes",
        sa.Column("change_id", identity, autoincrement=True, nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text()),
        sa.Column("title_id", sa.Text()),
        sa.Column("variant_id", sa.Text()),
        sa.Column("before", sa.JSON()),
        sa.Column("after", sa.JSON()),
        sa.Column("undoes", sa.BigInteger()),
        sa.PrimaryKeyConstraint("change_id", name="pk_changes"),
        sa.UniqueConstraint("undoes", name="uq_changes_undoes"),
    )
    op.create_index("ix_changes_title_id", "changes", ["title_id"])
    op.create_table(
        "notes",
        sa.Column("note_id", identity, autoincrement=True, nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("title_id", sa.Text()),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("written_at", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("note_id", name="pk_notes"),
    )
    op.create_table(
        "reports",
        sa.Column("report_id", identity, autoincrement=True, nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("json", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", name="pk_reports"),
    )
    op.create_index("ix_reports_slot_made_at", "reports", ["slot", "made_at"])
    op.create_index("ix_notes_slot_title_id", "notes", ["slot", "title_id"])
    op.create_index(
        "ix_rewards_title_id_slot_occurred_at", "rewards", ["title_id", "slot", "occurred_at"]
    )
    op.drop_index("ix_rewards_title_id_slot", "rewards")
    _fill()


def _fill() -> None:
    """Sum what has been joined so far; impressions of continuations by their member's bucket."""
    of_unit = (
        "FROM impressions i JOIN rewards r ON r.member_id = i.member_id AND "
        "r.title_id = i.title_id AND r.slot = i.slot AND r.period = i.period AND "
        "r.confirm = i.confirm WHERE i.settled AND i.confirm = 'client' "
    )
    op.execute(
        "INSERT INTO rollups SELECT i.slot, i.title_id, "
        f"i.occurred_at / {DAY}, i.action_set_id, i.cell, i.variant_id, r.member_bucket % 64, "
        f"COUNT(*), 0, 0, 0, 0, 0.0, 0.0, 0.0 {of_unit} GROUP BY 1, 2, 3, 4, 5, 6, 7"
    )
    sums = ("impressions", "units", "plays", "drawn", "drawn_plays", "weight", "weight2",
            "weighted_plays")  # fmt: skip
    adding = ", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in sums)
    # Units of logs made elsewhere have no impression of their own: each counts as one.
    op.execute(
        "INSERT INTO rollups SELECT r.slot, r.title_id, "
        f"r.occurred_at / {DAY}, r.action_set_id, r.cell, r.variant_id, r.member_bucket % 64, "
        "SUM(CASE WHEN i.request_id IS NULL THEN 1 ELSE 0 END), COUNT(*), SUM(r.quality_play), "
        f"SUM(CASE WHEN {DRAWN} THEN 1 ELSE 0 END), "
        f"SUM(CASE WHEN {DRAWN} THEN r.quality_play ELSE 0 END), "
        f"SUM(CASE WHEN {DRAWN} THEN 1 / r.propensity ELSE 0.0 END), "
        f"SUM(CASE WHEN {DRAWN} THEN 1 / (r.propensity * r.propensity) ELSE 0.0 END), "
        f"SUM(CASE WHEN {DRAWN} THEN r.quality_play / r.propensity ELSE 0.0 END) "
        "FROM rewards r JOIN action_sets s ON s.action_set_id = r.action_set_id "
        "LEFT JOIN impressions i ON i.request_id = r.request_id AND i.position = r.position "
        "WHERE r.confirm = 'client' GROUP BY 1, 2, 3, 4, 5, 6, 7 "
        "ON CONFLICT (slot, title_id, day, action_set_id, cell, variant_id, bucket) "
        f"DO UPDATE SET {adding}"
    )
    op.execute(
        f"INSERT INTO cell_rollups SELECT i.slot, i.occurred_at / {HOUR}, i.cell, "
        f"COALESCE(i.model_version, 0), r.member_bucket % 64, COUNT(*), 0, 0 {of_unit} "
        "GROUP BY 1, 2, 3, 4, 5"
    )
    adding = ", ".join(f"{name} = cell_rollups.{name} + excluded.{name}" for name in sums[:3])
    op.execute(
        f"INSERT INTO cell_rollups SELECT r.slot, r.occurred_at / {HOUR}, r.cell, "
        "COALESCE(r.model_version, 0), r.member_bucket % 64, "
        "SUM(CASE WHEN i.request_id IS NULL THEN 1 ELSE 0 END), COUNT(*), SUM(r.quality_play) "
        "FROM rewards r LEFT JOIN impressions i ON i.request_id = r.request_id "
        "AND i.position = r.position WHERE r.confirm = 'client' GROUP BY 1, 2, 3, 4, 5 "
        f"ON CONFLICT (slot, hour, cell, model_version, bucket) DO UPDATE SET {adding}"
    )
    op.execute(
        "INSERT INTO summaries (slot, title_id, marks, summed) "
        "SELECT DISTINCT slot, title_id, 1, 0 FROM rollups"
    )


def downgrade() -> None:
    op.create_index("ix_rewards_title_id_slot", "rewards", ["title_id", "slot"])
    op.drop_index("ix_rewards_title_id_slot_occurred_at", "rewards")
    for table in ("reports", "notes", "changes", "summaries", "cell_rollups", "rollups"):
        op.drop_table(table)
