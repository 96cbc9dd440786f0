"""the spine"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Retention may delete events; nothing may alter one.
EVENTS_NEVER_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % never change', TG_TABLE_NAME;
END $$
"""

# What a lane as a whole waits for is written in many places; here no change of it is missed, and those who
# wait for an export in the lane hear of it.
NOTE_LANE_WAIT = """
CREATE FUNCTION note_lane_wait() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := CASE WHEN OLD.paused_at IS NULL THEN OLD.wait_reason ELSE 'lane_paused' END;
    after text := CASE WHEN NEW.paused_at IS NULL THEN NEW.wait_reason ELSE 'lane_paused' END;
BEGIN
    IF after IS DISTINCT FROM before THEN
        UPDATE lane_waits SET until = clock_timestamp() WHERE lane = NEW.key AND until IS NULL;
        IF after IS NOT NULL THEN
            INSERT INTO lane_waits (lane, since, reason) VALUES (NEW.key, clock_timestamp(), after);
        END IF;
        PERFORM pg_notify('asana_exports_changes', NEW.key);
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "acknowledgements",
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("item", name=op.f("acknowledgements_pkey")),
    )
    op.create_table(
        "clients",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("max_queued", sa.Integer(), nullable=True),
        sa.Column("max_stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("clients_pkey")),
        sa.UniqueConstraint("name", name=op.f("clients_name_key")),
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("valid", "invalid", name="state", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("invalid_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("limited_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asana_user", sa.Text(), nullable=False),
        sa.Column("asana_user_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("credentials_pkey")),
        sa.UniqueConstraint("name", name=op.f("credentials_name_key")),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("export", sa.Text(collation="C"), nullable=True),
        sa.Column("run", sa.Text(collation="C"), nullable=True),
        sa.Column("lane", sa.Text(collation="C"), nullable=True),
        sa.Column("credential", sa.Text(collation="C"), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column(
            "data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("events_pkey")),
        sa.UniqueConstraint("id", name=op.f("events_id_key")),
    )
    op.create_index(
        "events_export_idx",
        "events",
        ["export", "seq"],
        unique=False,
        postgresql_where=sa.text("export IS NOT NULL"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("workers_pkey")),
    )
    op.create_table(
        "grants",
        sa.Column("client", sa.Text(collation="C"), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "highest_priority",
            sa.Enum(
                "urgent",
                "high",
                "normal",
                "low",
                name="highest_priority",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("max_queued", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["client"], ["clients.id"], name=op.f("grants_client_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("client", "workspace", name=op.f("grants_pkey")),
    )
    op.create_table(
        "workspaces",
        sa.Column("gid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["credential"], ["credentials.id"], name=op.f("workspaces_credential_fkey")),
        sa.PrimaryKeyConstraint("gid", name=op.f("workspaces_pkey")),
    )
    op.create_index(op.f("workspaces_credential_idx"), "workspaces", ["credential"], unique=False)
    op.create_table(
        "lanes",
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("has_work", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("holder", sa.Text(collation="C"), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "wait_reason",
            sa.Enum(
                "behind_others",
                "upstream_slot_busy",
                "rate_limited",
                "credential_invalid",
                "lane_paused",
                "backoff",
                "storage_full",
                "waiting_for_worker",
                name="wait_reason",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("probes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("turns", sa.ARRAY(sa.BigInteger()), server_default=sa.text("'{0,0,0,0}'"), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("draining_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["holder"], ["workers.id"], name=op.f("lanes_holder_fkey"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["workspace"], ["workspaces.gid"], name=op.f("lanes_workspace_fkey")),
        sa.PrimaryKeyConstraint("key", name=op.f("lanes_pkey")),
    )
    op.create_index(
        "lanes_free_idx",
        "lanes",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("has_work AND holder IS NULL"),
    )
    op.create_index(
        "lanes_holder_idx", "lanes", ["holder"], unique=False, postgresql_where=sa.text("holder IS NOT NULL")
    )
    op.create_index(op.f("lanes_workspace_idx"), "lanes", ["workspace"], unique=False)
    op.create_table(
        "lane_waits",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("lane", sa.Text(collation="C"), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "reason",
            sa.Enum(
                "behind_others",
                "upstream_slot_busy",
                "rate_limited",
                "credential_invalid",
                "lane_paused",
                "backoff",
                "storage_full",
                "waiting_for_worker",
                name="reason",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("blocked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unblocked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["lane"], ["lanes.key"], name=op.f("lane_waits_lane_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("lane_waits_pkey")),
    )
    op.create_index(
        "lane_waits_blocked_idx",
        "lane_waits",
        ["lane"],
        unique=False,
        postgresql_where=sa.text("blocked_at IS NOT NULL AND unblocked_at IS NULL"),
    )
    op.create_index(
        "lane_waits_open_idx", "lane_waits", ["lane"], unique=True, postgresql_where=sa.text("until IS NULL")
    )
    op.create_index("lane_waits_past_idx", "lane_waits", ["lane", "until"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("lane", sa.Text(collation="C"), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(collation="C"), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("resource", "graph", name="kind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "queued",
                "running",
                "archiving",
                "canceling",
                "succeeded",
                "failed",
                "canceled",
                name="status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "phase",
            sa.Enum(
                "submitting",
                "submit_unknown",
                "polling",
                name="phase",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column(
            "wait_reason",
            sa.Enum(
                "behind_others",
                "upstream_slot_busy",
                "rate_limited",
                "credential_invalid",
                "lane_paused",
                "backoff",
                "storage_full",
                "waiting_for_worker",
                name="wait_reason",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("rank", sa.SmallInteger(), nullable=False),
        sa.Column("promotes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due", sa.Double(), server_default=sa.text("'Infinity'"), nullable=False),
        sa.Column("client", sa.Text(collation="C"), nullable=False),
        sa.Column("turn", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("asana_job", sa.Text(), nullable=True),
        sa.Column("asana_export", sa.Text(), nullable=True),
        sa.Column("data_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("data_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archiver", sa.Text(collation="C"), nullable=True),
        sa.Column("archive_fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "warnings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("slot_freed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'canceled'))",
            name=op.f("runs_finished_check"),
        ),
        sa.CheckConstraint(
            "(phase IS NOT NULL) = (status IN ('running', 'canceling'))",
            name=op.f("runs_phase_in_slot_check"),
        ),
        sa.ForeignKeyConstraint(
            ["archiver"], ["workers.id"], name=op.f("runs_archiver_fkey"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name=op.f("runs_client_fkey")),
        sa.ForeignKeyConstraint(["credential"], ["credentials.id"], name=op.f("runs_credential_fkey")),
        sa.ForeignKeyConstraint(["lane"], ["lanes.key"], name=op.f("runs_lane_fkey")),
        sa.ForeignKeyConstraint(["workspace"], ["workspaces.gid"], name=op.f("runs_workspace_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_pkey")),
    )
    op.create_index(
        "runs_archiver_idx",
        "runs",
        ["archiver"],
        unique=False,
        postgresql_where=sa.text("archiver IS NOT NULL"),
    )
    op.create_index(
        "runs_archiving_idx", "runs", ["id"], unique=False, postgresql_where=sa.text("status = 'archiving'")
    )
    op.create_index(
        "runs_credential_idx",
        "runs",
        ["credential", "lane"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "runs_failed_idx",
        "runs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("status = 'failed'"),
    )
    op.create_index(
        "runs_one_live_per_lane_idx",
        "runs",
        ["lane"],
        unique=True,
        postgresql_where=sa.text("status IN ('running', 'canceling')"),
    )
    op.create_index(
        "runs_past_of_kind_here_idx",
        "runs",
        ["workspace", "kind", "slot_freed_at"],
        unique=False,
        postgresql_where=sa.text("status = 'succeeded'"),
    )
    op.create_index(
        "runs_past_of_kind_idx",
        "runs",
        ["kind", "slot_freed_at"],
        unique=False,
        postgresql_where=sa.text("status = 'succeeded'"),
    )
    op.create_index(
        "runs_past_of_lane_idx",
        "runs",
        ["lane", "slot_freed_at"],
        unique=False,
        postgresql_where=sa.text("status = 'succeeded'"),
    )
    op.create_index(
        "runs_past_of_shape_idx",
        "runs",
        ["workspace", "kind", "shape", "slot_freed_at"],
        unique=False,
        postgresql_where=sa.text("status = 'succeeded'"),
    )
    op.create_index(
        "runs_promotion_idx",
        "runs",
        ["promotes_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued' AND promotes_at IS NOT NULL"),
    )
    op.create_index(
        "runs_queue_idx",
        "runs",
        ["lane", "rank", "due", "turn", "queued_at", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index("runs_sharing_idx", "runs", ["fingerprint", "id"], unique=False)
    op.create_index(
        "runs_turn_idx",
        "runs",
        ["lane", "client", "turn"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("run", sa.Text(collation="C"), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "available",
                "expiring",
                "expired",
                "deleted",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("uncompressed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("by_type", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("artifacts_run_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("artifacts_pkey")),
        sa.UniqueConstraint("key", name=op.f("artifacts_key_key")),
        sa.UniqueConstraint("run", name=op.f("artifacts_run_key")),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("client", sa.Text(collation="C"), nullable=False),
        sa.Column("run", sa.Text(collation="C"), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("resource", "graph", name="kind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(collation="C"), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "queued",
                "running",
                "archiving",
                "canceling",
                "succeeded",
                "failed",
                "canceled",
                name="status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "priority",
            sa.Enum(
                "urgent",
                "high",
                "normal",
                "low",
                name="priority",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("deliver_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queue_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_of", sa.Text(collation="C"), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase_since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("external_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("backoff_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("paused_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("run_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("archive_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'canceled'))",
            name=op.f("exports_finished_check"),
        ),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name=op.f("exports_client_fkey")),
        sa.ForeignKeyConstraint(["lane"], ["lanes.key"], name=op.f("exports_lane_fkey")),
        sa.ForeignKeyConstraint(["retry_of"], ["exports.id"], name=op.f("exports_retry_of_fkey")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("exports_run_fkey")),
        sa.ForeignKeyConstraint(["workspace"], ["workspaces.gid"], name=op.f("exports_workspace_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("exports_pkey")),
    )
    op.create_index("exports_client_idx", "exports", ["client", "id"], unique=False)
    op.create_index("exports_labels_idx", "exports", ["labels"], unique=False, postgresql_using="gin")
    op.create_index(
        "exports_queue_until_idx",
        "exports",
        ["queue_until"],
        unique=False,
        postgresql_where=sa.text("status = 'queued' AND queue_until IS NOT NULL"),
    )
    op.create_index(op.f("exports_run_idx"), "exports", ["run"], unique=False)
    op.create_index(
        "exports_waiting_idx",
        "exports",
        ["client", "lane"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index("exports_workspace_idx", "exports", ["workspace", "id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("client", sa.Text(collation="C"), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("export", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["client"], ["clients.id"], name=op.f("idempotency_keys_client_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["export"], ["exports.id"], name=op.f("idempotency_keys_export_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("client", "route", "key", name=op.f("idempotency_keys_pkey")),
    )
    op.create_index(op.f("idempotency_keys_created_at_idx"), "idempotency_keys", ["created_at"], unique=False)
    op.execute(EVENTS_NEVER_CHANGE)
    op.execute(
        "CREATE TRIGGER events_never_change BEFORE UPDATE ON events "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(NOTE_LANE_WAIT)
    op.execute(
        "CREATE TRIGGER note_lane_wait AFTER UPDATE ON lanes FOR EACH ROW "
        "WHEN ((OLD.wait_reason, OLD.paused_at) IS DISTINCT FROM (NEW.wait_reason, NEW.paused_at)) "
        "EXECUTE FUNCTION note_lane_wait()"
    )


def downgrade() -> None:
    op.drop_index(op.f("idempotency_keys_created_at_idx"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("exports_workspace_idx", table_name="exports")
    op.drop_index("exports_waiting_idx", table_name="exports", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index(op.f("exports_run_idx"), table_name="exports")
    op.drop_index(
        "exports_queue_until_idx",
        table_name="exports",
        postgresql_where=sa.text("status = 'queued' AND queue_until IS NOT NULL"),
    )
    op.drop_index("exports_labels_idx", table_name="exports", postgresql_using="gin")
    op.drop_index("exports_client_idx", table_name="exports")
    op.drop_table("exports")
    op.drop_table("artifacts")
    op.drop_index("runs_turn_idx", table_name="runs", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index("runs_sharing_idx", table_name="runs")
    op.drop_index("runs_queue_idx", table_name="runs", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index(
        "runs_promotion_idx",
        table_name="runs",
        postgresql_where=sa.text("status = 'queued' AND promotes_at IS NOT NULL"),
    )
    op.drop_index(
        "runs_past_of_shape_idx", table_name="runs", postgresql_where=sa.text("status = 'succeeded'")
    )
    op.drop_index(
        "runs_past_of_lane_idx", table_name="runs", postgresql_where=sa.text("status = 'succeeded'")
    )
    op.drop_index(
        "runs_past_of_kind_idx", table_name="runs", postgresql_where=sa.text("status = 'succeeded'")
    )
    op.drop_index(
        "runs_past_of_kind_here_idx", table_name="runs", postgresql_where=sa.text("status = 'succeeded'")
    )
    op.drop_index(
        "runs_one_live_per_lane_idx",
        table_name="runs",
        postgresql_where=sa.text("status IN ('running', 'canceling')"),
    )
    op.drop_index("runs_failed_idx", table_name="runs", postgresql_where=sa.text("status = 'failed'"))
    op.drop_index("runs_credential_idx", table_name="runs", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index("runs_archiving_idx", table_name="runs", postgresql_where=sa.text("status = 'archiving'"))
    op.drop_index("runs_archiver_idx", table_name="runs", postgresql_where=sa.text("archiver IS NOT NULL"))
    op.drop_table("runs")
    op.drop_index("lane_waits_past_idx", table_name="lane_waits")
    op.drop_index("lane_waits_open_idx", table_name="lane_waits", postgresql_where=sa.text("until IS NULL"))
    op.drop_index(
        "lane_waits_blocked_idx",
        table_name="lane_waits",
        postgresql_where=sa.text("blocked_at IS NOT NULL AND unblocked_at IS NULL"),
    )
    op.drop_table("lane_waits")
    op.drop_index(op.f("lanes_workspace_idx"), table_name="lanes")
    op.drop_index("lanes_holder_idx", table_name="lanes", postgresql_where=sa.text("holder IS NOT NULL"))
    op.drop_index(
        "lanes_free_idx", table_name="lanes", postgresql_where=sa.text("has_work AND holder IS NULL")
    )
    op.drop_table("lanes")
    op.drop_index(op.f("workspaces_credential_idx"), table_name="workspaces")
    op.drop_table("workspaces")
    op.drop_table("grants")
    op.drop_table("workers")
    op.drop_index("events_export_idx", table_name="events", postgresql_where=sa.text("export IS NOT NULL"))
    op.drop_table("events")
    op.drop_table("credentials")
    op.drop_table("clients")
    op.drop_table("acknowledgements")
    op.execute("DROP FUNCTION refuse_change")
    op.execute("DROP FUNCTION note_lane_wait")
