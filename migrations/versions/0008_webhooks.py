"""webhooks"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def one_of(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=32)


def a_time(name: str, *, default: str | None = None) -> sa.Column[object]:
    server_default = sa.text(default) if default else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=server_default, nullable=not default)


def upgrade() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("client", sa.Text(collation="C"), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("workspaces", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary(), nullable=True),
        a_time("previous_until"),
        a_time("disabled_at"),
        sa.Column("disabled_because", one_of("disabled_because", "asked", "gone", "failing"), nullable=True),
        sa.Column("failing", sa.Integer(), server_default=sa.text("0"), nullable=False),
        a_time("failing_since"),
        a_time("not_before"),
        a_time("created_at", default="clock_timestamp()"),
        a_time("updated_at", default="clock_timestamp()"),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_because IS NULL)",
            name=op.f("webhook_endpoints_disabled_check"),
        ),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_until IS NULL)",
            name=op.f("webhook_endpoints_previous_check"),
        ),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name=op.f("webhook_endpoints_client_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_endpoints_pkey")),
    )
    op.create_index("webhook_endpoints_client_idx", "webhook_endpoints", ["client"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("endpoint", sa.Text(collation="C"), nullable=False),
        sa.Column("event", sa.Text(collation="C"), nullable=False),
        sa.Column(
            "state",
            one_of("state", "pending", "delivered", "failed"),
            server_default="pending",
            nullable=False,
        ),
        a_time("due_at", default="now()"),
        sa.Column("ticket", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        a_time("failing_since"),
        a_time("failed_at"),
        sa.Column(
            "attempts",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        a_time("created_at", default="clock_timestamp()"),
        a_time("finished_at"),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state <> 'pending')",
            name=op.f("webhook_deliveries_finished_check"),
        ),
        sa.ForeignKeyConstraint(
            ["endpoint"],
            ["webhook_endpoints.id"],
            name=op.f("webhook_deliveries_endpoint_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["event"], ["events.id"], name=op.f("webhook_deliveries_event_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("endpoint", "event", name=op.f("webhook_deliveries_pkey")),
    )
    op.create_index("webhook_deliveries_event_idx", "webhook_deliveries", ["event"], unique=False)
    op.create_index(
        "webhook_deliveries_pending_idx",
        "webhook_deliveries",
        ["endpoint", sa.text("tries DESC"), "event"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "webhook_deliveries_finished_idx",
        "webhook_deliveries",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("state <> 'pending'"),
    )


def downgrade() -> None:
    op.drop_index(
        "webhook_deliveries_finished_idx",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("state <> 'pending'"),
    )
    op.drop_index(
        "webhook_deliveries_pending_idx",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_index("webhook_deliveries_event_idx", table_name="webhook_deliveries")
    op.drop_table("webhook_deliveries")
    op.drop_index("webhook_endpoints_client_idx", table_name="webhook_endpoints")
    op.drop_table("webhook_endpoints")
