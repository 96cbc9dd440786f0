"""schedules"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
ID = sa.Text(collation="C")
OF_SCHEDULES = sa.text("schedule IS NOT NULL")
WATCHED = sa.text("deliver_by IS NOT NULL AND at_risk_since IS NULL AND finished_at IS NULL")
DUE = sa.text("paused_at IS NULL AND removed_at IS NULL")
NAMED = sa.text("removed_at IS NULL")
REASONS = (
    "missed",
    "paused",
    "changed",
    "still_running",
    "client_revoked",
    "grant_missing",
    "workspace_removed",
    "quota_exceeded",
    "queue_full",
    "lane_draining",
    "request_refused",
)


def one_of(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=32)


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", ID, nullable=False),
        sa.Column("client", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("jitter", sa.Integer(), nullable=False),
        sa.Column("catch_up", one_of("catch_up", "skip", "latest"), nullable=False),
        sa.Column("kind", one_of("kind", "resource", "graph"), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("export", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("next_slot", TIME, nullable=False),
        sa.Column("fires_at", TIME, nullable=False),
        sa.Column("last_export", ID, nullable=True),
        sa.Column("skips", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("skip_reason", one_of("skip_reason", *REASONS), nullable=True),
        sa.Column("skipping_since", TIME, nullable=True),
        sa.Column("skipped_at", TIME, nullable=True),
        sa.Column("paused_at", TIME, nullable=True),
        sa.Column("removed_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("fires_at >= next_slot", name=op.f("schedules_jitter_delays_check")),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name=op.f("schedules_client_fkey")),
        sa.ForeignKeyConstraint(["workspace"], ["workspaces.gid"], name=op.f("schedules_workspace_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("schedules_pkey")),
    )
    op.create_index("schedules_due_idx", "schedules", ["fires_at"], postgresql_where=DUE)
    op.create_index(
        "schedules_name_idx", "schedules", ["client", "name"], unique=True, postgresql_where=NAMED
    )
    op.create_table(
        "watermarks",
        sa.Column("schedule", ID, nullable=False),
        sa.Column("moment", TIME, nullable=True),
        sa.Column("since", TIME, nullable=False),
        sa.ForeignKeyConstraint(["schedule"], ["schedules.id"], name=op.f("watermarks_schedule_fkey")),
        sa.PrimaryKeyConstraint("schedule", name=op.f("watermarks_pkey")),
    )
    op.add_column("exports", sa.Column("schedule", ID, nullable=True))
    op.add_column("exports", sa.Column("slot", TIME, nullable=True))
    op.add_column("exports", sa.Column("at_risk_since", TIME, nullable=True))
    op.create_foreign_key(op.f("exports_schedule_fkey"), "exports", "schedules", ["schedule"], ["id"])
    op.create_check_constraint(
        op.f("exports_slot_of_schedule_check"), "exports", "(schedule IS NULL) = (slot IS NULL)"
    )
    op.create_index(
        "exports_schedule_slot_idx",
        "exports",
        ["schedule", "slot"],
        unique=True,
        postgresql_where=OF_SCHEDULES,
    )
    op.create_index("exports_schedule_idx", "exports", ["schedule", "id"], postgresql_where=OF_SCHEDULES)
    op.create_index("exports_watched_idx", "exports", ["lane", "deliver_by"], postgresql_where=WATCHED)


def downgrade() -> None:
    op.drop_index("exports_watched_idx", table_name="exports", postgresql_where=WATCHED)
    op.drop_index("exports_schedule_idx", table_name="exports", postgresql_where=OF_SCHEDULES)
    op.drop_index("exports_schedule_slot_idx", table_name="exports", postgresql_where=OF_SCHEDULES)
    op.drop_constraint(op.f("exports_slot_of_schedule_check"), "exports", type_="check")
    op.drop_constraint(op.f("exports_schedule_fkey"), "exports", type_="foreignkey")
    op.drop_column("exports", "at_risk_since")
    op.drop_column("exports", "slot")
    op.drop_column("exports", "schedule")
    op.drop_table("watermarks")
    op.drop_index("schedules_name_idx", table_name="schedules", postgresql_where=NAMED)
    op.drop_index("schedules_due_idx", table_name="schedules", postgresql_where=DUE)
    op.drop_table("schedules")
