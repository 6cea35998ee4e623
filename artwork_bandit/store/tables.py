"""The tables. Rows never leave this room: every function of `store` takes and gives values.

Requests and events are append-only, but for what an event is found to have followed: then it is
told to be of who was shown that. A variant's content is immutable: a change is a new revision,
and action sets name revisions. `rewards` is derived, one row per unit of replay (the first
rendered decision of a member, title, slot and period). `rollups` and `cell_rollups` are sums of
it, made in the same transaction; `summaries` is what follows from them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from artwork_bandit import domain
from artwork_bandit.store.columns import Identity64, Instant, metadata, one_of

OF_VIEWING = sa.text("type IN ('play', 'rewatch', 'pause', 'abandon') AND sender_id IS NOT NULL")
"""As an index says it: asked otherwise, SQLite does not use it."""


def _required(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


titles = sa.Table(
    "titles", metadata,
    sa.Column("title_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("genres", sa.JSON, nullable=False),
    sa.Column("kind", sa.Text),
    sa.Column("release_year", sa.Integer),
    sa.Column("maturity", sa.Text),
    sa.Column("duration_seconds", sa.Float),
    sa.Column("exploration_paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("updated_at", Instant, nullable=False),
)  # fmt: skip

variants = sa.Table(
    "variants", metadata,
    sa.Column("variant_id", sa.Text, primary_key=True),
    sa.Column("title_id", sa.Text, sa.ForeignKey("titles.title_id"), nullable=False),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("position", Identity64, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("starts_at", Instant),
    sa.Column("ends_at", Instant),
    sa.Column("countries", sa.JSON(none_as_null=True)),
    sa.Column("languages", sa.JSON(none_as_null=True)),
    sa.Column("maturity", sa.Text),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    # The catalogue's generation that last changed this row: what running servers read again.
    sa.Column("changed", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Index(None, "title_id", "slot"),
    sa.Index(None, "changed"),
    one_of("status", [s.value for s in domain.VariantStatus], "status_known"),
    sa.CheckConstraint("starts_at IS NULL OR ends_at IS NULL OR starts_at < ends_at",
                       name="dates_in_order"),
)  # fmt: skip

variant_revisions = sa.Table(
    "variant_revisions", metadata,
    sa.Column("revision_id", Identity64, primary_key=True, autoincrement=True),
    sa.Column("variant_id", sa.Text, sa.ForeignKey("variants.variant_id"), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("features", sa.JSON, nullable=False),
    sa.Column("title_genres", sa.JSON),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("variant_id", "revision"),
)  # fmt: skip

action_sets = sa.Table(
    "action_sets", metadata,
    sa.Column("action_set_id", sa.BigInteger, primary_key=True, autoincrement=False),
    *_required(sa.Text, "title_id", "slot"),
    sa.Column("revision_ids", sa.JSON, nullable=False),
    sa.Column("variant_ids", sa.JSON, nullable=False),
    sa.Column("default_index", sa.Integer),
)  # fmt: skip

requests = sa.Table(
    "requests", metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    *_required(sa.Text, "member_id", "slot"),
    sa.Column("occurred_at", Instant, nullable=False),
    sa.Column("period", sa.BigInteger, nullable=False),
    *_required(sa.Text, "cell", "policy"),
    sa.Column("model_version", sa.Integer),
    *_required(sa.Text, "confirm", "fingerprint", "context"),
    sa.Column("choices", sa.LargeBinary, nullable=False),
    sa.Index(None, "member_id"),
    sa.Index(None, "occurred_at"),
    one_of("confirm", ["client", "server"], "confirm_known"),
)  # fmt: skip

impressions = sa.Table(
    "impressions", metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    *_required(sa.Text, "member_id", "title_id", "slot"),
    sa.Column("period", sa.BigInteger, nullable=False),
    *_required(Instant, "occurred_at", "received_at"),
    *_required(sa.Text, "confirm", "cell", "policy"),
    sa.Column("model_version", sa.Integer),
    sa.Column("action_set_id", sa.BigInteger, nullable=False),
    sa.Column("chosen", sa.Integer, nullable=False),
    sa.Column("variant_id", sa.Text, nullable=False),
    sa.Column("propensity", sa.Float(53), nullable=False),
    sa.Column("settled", sa.Boolean, nullable=False, default=False),
    sa.Index("ix_impressions_pending", "slot", "occurred_at",
             sqlite_where=sa.text("NOT settled"), postgresql_where=sa.text("NOT settled")),
    sa.Index("ix_impressions_member", "member_id", "title_id", "occurred_at"),
    sa.CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_in_0_1"),
    sa.CheckConstraint("chosen >= 0", name="chosen_not_negative"),
)  # fmt: skip

events = sa.Table(
    "events", metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    *_required(Instant, "occurred_at", "received_at"),
    sa.Column("member_id", sa.Text),
    sa.Column("title_id", sa.Text),
    sa.Column("slot", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("position", sa.Integer),
    sa.Column("period", sa.BigInteger),
    sa.Column("seconds_watched", sa.Float),
    sa.Column("duration_seconds", sa.Float),
    sa.Column("query", sa.Text),
    sa.Column("device", sa.Text),
    sa.Column("hour", sa.Integer),
    sa.Column("weekday", sa.Integer),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("unjoined", sa.Text),
    # Who did it, as far as the sender knew: `member_id` is of what it followed, once it is joined.
    sa.Column("sender_id", sa.Text),
    sa.Index("ix_events_viewing", "sender_id", "title_id", "occurred_at",
             sqlite_where=OF_VIEWING, postgresql_where=OF_VIEWING),
    sa.Index("ix_events_outcome", "member_id", "title_id", "slot", "occurred_at",
             sqlite_where=sa.text("type <> 'impression'"),
             postgresql_where=sa.text("type <> 'impression'")),
    sa.Index("ix_events_unjoined", "unjoined", "occurred_at",
             sqlite_where=sa.text("source = 'client' AND unjoined IS NOT NULL"),
             postgresql_where=sa.text("source = 'client' AND unjoined IS NOT NULL")),
    one_of("type", [t.value for t in domain.EventType if t is not domain.EventType.MERGE],
            "type_known"),
    sa.CheckConstraint("seconds_watched IS NULL OR seconds_watched >= 0", name="watched_positive"),
)  # fmt: skip

rewards = sa.Table(
    "rewards", metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    *_required(sa.Text, "member_id", "title_id", "slot"),
    sa.Column("period", sa.BigInteger, nullable=False),
    sa.Column("member_bucket", sa.SmallInteger, nullable=False),
    sa.Column("occurred_at", Instant, nullable=False),
    *_required(sa.Text, "confirm", "cell", "policy"),
    sa.Column("model_version", sa.Integer),
    sa.Column("action_set_id", sa.BigInteger, nullable=False),
    sa.Column("chosen", sa.Integer, nullable=False),
    sa.Column("variant_id", sa.Text, nullable=False),
    sa.Column("propensity", sa.Float(53), nullable=False),
    *_required(
        sa.Integer, "clicks", "plays", "rewatches", "abandons", "thumbs_up", "thumbs_down"
    ),
    sa.Column("seconds_watched", sa.Float),
    sa.Column("watched_share", sa.Float),
    sa.Column("quality_play", sa.Integer, nullable=False),
    sa.Column("reward", sa.Float(53), nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("settled_at", Instant, nullable=False),
    sa.UniqueConstraint("member_id", "title_id", "slot", "period", "confirm"),
    sa.Index(None, "slot", "occurred_at"),
    sa.Index(None, "title_id", "slot", "occurred_at"),
    sa.CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_in_0_1"),
    sa.CheckConstraint("quality_play IN (0, 1)", name="quality_play_0_1"),
)  # fmt: skip

rollups = sa.Table(
    "rollups", metadata,
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("title_id", sa.Text, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("action_set_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("cell", sa.Text, primary_key=True),
    sa.Column("variant_id", sa.Text, primary_key=True),
    sa.Column("bucket", sa.SmallInteger, primary_key=True, autoincrement=False),
    *_required(sa.Integer, "impressions", "units", "plays"),
    # The units whose variant was drawn: where the choice was certain, nothing can be learned.
    *_required(sa.Integer, "drawn", "drawn_plays"),
    *_required(sa.Float(53), "weight", "weight2", "weighted_plays"),
    sqlite_with_rowid=False,
)  # fmt: skip

cell_rollups = sa.Table(
    "cell_rollups", metadata,
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("cell", sa.Text, primary_key=True),
    # 0 where no model chose.
    sa.Column("model_version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("bucket", sa.SmallInteger, primary_key=True, autoincrement=False),
    *_required(sa.Integer, "impressions", "units", "plays"),
    # Units whose reward is not 0, and the sums of all rewards and their squares.
    sa.Column("paid", sa.Integer, nullable=False, server_default="0"),
    sa.Column("reward", sa.Float(53), nullable=False, server_default="0"),
    sa.Column("reward2", sa.Float(53), nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)  # fmt: skip

rules = sa.Table(
    "rules", metadata,
    # What was shown since then is settled under the rule, what followed for so long; NULL: unknown.
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("since", Instant, primary_key=True),
    sa.Column("rule", sa.Text, nullable=False),
    # All that it pays, as JSON; NULL of units that a release before settled.
    sa.Column("formula", sa.Text),
    sa.Column("window_seconds", sa.Float(53)),
)  # fmt: skip

imported_rules = sa.Table(
    "imported_rules", metadata,
    # Which rules imported rewards are said to be of, and the smallest and the largest of each.
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    *_required(sa.Float(53), "least", "most"),
)  # fmt: skip

summaries = sa.Table(
    "summaries", metadata,
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("title_id", sa.Text, primary_key=True),
    # Counts what happened to the title, and up to where it has been summed up: where they differ
    # the worker sums up again.
    *_required(sa.BigInteger, "marks", "summed"),
    sa.Column("made_at", Instant),
    sa.Column("impressions", sa.BigInteger),
    sa.Column("impressions_week", sa.BigInteger),
    sa.Column("units", sa.BigInteger),
    sa.Column("plays", sa.BigInteger),
    sa.Column("verdict", sa.Text),
    sa.Column("verdict_since", Instant),
    sa.Column("verdict_before", sa.Text),
    sa.Column("leader", sa.Text),
    sa.Column("gain", sa.Float(53)),
    sa.Column("days_left", sa.Float(53)),
    sa.Column("reason", sa.Text),
    sa.Column("warning", sa.Text),
    # Variant id -> [effect relative to the title's mean, effective rows].
    sa.Column("effects", sa.JSON(none_as_null=True)),
    sa.Index("ix_summaries_stale", "slot", "made_at",
             sqlite_where=sa.text("marks <> summed"),
             postgresql_where=sa.text("marks <> summed")),
    sa.Index(None, "slot", "verdict"),
    sa.Index(None, "title_id"),
)  # fmt: skip

changes = sa.Table(
    "changes", metadata,
    sa.Column("change_id", Identity64, primary_key=True, autoincrement=True),
    sa.Column("changed_at", Instant, nullable=False),
    *_required(sa.Text, "author", "action"),
    sa.Column("slot", sa.Text),
    sa.Column("title_id", sa.Text),
    sa.Column("variant_id", sa.Text),
    sa.Column("before", sa.JSON(none_as_null=True)),
    sa.Column("after", sa.JSON(none_as_null=True)),
    sa.Column("undoes", sa.BigInteger),
    sa.Index(None, "title_id"),
    sa.UniqueConstraint("undoes"),
)  # fmt: skip

reports = sa.Table(
    "reports", metadata,
    sa.Column("report_id", Identity64, primary_key=True, autoincrement=True),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("summary", sa.JSON, nullable=False),
    *_required(sa.Text, "json", "html"),
    sa.Index(None, "slot", "made_at"),
)  # fmt: skip

notes = sa.Table(
    "notes", metadata,
    sa.Column("note_id", Identity64, primary_key=True, autoincrement=True),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("title_id", sa.Text),
    sa.Column("day", sa.Integer, nullable=False),
    *_required(sa.Text, "text", "author"),
    sa.Column("written_at", Instant, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index(None, "slot", "title_id"),
)  # fmt: skip

profiles = sa.Table(
    "profiles", metadata,
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("as_of", Instant, nullable=False),
    sa.Column("genres", sa.Text, nullable=False),
    sa.Column("played", sa.Text, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("habits", sa.Text, nullable=False, server_default=sa.text("'{}'")),
)  # fmt: skip

merges = sa.Table(
    "merges", metadata,
    sa.Column("visitor_id", sa.Text, primary_key=True),
    sa.Column("member_id", sa.Text, nullable=False, index=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("merged_at", Instant, nullable=False),
)  # fmt: skip

models = sa.Table(
    "models", metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=True),
    *_required(sa.Text, "slot", "status"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("window_from", Instant),
    sa.Column("window_to", Instant),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("bundle", sa.LargeBinary, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # When its bundle was emptied; NULL: it is there.
    sa.Column("deleted_at", Instant),
    sa.Index("uq_models_one_live", "slot", unique=True,
             sqlite_where=sa.text("status = 'live'"),
             postgresql_where=sa.text("status = 'live'")),
    one_of("status", ["candidate", "live", "rejected", "retired"], "status_known"),
)  # fmt: skip

floors = sa.Table(
    "floors", metadata,
    # What models that served a slot ever spread evenly over the eligible variants.
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("explored_share", sa.Float(53), primary_key=True),
)  # fmt: skip

challengers = sa.Table(
    "challengers", metadata,
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("model_version", sa.Integer, sa.ForeignKey("models.version"), nullable=False),
    sa.Column("since", Instant, nullable=False),
)  # fmt: skip

challenges = sa.Table(
    "challenges", metadata,
    # Who challenged in a slot from when on; NULL: nobody did.
    sa.Column("challenge_id", Identity64, primary_key=True, autoincrement=True),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("model_version", sa.Integer, sa.ForeignKey("models.version")),
    sa.Column("since", Instant, nullable=False),
)  # fmt: skip

promotions = sa.Table(
    "promotions", metadata,
    sa.Column("promotion_id", Identity64, primary_key=True, autoincrement=True),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("model_version", sa.Integer, sa.ForeignKey("models.version")),
    sa.Column("promoted_at", Instant, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("rolls_back", sa.Boolean),
)  # fmt: skip

cells = sa.Table(
    "cells", metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("ranges", sa.JSON, nullable=False),
)  # fmt: skip

secrets = sa.Table(
    "secrets", metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)  # fmt: skip

generations = sa.Table(
    "generations", metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)  # fmt: skip

pauses = sa.Table(
    "pauses", metadata,
    sa.Column("pause_id", Identity64, primary_key=True, autoincrement=True),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)  # fmt: skip
