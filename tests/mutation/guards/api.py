"""Guards of the API against what is sent to it."""

from tests.mutation.guard import Edit, Guard

LIMITS = "tests/api/test_limits.py"

GUARDS = (
    Guard(
        "bodies have a size",
        "memory filled by one request",
        "tests/api/test_problems.py::test_a_body_without_end_is_not_read",
        Edit("app/api/bounded_body.py", "if seen > self._most:", "if False:"),
    ),
    Guard(
        "bodies have a time",
        "connections held by callers that send nothing",
        f"{LIMITS}::test_slow_senders_keep_nobody_waiting",
        Edit(
            "app/api/bounded_body.py",
            "asyncio.timeout_at(None if whole else until)",
            "asyncio.timeout_at(None)",
        ),
    ),
    Guard(
        "requests in a minute",
        "one client that keeps the API busy",
        f"{LIMITS}::test_who_asks_too_fast_is_told_to_wait",
        Edit("app/api/rate_limit.py", "if not allowed:", "if False:"),
    ),
    Guard(
        "ids have a form",
        "strings that the database cannot hold reaching it",
        "tests/api/test_problems.py::test_what_cannot_be_an_id_names_nothing",
        Edit("app/api/ids.py", "if not form.fullmatch(value):", "if False:"),
    ),
    Guard(
        "unknown parameters of a list are refused",
        "a typing error that lists everything",
        "tests/api/test_exports.py::test_a_parameter_that_is_not_understood_is_refused",
        Edit("app/api/paging.py", 'model_config = ConfigDict(extra="forbid")', "model_config = ConfigDict()"),
    ),
    Guard(
        "a file is measured before it is sent",
        "half a file sent as the whole",
        "tests/api/test_artifacts.py::test_a_file_that_was_cut_on_the_disk_is_not_sent",
        Edit("app/api/content.py", "if found != wanted:", "if False:"),
    ),
    Guard(
        "readiness has a connection of its own",
        "all processes leaving the proxy at once when they have much to do",
        "tests/api/test_health.py::test_readiness_waits_for_no_request",
        Edit("app/api/health.py", "services.vitals()", "services.sessions()"),
    ),
    Guard(
        "a process stays ready while the database is away",
        "all processes leaving the proxy at once, and its answer instead of ours",
        "tests/api/test_health.py::test_a_process_stays_in_rotation_while_the_database_is_away",
        Edit("app/api/health.py", "        return None\n", "        services.migrated.clear()\n"),
    ),
    Guard(
        "a workspace is entered once",
        "a 500 for one of two who register it at the same time",
        "tests/api/test_workspaces.py::test_of_two_who_register_it_at_once_one_is_told_that_it_is_new",
        Edit("app/access/credentials.py", "entry.on_conflict_do_nothing()", "entry"),
    ),
)
