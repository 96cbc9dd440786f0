"""The command `asana-exports`."""

import sys


def main() -> None:
    """Run it. What it needs beyond the client comes with the extra `cli`."""
    try:
        from asana_exports_client.cli.commands import run_command
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {"rich", "tomli_w", "typer"}:
            raise
        sys.exit("asana-exports: this needs more: pip install 'asana-exports-client[cli]'")
    for stream in (sys.stdout, sys.stderr):
        # Symbols are no reason to fail where they cannot be shown.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.exit(run_command())
