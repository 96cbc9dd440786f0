"""chores"""

import re
from importlib import resources

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The steps of procrastinate's own schema up to its version 3.10, which every later version brings along,
# unchanged. Those that a later version adds are a migration of their own here.
STEPS = (
    "00.00.00_01_initial",
    "00.05.00_01_drop_started_at_column",
    "00.05.00_02_drop_started_at_column",
    "00.05.00_03_drop_procrastinate_version_table",
    "00.06.00_01_fix_procrastinate_fetch_job",
    "00.07.01_01_fix_trigger_status_events_insert",
    "00.08.01_01_add_queueing_lock_column",
    "00.10.00_01_close_fetch_job_race_condition",
    "00.10.00_02_add_defer_job_function",
    "00.11.00_03_add_procrastinate_periodic_defers",
    "00.12.00_01_add_foreign_key_index",
    "00.14.00_01_add_locks_to_periodic_defer",
    "00.15.02_01_fix_procrastinate_defer_periodic_job",
    "00.16.00_01_add_finish_job_and_retry_job_functions",
    "00.17.00_01_add_trigger_on_job_deletion",
    "00.17.00_02_delete_finished_jobs",
    "00.17.00_03_add_checks_to_finish_job",
    "00.17.00_04_add_checks_to_retry_job",
    "00.18.01_01_fix_finish_job_compat_issue",
    "00.19.00_01_add_index_on_procrastinate_jobs",
    "00.22.00_01_add_kwargs_to_defer_periodic_job",
    "00.23.00_01_null_locks_excluded",
    "01.00.00_01_remove_old_finish_job_function",
    "01.01.01_01_job_id_bigint",
    "02.00.03_01_add_job_priority",
    "02.05.00_01_add_periodic_job_priority",
    "02.06.00_01_add_cancel_states",
    "02.08.00_01_add_additional_params_to_retry_job",
    "02.14.01_01_add_indexes_for_fetch_job",
    "03.00.00_01_pre_cancel_notification",
    "03.00.00_50_post_cancel_notification",
    "03.01.00_01_pre_add_heartbeat",
    "03.01.00_50_post_add_heartbeat",
    "03.02.00_01_pre_batch_defer_jobs",
    "03.02.00_50_post_batch_defer_jobs",
    "03.03.00_01_pre_priority_lock_fetch_job",
    "03.04.00_01_pre_add_retry_failed_job_procedure",
    "03.04.00_50_post_add_retry_failed_job_procedure",
)
ADDED_VALUE = re.compile(r"ALTER TYPE (\w+) ADD VALUE ('\w+')[^;]*;")
REMOVE = """
    DO $$
    DECLARE command text;
    BEGIN
        FOR command IN
            SELECT format('DROP TABLE IF EXISTS %s CASCADE', tablename) FROM pg_tables
            WHERE tablename LIKE 'procrastinate%'
            UNION ALL
            SELECT format('DROP FUNCTION IF EXISTS %s CASCADE', oid::regprocedure) FROM pg_proc
            WHERE proname LIKE 'procrastinate%'
            UNION ALL
            SELECT format('DROP TYPE IF EXISTS %s CASCADE', typname) FROM pg_type
            WHERE typname LIKE 'procrastinate%' AND (typtype = 'e' OR typname LIKE '%to\\_defer%')
        LOOP EXECUTE command; END LOOP;
    END $$
"""


def upgrade() -> None:
    folder = resources.files("procrastinate.sql") / "migrations"
    first, *later = [(folder / f"{step}.sql").read_text(encoding="utf-8") for step in STEPS]
    # A value that is added to an enum may not be used in the same transaction before PostgreSQL 17: all are
    # there from the beginning instead.
    for step in later:
        for name, value in ADDED_VALUE.findall(step):
            first = first.replace(f"CREATE TYPE {name} AS ENUM (", f"CREATE TYPE {name} AS ENUM ({value},")
    for step in (first, *(ADDED_VALUE.sub("", step) for step in later)):
        _run(step)
    op.create_table(
        "chores",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_succeeded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("chores_pkey")),
    )


def downgrade() -> None:
    op.drop_table("chores")
    _run(REMOVE)


def _run(statements: str) -> None:
    """Several at once, which a statement with parameters could not be."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute(statements)
    cursor.close()
