"""What `asana-exports` offers where the service is installed, told without importing the service."""

from typing import Any

COMMANDS = {
    "up": "Run the whole service on this machine: database, API and worker, until Ctrl-C.",
    "api": "Serve the HTTP API.",
    "worker": "Serve lanes: call Asana, follow jobs, archive files. Run as many as you like.",
    "migrate": "Bring the database's schema to this version; safe to repeat, and for several at once.",
    "keys": "API keys, by which internal tools use the service; in the database itself.",
    "secrets": "The keys that encrypt Asana tokens in the database.",
    "receipt": "Signed proof of what a file is and where it came from.",
    "verify": "Check by the event log and the files that every promise was kept; exits with 1 if not.",
    "restored": "Make a database that was put back to an earlier moment fit to be served.",
    "openapi": "Print the description of the API, for generators of clients and other tools.",
    "demo": "Run real exports end to end, against a sandbox Asana, and check what comes out.",
    "sandbox": "Serve a stand-in Asana until it is told to stop.",
}


def load() -> Any:
    """The group that has them."""
    from typer.main import get_group

    from app.cli import cli

    return get_group(cli)
