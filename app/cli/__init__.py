"""The command `asana-exports`."""

from typing import Annotated

import typer

from app.artifacts.store import open_store
from app.cli.keys import keys, secrets
from app.cli.program import err, migrated_database, out, read_settings, run
from app.cli.receipts import receipt
from app.cli.serving import serve_all, serve_api, work
from app.database.migrate import migrate as migrate_database
from app.database.session import open_database
from app.demo import run_demo
from app.events.log import Cause
from app.exports.history import Violation, violations
from app.exports.restoring import Restored, go_on, unknown
from app.local import end_with_parent
from app.main import create_app
from app.sandbox.__main__ import main as serve_sandbox

cli = typer.Typer(
    help="""A queue, a worker and an archive in front of Asana's export endpoints.

    `demo` shows all of it in a minute. `up` is the whole service on this machine. `api`, `worker` and
    `migrate` are its parts, for running it on many. Settings are environment variables named
    ASANA_EXPORTS_…; docs/configuration.md lists them.""",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(keys, name="keys")
cli.add_typer(secrets, name="secrets")
cli.add_typer(receipt, name="receipt")


@cli.callback()
def root(
    attached: Annotated[
        bool,
        typer.Option(hidden=True, help="End when standard input closes, as it does with the parent process."),
    ] = False,
) -> None:
    if attached:
        end_with_parent()


@cli.command()
def up(
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Talk to a stand-in Asana, started along.")
    ] = False,
    sandbox_port: Annotated[int, typer.Option(help="Where the stand-in listens; 0 for a free port.")] = 8500,
) -> None:
    """Run the whole service on this machine: database, API and worker, until Ctrl-C."""
    run(serve_all(read_settings(), sandbox_port if sandbox else None))


@cli.command()
def api() -> None:
    """Serve the HTTP API."""
    run(serve_api(read_settings()))


@cli.command()
def worker() -> None:
    """Serve lanes: call Asana, follow jobs, archive files. Run as many as you like."""
    run(work(read_settings()))


@cli.command()
def migrate() -> None:
    """Bring the database's schema to this version; safe to repeat, and for several at once."""
    settings = read_settings()

    async def migrated() -> None:
        async with open_database(settings) as database:
            await migrate_database(database.engine)

    run(migrated())
    err.print("The database has this version's schema.")


@cli.command()
def demo() -> None:
    """Run real exports end to end, against a sandbox Asana, and check what comes out."""
    run(run_demo(read_settings(log_level="warning").data_dir / "demo", out))


@cli.command()
def verify(
    files: Annotated[bool, typer.Option(help="Read every archived file, and compare it.")] = True,
) -> None:
    """Check by the event log and the files that every promise was kept; exits with 1 if not."""
    settings = read_settings()

    async def checked() -> list[Violation]:
        store = open_store(settings.files_url) if files else None
        async with migrated_database(settings) as database, database.sessions() as session:
            return [
                violation
                async for violation in violations(session, store, webhook_days=settings.webhook_days)
            ]

    found = run(checked())
    for violation in found:
        out.print(f"[red]{violation.subject}[/red]: {violation.promise}: {violation.detail}", soft_wrap=True)
    if found:
        raise SystemExit(1)
    out.print("Every promise was kept.")


@cli.command()
def restored() -> None:
    """Make a database that was put back to an earlier moment fit to be served.

    Run it once after each restore, before any API process or worker is started. It sees to it that nothing is
    taken for what came after that moment, and lists the files of exports that this database does not know.
    They are kept.
    """
    settings = read_settings()

    async def made_fit() -> tuple[Restored, list[str]]:
        async with migrated_database(settings) as database:
            async with database.sessions.begin() as session:
                found = await go_on(session, Cause("cli"))
            async with database.sessions() as session:
                keys = [entry.key async for entry in open_store(settings.files_url).files()]
                return found, await unknown(session, keys)

    found, files = run(made_fit())
    since = f"{found.as_of:%Y-%m-%d %H:%M:%S} UTC" if found.as_of else "its beginning"
    lines = [
        f"The database goes on from {since}.",
        f"Exports to be done, or done again: {found.unfinished}.",
        f"Files of exports that it does not know: {len(files)}.",
        *(f"  {key}" for key in files),
    ]
    out.print("\n".join(lines), soft_wrap=True)


@cli.command()
def openapi() -> None:
    """Print the description of the API, for generators of clients and other tools."""
    out.print_json(data=create_app().openapi())


cli.command("sandbox")(serve_sandbox)
