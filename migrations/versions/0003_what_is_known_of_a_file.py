"""what is known of a file"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without defaults, for workers of the version before go on writing rows without them.
    op.add_column("artifacts", sa.Column("duplicate_gids", sa.BigInteger(), nullable=True))
    op.add_column("artifacts", sa.Column("key_paths", postgresql.JSONB(), nullable=True))
    op.add_column("artifacts", sa.Column("receipt", sa.Text(), nullable=True))
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("public", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("private", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("signing_keys_pkey")),
    )


def downgrade() -> None:
    op.drop_table("signing_keys")
    for column in ("receipt", "key_paths", "duplicate_gids"):
        op.drop_column("artifacts", column)
