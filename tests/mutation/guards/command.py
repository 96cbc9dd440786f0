"""Guards of the command line: where keys go, and what is asked for."""

from tests.mutation.guard import Edit, Guard

COMMAND, TESTS = "client/src/asana_exports_client/cli", "tests/client"
CONFIGURATION = f"{TESTS}/test_cli_configuration.py"

GUARDS = (
    Guard(
        "a stored key is sent to its own service only",
        "a key that goes to whatever address was typed",
        f"{CONFIGURATION}::test_a_stored_key_is_sent_to_its_own_service_only",
        Edit(f"{COMMAND}/config.py", ' and same(address, saved.get("url", ""))', ""),
    ),
    Guard(
        "keys are stored for nobody else to read",
        "a key that every account of the machine can read",
        f"{CONFIGURATION}::test_a_login_is_checked_and_kept_for_nobody_else_to_read",
        Edit(f"{COMMAND}/config.py", "0o600", "0o644"),
    ),
    Guard(
        "an address that is an argument is not the service's",
        "a key that is sent to the receiver of a webhook, when its endpoint is made",
        f"{TESTS}/test_cli_help.py::test_no_parameter_is_taken_for_another",
        Edit(f"{COMMAND}/session.py", "f\"everywhere_{name.removeprefix('--')}\", name", "name"),
    ),
    Guard(
        "a misspelt filter is refused",
        "an export of everything, for its filter was left out",
        f"{TESTS}/test_cli.py::test_a_misspelt_filter_is_not_left_out",
        Edit(
            f"{COMMAND}/asking.py",
            "StrictFilters(Filters, kw_only=True, forbid_unknown_fields=True)",
            "StrictFilters(Filters, kw_only=True)",
        ),
    ),
    Guard(
        "Ctrl-C leaves the export",
        "hours of waiting in the queue that end with the command",
        f"{TESTS}/test_cli.py::test_ctrl_c_leaves_the_export_unless_asked_otherwise[False]",
        Edit(f"{COMMAND}/run.py", "if cancel:", "if True:"),
    ),
)
