"""Guards against what may befall the database and the way to it."""

from tests.mutation.guard import Edit, Guard

SCHEMA, SESSION = "tests/database/test_schema.py", "tests/database/test_session.py"
TRANSACTIONS = "tests/worker/test_transactions.py"

GUARDS = (
    Guard(
        "events never change",
        "a history that was written anew",
        f"{SCHEMA}::test_an_event_never_changes",
        Edit(
            "migrations/versions/0001_the_spine.py",
            "CREATE TRIGGER events_never_change BEFORE UPDATE ON",
            "CREATE TRIGGER events_never_change BEFORE DELETE ON",
        ),
    ),
    Guard(
        "one migration at a time",
        "processes that start together breaking each other's migration",
        f"{SCHEMA}::test_processes_that_start_together_migrate_one_after_the_other",
        Edit(
            "app/database/migrate.py",
            '"SELECT pg_advisory_xact_lock(:lock)"',
            '"SELECT CAST(:lock AS int)"',
        ),
    ),
    Guard(
        "a migration lets others at the tables it waits for",
        "all calls standing still behind a deploy that waits for one long transaction",
        f"{SCHEMA}::test_a_step_that_meets_somebody_at_a_table_waits_in_short_turns",
        Edit(
            "app/database/migrate.py",
            "SET LOCAL lock_timeout = '{LOCK_SECONDS}s'",
            "SET LOCAL lock_timeout = '9min'",
        ),
    ),
    Guard(
        "a newer schema is left as it is",
        "a deploy that cannot be taken back",
        f"{SCHEMA}::test_a_schema_of_a_newer_version_is_left_as_it_is",
        Edit("app/database/migrate.py", "    if _lacks_steps(connection):", "    if True:"),
    ),
    Guard(
        "a process that was told to stop is not ready",
        "requests sent to a process that is about to end",
        "tests/api/test_health.py::test_a_process_that_was_told_to_stop_is_not_ready_and_lets_connections_go",
        Edit("app/api/health.py", "    ready = migrations and not stopping", "    ready = migrations"),
    ),
    Guard(
        "a process that was told to stop gives up its connections",
        "requests lost on a connection that is closed in the same moment",
        "tests/api/test_health.py::test_a_process_that_was_told_to_stop_is_not_ready_and_lets_connections_go",
        Edit("app/api/closing.py", "if services.stopping.is_set():", "if False:"),
    ),
    Guard(
        "requests are taken while the proxy does not know yet",
        "calls refused in each deploy",
        "tests/faults/test_deploys.py::test_a_deploy_and_its_way_back_are_noticed_by_nobody",
        Edit(
            "app/cli/serving.py", "        await services.clock.sleep(services.settings.drain_seconds)\n", ""
        ),
    ),
    Guard(
        "the schema is looked at before serving",
        "code of one version at work on tables of another",
        "tests/test_cli.py::test_a_database_without_tables_is_told_and_what_to_do",
        Edit("app/cli/program.py", "            if await is_behind(session):", "            if False:"),
    ),
    Guard(
        "transactions that idle are ended by the server",
        "row locks of a frozen process held for ever",
        f"{SESSION}::test_locks_of_a_process_that_stands_still_are_let_go",
        Edit(
            "app/database/session.py",
            "idle_in_transaction_session_timeout={longest}",
            "idle_in_transaction_session_timeout=0",
        ),
    ),
    Guard(
        "an answer of the database is not waited for without end",
        "a process hanging on a server that is frozen",
        f"{SESSION}::test_an_answer_that_takes_too_long_is_not_waited_for",
        Edit("app/database/connection.py", "        if self.patience is None:", "        if True:"),
    ),
    Guard(
        "passing errors of the database are outlasted",
        "a lane that crashes because the database was away",
        f"{TRANSACTIONS}::test_a_step_outlasts_a_connection_that_is_lost",
        Edit(
            "app/worker/transactions.py",
            "                if not is_passing(error):\n                    raise",
            "                raise",
        ),
    ),
    Guard(
        "faults of our own are not taken for passing",
        "a step repeated for ever that can never work",
        f"{TRANSACTIONS}::test_a_fault_of_our_own_is_not_repeated",
        Edit(
            "app/worker/transactions.py",
            "                if not is_passing(error):\n                    raise",
            "                pass",
        ),
    ),
    Guard(
        "a lease outlasts a lost beat",
        "settings by which one late beat loses all lanes",
        f"{SESSION}::test_a_lease_must_outlast_a_lost_beat",
        Edit("app/settings.py", "if self.beat_seconds > self.lease_seconds / 2:", "if False:"),
    ),
)
