"""probes of receivers"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhook_endpoints", sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE webhook_endpoints SET probe_at = now() WHERE failing_since IS NOT NULL")


def downgrade() -> None:
    op.drop_column("webhook_endpoints", "probe_at")
