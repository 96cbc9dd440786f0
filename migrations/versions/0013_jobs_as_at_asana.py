"""jobs as at Asana"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")
GRAPHS_IN_PROGRESS = sa.text("kind = 'graph' AND finished_at IS NULL")


def upgrade() -> None:
    op.add_column("clients", sa.Column("default_workspace", sa.Text(), nullable=True))
    op.create_table(
        "job_gids",
        sa.Column("gid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("export", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["export"], ["exports.id"], name=op.f("job_gids_export_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("gid", name=op.f("job_gids_pkey")),
        sa.UniqueConstraint("export", name=op.f("job_gids_export_key")),
    )
    op.create_index(
        "exports_parent_idx",
        "exports",
        ["client", sa.text("(request ->> 'parent')")],
        postgresql_where=GRAPHS_IN_PROGRESS,
    )
    op.create_table(
        "parents",
        sa.Column("gid", sa.Text(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["workspace"], ["workspaces.gid"], name=op.f("parents_workspace_fkey")),
        sa.PrimaryKeyConstraint("gid", name=op.f("parents_pkey")),
    )


def downgrade() -> None:
    op.drop_table("parents")
    op.drop_index("exports_parent_idx", table_name="exports", postgresql_where=GRAPHS_IN_PROGRESS)
    op.drop_table("job_gids")
    op.drop_column("clients", "default_workspace")
