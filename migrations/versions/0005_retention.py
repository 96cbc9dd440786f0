"""retention"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENTS = "held_at", "missing_since", "ended_at", "removed_at"
CHECKS = {
    "held": "held_at IS NULL OR state = 'available'",
    "ended": "(ended_at IS NOT NULL) = (state IN ('expired', 'deleted'))",
    "removed": "removed_at IS NULL OR ended_at IS NOT NULL",
}
INDEXES = {
    "artifacts_expires_at_idx": ("expires_at", "state IN ('available', 'expiring') AND held_at IS NULL"),
    "artifacts_removal_idx": ("ended_at", "removed_at IS NULL"),
    "artifacts_missing_idx": ("id", "missing_since IS NOT NULL"),
}


def upgrade() -> None:
    for table in ("clients", "workspaces"):
        op.add_column(table, sa.Column("retention_days", sa.Integer(), nullable=True))
    for column in MOMENTS:
        op.add_column("artifacts", sa.Column(column, sa.DateTime(timezone=True), nullable=True))
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"artifacts_{name}_check"), "artifacts", condition)
    for name, (column, where) in INDEXES.items():
        op.create_index(name, "artifacts", [column], unique=False, postgresql_where=sa.text(where))
    states = sa.Enum(
        "pending", "done", "failed", name="state", native_enum=False, create_constraint=True, length=32
    )
    op.create_table(
        "refetches",
        sa.Column("artifact", sa.Text(collation="C"), nullable=False),
        sa.Column("state", states, nullable=False),
        sa.Column("worker", sa.Text(collation="C"), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(error IS NOT NULL) = (state = 'failed')", name=op.f("refetches_failed_check")),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state <> 'pending')", name=op.f("refetches_finished_check")
        ),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.id"], name=op.f("refetches_artifact_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["worker"], ["workers.id"], name=op.f("refetches_worker_fkey"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("artifact", name=op.f("refetches_pkey")),
    )
    op.create_index(
        "refetches_pending_idx",
        "refetches",
        ["requested_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "refetches_worker_idx",
        "refetches",
        ["worker"],
        unique=False,
        postgresql_where=sa.text("worker IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("refetches")
    for name in INDEXES:
        op.drop_index(name, table_name="artifacts")
    for name in CHECKS:
        op.drop_constraint(op.f(f"artifacts_{name}_check"), "artifacts", type_="check")
    for column in MOMENTS:
        op.drop_column("artifacts", column)
    for table in ("clients", "workspaces"):
        op.drop_column(table, "retention_days")
