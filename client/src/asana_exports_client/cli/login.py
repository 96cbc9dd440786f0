"""Which service is used, by which key."""

import sys
from contextlib import suppress

import typer

from asana_exports_client import problems
from asana_exports_client._sync.client import Client
from asana_exports_client.cli.config import DEFAULT, ConfigError, chosen, forget, profiles, save
from asana_exports_client.cli.screen import as_json, facts, human, say, sign
from asana_exports_client.cli.session import PATIENCE, session
from asana_exports_client.cli.values import secret


def login(ctx: typer.Context) -> None:
    """Keep the address of a service and your key to it, once they are found to be right.

    The key is asked for, or read from standard input. It is written to the configuration file, which nobody
    else can read.
    """
    options = session(ctx)
    name = options.profile or DEFAULT
    url = (options.url or _asked_for_url(profiles().get(name, {}).get("url"))).rstrip("/")
    key = secret("API key")
    _check(url, key)
    path = save(name, url, key)
    say(f"{sign('succeeded')} Logged in to {url}, as the profile {name} in {path}.", "green")


def logout(ctx: typer.Context) -> None:
    """Forget the key of a profile. It stays valid for whoever has it."""
    name = session(ctx).profile or DEFAULT
    if forget(name):
        say(f"{sign('succeeded')} The key of the profile {name} is forgotten.", "green")
    else:
        say(f"There is no profile {name}.")


def status(ctx: typer.Context) -> None:
    """Tell which service is used, whether the key is accepted, and what needs a person."""
    options = session(ctx)
    meant = chosen(options.url, options.profile)
    with options.client() as client:
        _use(client)
        attention = None
        # Only administrators may know.
        with suppress(problems.ScopeMissing):
            attention = client.attention.list(acknowledged=False)
    if options.json:
        as_json({"url": meant.url, "profile": meant.name, "key_from": meant.source, "attention": attention})
        return
    facts([("service", meant.url), ("profile", meant.name), ("key from", meant.source), ("key", "accepted")])
    for item in attention or []:
        about = f" of {item.workspace}" if item.workspace else ""
        say(f"! {item.kind}{about}, {item.count} times, last {human(item.latest)}", "yellow")


def _asked_for_url(before: str | None) -> str:
    if not sys.stdin.isatty():
        if before:
            return before
        raise ConfigError("Name the service by --url; standard input is for the key.")
    answer: str = typer.prompt("Address of the service", default=before, err=True)
    return answer


def _check(url: str, key: str) -> None:
    with Client(url, key, patience=PATIENCE) as client:
        _use(client)


def _use(client: Client) -> None:
    """Raises `problems.Unauthenticated` for a key that is not one; whatever it may do, it is one."""
    with suppress(problems.ScopeMissing):
        client.events.page("latest", page_size=1)
