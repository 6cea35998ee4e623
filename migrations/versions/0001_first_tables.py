"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "action_sets",
        sa.Column("action_set_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("title_id", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("revision_ids", sa.JSON(), nullable=False),
        sa.Column("variant_ids", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("action_set_id", name=op.f("pk_action_sets")),
    )
    op.create_table(
        "cells",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ranges", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cells")),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=True),
        sa.Column("title_id", sa.Text(), nullable=True),
        sa.Column("slot", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("period", sa.BigInteger(), nullable=True),
        sa.Column("seconds_watched", sa.Float(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("query", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("unjoined", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "type IN ('impression', 'click', 'play', 'pause', 'rewatch', 'abandon', 'search', "
            "'thumbs_up', 'thumbs_down')",
            name=op.f("ck_events_type_known"),
        ),
        sa.CheckConstraint(
            "seconds_watched IS NULL OR seconds_watched >= 0",
            name=op.f("ck_events_watched_positive"),
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_events")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(
            "ix_events_outcome",
            ["member_id", "title_id", "slot", "occurred_at"],
            unique=False,
            sqlite_where=sa.text("type <> 'impression'"),
            postgresql_where=sa.text("type <> 'impression'"),
        )

    op.create_table(
        "generations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_generations")),
    )
    op.create_table(
        "impressions",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("title_id", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("confirm", sa.Text(), nullable=False),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=True),
        sa.Column("action_set_id", sa.BigInteger(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("variant_id", sa.Text(), nullable=False),
        sa.Column("propensity", sa.Float(precision=53), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.CheckConstraint("chosen >= 0", name=op.f("ck_impressions_chosen_not_negative")),
        sa.CheckConstraint(
            "propensity > 0 AND propensity <= 1", name=op.f("ck_impressions_propensity_in_0_1")
        ),
        sa.PrimaryKeyConstraint("request_id", "position", name=op.f("pk_impressions")),
    )
    with op.batch_alter_table("impressions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_impressions_member", ["member_id", "title_id", "occurred_at"], unique=False
        )
        batch_op.create_index(
            "ix_impressions_pending",
            ["slot", "occurred_at"],
            unique=False,
            sqlite_where=sa.text("NOT settled"),
            postgresql_where=sa.text("NOT settled"),
        )

    op.create_table(
        "models",
        sa.Column("version", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("window_from", sa.BigInteger(), nullable=True),
        sa.Column("window_to", sa.BigInteger(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bundle", sa.LargeBinary(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "status IN ('candidate', 'live', 'rejected', 'retired')",
            name=op.f("ck_models_status_known"),
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_models")),
    )
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.create_index(
            "uq_models_one_live",
            ["slot"],
            unique=True,
            sqlite_where=sa.text("status = 'live'"),
            postgresql_where=sa.text("status = 'live'"),
        )

    op.create_table(
        "profiles",
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("genres", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("member_id", name=op.f("pk_profiles")),
    )
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=True),
        sa.Column("confirm", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("choices", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "confirm IN ('client', 'server')", name=op.f("ck_requests_confirm_known")
        ),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_requests")),
    )
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_requests_member_id"), ["member_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_requests_occurred_at"), ["occurred_at"], unique=False)

    op.create_table(
        "rewards",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("title_id", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("member_bucket", sa.SmallInteger(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("confirm", sa.Text(), nullable=False),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=True),
        sa.Column("action_set_id", sa.BigInteger(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("variant_id", sa.Text(), nullable=False),
        sa.Column("propensity", sa.Float(precision=53), nullable=False),
        sa.Column("clicks", sa.Integer(), nullable=False),
        sa.Column("plays", sa.Integer(), nullable=False),
        sa.Column("rewatches", sa.Integer(), nullable=False),
        sa.Column("abandons", sa.Integer(), nullable=False),
        sa.Column("thumbs_up", sa.Integer(), nullable=False),
        sa.Column("thumbs_down", sa.Integer(), nullable=False),
        sa.Column("seconds_watched", sa.Float(), nullable=True),
        sa.Column("watched_share", sa.Float(), nullable=True),
        sa.Column("quality_play", sa.Integer(), nullable=False),
        sa.Column("reward", sa.Float(precision=53), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "propensity > 0 AND propensity <= 1", name=op.f("ck_rewards_propensity_in_0_1")
        ),
        sa.CheckConstraint("quality_play IN (0, 1)", name=op.f("ck_rewards_quality_play_0_1")),
        sa.PrimaryKeyConstraint("request_id", "position", name=op.f("pk_rewards")),
        sa.UniqueConstraint(
            "member_id",
            "title_id",
            "slot",
            "period",
            "confirm",
            name=op.f("uq_rewards_member_id_title_id_slot_period_confirm"),
        ),
    )
    with op.batch_alter_table("rewards", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_rewards_slot_occurred_at"), ["slot", "occurred_at"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_rewards_title_id_slot"), ["title_id", "slot"], unique=False
        )

    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "titles",
        sa.Column("title_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("genres", sa.JSON(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("release_year", sa.Integer(), nullable=True),
        sa.Column("maturity", sa.Text(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("title_id", name=op.f("pk_titles")),
    )
    op.create_table(
        "promotions",
        sa.Column(
            "promotion_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=True),
        sa.Column("promoted_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version"], ["models.version"], name=op.f("fk_promotions_model_version_models")
        ),
        sa.PrimaryKeyConstraint("promotion_id", name=op.f("pk_promotions")),
    )
    op.create_table(
        "variants",
        sa.Column("variant_id", sa.Text(), nullable=False),
        sa.Column("title_id", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=True),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.Column("countries", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("languages", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("maturity", sa.Text(), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('active', 'paused', 'retired')", name=op.f("ck_variants_status_known")
        ),
        sa.CheckConstraint(
            "starts_at IS NULL OR ends_at IS NULL OR starts_at < ends_at",
            name=op.f("ck_variants_dates_in_order"),
        ),
        sa.ForeignKeyConstraint(
            ["title_id"], ["titles.title_id"], name=op.f("fk_variants_title_id_titles")
        ),
        sa.PrimaryKeyConstraint("variant_id", name=op.f("pk_variants")),
    )
    with op.batch_alter_table("variants", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_variants_title_id_slot"), ["title_id", "slot"], unique=False
        )

    op.create_table(
        "variant_revisions",
        sa.Column(
            "revision_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("variant_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["variant_id"],
            ["variants.variant_id"],
            name=op.f("fk_variant_revisions_variant_id_variants"),
        ),
        sa.PrimaryKeyConstraint("revision_id", name=op.f("pk_variant_revisions")),
        sa.UniqueConstraint(
            "variant_id", "revision", name=op.f("uq_variant_revisions_variant_id_revision")
        ),
    )


def downgrade() -> None:
    op.drop_table("variant_revisions")
    with op.batch_alter_table("variants", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_variants_title_id_slot"))

    op.drop_table("variants")
    op.drop_table("promotions")
    op.drop_table("titles")
    op.drop_table("secrets")
    with op.batch_alter_table("rewards", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rewards_title_id_slot"))
        batch_op.drop_index(batch_op.f("ix_rewards_slot_occurred_at"))

    op.drop_table("rewards")
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_requests_occurred_at"))
        batch_op.drop_index(batch_op.f("ix_requests_member_id"))

    op.drop_table("requests")
    op.drop_table("profiles")
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_models_one_live",
            sqlite_where=sa.text("status = 'live'"),
            postgresql_where=sa.text("status = 'live'"),
        )

    op.drop_table("models")
    with op.batch_alter_table("impressions", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_impressions_pending",
            sqlite_where=sa.text("NOT settled"),
            postgresql_where=sa.text("NOT settled"),
        )
        batch_op.drop_index("ix_impressions_member")

    op.drop_table("impressions")
    op.drop_table("generations")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_events_outcome",
            sqlite_where=sa.text("type <> 'impression'"),
            postgresql_where=sa.text("type <> 'impression'"),
        )

    op.drop_table("events")
    op.drop_table("cells")
    op.drop_table("action_sets")
