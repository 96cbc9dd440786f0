"""Commands about receipts and the keys that sign them."""

import json
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from app.access.signing import new_signing_key
from app.access.vault import open_vault
from app.artifacts.receipt import NotSigned, differences, read
from app.cli.program import migrated_database, out, read_settings, run
from app.exports.requests import only_type

PATIENCE_SECONDS = 30

receipt = typer.Typer(help="Signed proof of what a file is and where it came from.", no_args_is_help=True)


@receipt.command("verify")
def verify_receipt(
    receipt_file: Annotated[Path, typer.Argument(metavar="RECEIPT", exists=True, dir_okay=False)],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="As it was downloaded.")],
    jwks: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The service's keys, saved before.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The service itself, to ask for its keys.")] = None,
) -> None:
    """Check that a file is whole and came from the service, by its receipt; exit with 1 where it is not so.

    RECEIPT is what `/v1/exports/{id}/receipt` answers, the keys are those of `/.well-known/jwks.json`. With
    `--jwks` no network is needed.
    """
    keys = _signing_keys(jwks, url)
    try:
        kid, facts = read(receipt_file.read_text().strip(), keys)
    except (NotSigned, UnicodeDecodeError) as error:
        raise SystemExit(f"asana-exports: {receipt_file} is not signed by any of the keys: {error}") from None
    with file.open("rb") as opened:
        found = list(differences(facts, opened, only_type(facts["request"])))
    out.print(f"The receipt is signed by the key {kid}.", soft_wrap=True)
    for difference in found:
        out.print(f"[red]{file} is not the file of this receipt:[/red] {difference}.", soft_wrap=True)
    if found:
        raise SystemExit(1)
    out.print(
        f"{file} is the file of artifact {facts['artifact']}: {facts['lines']} lines, whole and unchanged.",
        soft_wrap=True,
    )


def _signing_keys(jwks: Path | None, url: str | None) -> Any:
    try:
        match jwks, url:
            case Path(), None:
                return json.loads(jwks.read_text())
            case None, str():
                answer = httpx.get(f"{url.rstrip('/')}/.well-known/jwks.json", timeout=PATIENCE_SECONDS)
                return answer.raise_for_status().json()
    except (ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise SystemExit(f"asana-exports: the keys cannot be read: {error}") from None
    raise SystemExit("asana-exports: name the keys, by either --jwks or --url")


@receipt.command("new-key")
def make_signing_key() -> None:
    """Sign receipts by a new key from now on; the old ones stay in the service's list of keys."""
    settings = read_settings()

    async def made() -> str:
        async with migrated_database(settings) as database, database.sessions.begin() as session:
            return (await new_signing_key(session, open_vault(settings))).id

    out.print(f"Receipts are signed by the key {run(made())} from now on.", soft_wrap=True)
