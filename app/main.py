"""The HTTP application, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from app.api import artifacts, credentials, exports, health, problems, workspaces
from app.api.body_limit import BodyLimitMiddleware
from app.api.openapi import DESCRIPTION, TAGS, describe_problems
from app.api.request_id import RequestIdMiddleware
from app.api.services import open_services
from app.settings import Settings

MOST_BODY_BYTES = 1 << 20


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; what it works with is opened at its start and closed at its end."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_services(chosen) as services:
            yield {"services": services}

    app = FastAPIOffline(
        title="Asana exports",
        version=version("asana-exports"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    for room in (exports, artifacts, workspaces, credentials, health, problems):
        app.include_router(room.router)
    problems.handle_problems(app)
    describe_problems(app)
    # The one added last is the first to see a request.
    app.add_middleware(BodyLimitMiddleware, most=MOST_BODY_BYTES)
    app.add_middleware(problems.UnexpectedErrorMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
