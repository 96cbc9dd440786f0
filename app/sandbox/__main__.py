"""`python -m app.sandbox`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.sandbox.server import serve
from app.sandbox.settings import SandboxSettings


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8500,
    settings: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Settings as a JSON file; options given here win over it."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of content, durations and failures.")] = None,
    time_scale: Annotated[
        float | None, typer.Option(help="Virtual seconds in a real one; 0 stops the clock.")
    ] = None,
    starts_at: Annotated[datetime | None, typer.Option(help="Virtual time at the start.")] = None,
    workspace: Annotated[
        list[str] | None,
        typer.Option(metavar="GID[:TASKS]", help="A workspace and its number of tasks; repeat for more."),
    ] = None,
    run_seconds: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="MIN MAX", help="How long jobs run, in virtual seconds."),
    ] = None,
    url_lifetime: Annotated[
        float | None, typer.Option(help="Virtual seconds a download URL is valid.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Per token; 0 for no limit.")] = None,
    concurrent_jobs: Annotated[int | None, typer.Option(help="Per token; 0 for no limit.")] = None,
) -> None:
    """Serve a stand-in Asana until it is told to stop."""
    limits = {"requests_per_minute": requests_per_minute, "concurrent_jobs": concurrent_jobs}
    given: dict[str, Any] = {
        "seed": seed,
        "time_scale": time_scale,
        "starts_at": starts_at,
        "workspaces": _workspaces(workspace) if workspace else None,
        "run_seconds": run_seconds,
        "url_lifetime": url_lifetime,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    changes |= {name: value or None for name, value in limits.items() if value is not None}
    try:
        read = SandboxSettings.model_validate_json(settings.read_bytes()) if settings else SandboxSettings()
        chosen = read.patched(changes)
    except ValidationError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        serve(host, port, chosen)
    except OSError as error:
        raise SystemExit(f"the sandbox cannot listen: {error.strerror}") from None


def _workspaces(listed: list[str]) -> dict[str, dict[str, str]]:
    workspaces = {}
    for text in listed:
        gid, _, tasks = text.partition(":")
        workspaces[gid] = {"gid": gid, "tasks": tasks} if tasks else {"gid": gid}
    return workspaces


if __name__ == "__main__":
    typer.run(main)
