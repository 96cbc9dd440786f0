"""idempotency keys of anything"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NAME = "idempotency_keys_export_fkey"


def upgrade() -> None:
    op.drop_constraint(op.f(NAME), "idempotency_keys", type_="foreignkey")


def downgrade() -> None:
    op.execute("DELETE FROM idempotency_keys WHERE export NOT IN (SELECT id FROM exports)")
    op.create_foreign_key(op.f(NAME), "idempotency_keys", "exports", ["export"], ["id"], ondelete="CASCADE")
