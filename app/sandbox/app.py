"""The stand-in as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app.sandbox import api, files, panel
from app.sandbox.settings import SandboxSettings
from app.sandbox.state import Sandbox
from app.single_slashes import SingleSlashes

DESCRIPTION = """Asana's export endpoints as far as they are documented, with a world of its own.

What Asana leaves open is a setting. `/_sandbox` moves the clock, breaks things and shows what was asked."""


def create_sandbox(settings: SandboxSettings | None = None) -> FastAPI:
    """The application; its state is `app.state.sandbox`.

    Faults that close the connection need the server that `serve` starts.
    """
    sandbox = Sandbox(settings or SandboxSettings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        sandbox.spool.close()

    app = FastAPIOffline(title="Sandbox Asana", version="1.1", description=DESCRIPTION, lifespan=lifespan)
    app.state.sandbox = sandbox
    for router in (api.router, files.router, panel.router, api.nothing_here):
        app.include_router(router)
    app.add_middleware(SingleSlashes, prefix="/")
    return app
