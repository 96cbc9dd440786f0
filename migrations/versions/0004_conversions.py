"""conversions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def formats() -> sa.Enum:
    return sa.Enum("parquet", "csv", name="format", native_enum=False, create_constraint=True, length=32)


def upgrade() -> None:
    states = sa.Enum(
        "pending", "ready", "failed", name="state", native_enum=False, create_constraint=True, length=32
    )
    op.create_table(
        "conversions",
        sa.Column("artifact", sa.Text(collation="C"), nullable=False),
        sa.Column("format", formats(), nullable=False),
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
        sa.CheckConstraint("(error IS NOT NULL) = (state = 'failed')", name=op.f("conversions_failed_check")),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state <> 'pending')", name=op.f("conversions_finished_check")
        ),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.id"], name=op.f("conversions_artifact_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["worker"], ["workers.id"], name=op.f("conversions_worker_fkey"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("artifact", "format", name=op.f("conversions_pkey")),
    )
    op.create_index(
        "conversions_pending_idx",
        "conversions",
        ["requested_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "conversions_worker_idx",
        "conversions",
        ["worker"],
        unique=False,
        postgresql_where=sa.text("worker IS NOT NULL"),
    )
    op.create_table(
        "output_files",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("artifact", sa.Text(collation="C"), nullable=False),
        sa.Column("format", formats(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("columns", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact", "format"],
            ["conversions.artifact", "conversions.format"],
            name=op.f("output_files_artifact_format_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("output_files_pkey")),
        sa.UniqueConstraint("key", name=op.f("output_files_key_key")),
    )
    op.create_index("output_files_artifact_idx", "output_files", ["artifact", "format"], unique=False)


def downgrade() -> None:
    op.drop_index("output_files_artifact_idx", table_name="output_files")
    op.drop_table("output_files")
    op.drop_index(
        "conversions_worker_idx",
        table_name="conversions",
        postgresql_where=sa.text("worker IS NOT NULL"),
    )
    op.drop_index(
        "conversions_pending_idx",
        table_name="conversions",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_table("conversions")
