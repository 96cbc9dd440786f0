"""the event feed"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# An event is given its place in the feed once, and is otherwise as it was written. A column that is added to
# `events` later is guarded without another word here.
MAY_ONLY_BE_PLACED = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.position IS NULL AND NEW.position IS NOT NULL THEN
        OLD.position := NEW.position;
        OLD.workspace := NEW.workspace;
        OLD.audience := NEW.audience;
        IF OLD IS NOT DISTINCT FROM NEW THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'rows of % never change', TG_TABLE_NAME;
END $$
"""
NEVER_CHANGES = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % never change', TG_TABLE_NAME;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "event_feed",
        sa.Column("is_one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("last_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("forgotten_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("forgotten_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("is_one", name=op.f("event_feed_one_row_check")),
        sa.PrimaryKeyConstraint("is_one", name=op.f("event_feed_pkey")),
    )
    op.execute("INSERT INTO event_feed DEFAULT VALUES")
    op.add_column("events", sa.Column("position", sa.BigInteger(), nullable=True))
    op.add_column("events", sa.Column("workspace", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("audience", sa.Text(), nullable=True))
    op.create_index(
        "events_unplaced_idx", "events", ["seq"], unique=False, postgresql_where=sa.text("position IS NULL")
    )
    op.create_index(
        "events_position_idx",
        "events",
        ["position"],
        unique=True,
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    op.create_index(
        "events_audience_idx",
        "events",
        ["audience", "position"],
        unique=False,
        postgresql_where=sa.text("audience IS NOT NULL"),
    )
    op.create_index(
        "events_workspace_idx",
        "events",
        ["workspace", "position"],
        unique=False,
        postgresql_where=sa.text("workspace IS NOT NULL"),
    )
    op.execute(MAY_ONLY_BE_PLACED)


def downgrade() -> None:
    op.execute(NEVER_CHANGES)
    op.drop_index(
        "events_workspace_idx", table_name="events", postgresql_where=sa.text("workspace IS NOT NULL")
    )
    op.drop_index(
        "events_audience_idx", table_name="events", postgresql_where=sa.text("audience IS NOT NULL")
    )
    op.drop_index(
        "events_position_idx", table_name="events", postgresql_where=sa.text("position IS NOT NULL")
    )
    op.drop_index("events_unplaced_idx", table_name="events", postgresql_where=sa.text("position IS NULL"))
    for column in ("audience", "workspace", "position"):
        op.drop_column("events", column)
    op.drop_table("event_feed")
