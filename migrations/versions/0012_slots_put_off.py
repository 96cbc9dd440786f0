"""slots put off"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

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


def upgrade() -> None:
    reason = sa.Enum(*REASONS, name="put_off", native_enum=False, create_constraint=True, length=32)
    op.add_column("schedules", sa.Column("put_off", reason, nullable=True))


def downgrade() -> None:
    op.drop_column("schedules", "put_off")
