"""The HTTP application, put together."""

from collections.abc import MutableMapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from app.api import (
    artifacts,
    asana,
    attention,
    clients,
    credentials,
    events,
    exports,
    health,
    jwks,
    lanes,
    manifests,
    metrics,
    outputs,
    problem_pages,
    retention,
    schedules,
    webhooks,
    workspaces,
)
from app.api.asana_errors import BASE
from app.api.bounded_body import BoundedBodyMiddleware
from app.api.closing import ClosingMiddleware
from app.api.head import HeadMiddleware
from app.api.notices import add_notices
from app.api.openapi import DESCRIPTION, TAGS, describe
from app.api.problems import UnexpectedErrorMiddleware, handle_problems
from app.api.rate_limit import RateLimitMiddleware
from app.api.request_id import RequestIdMiddleware
from app.api.request_time import RequestTimeMiddleware
from app.api.services import Services
from app.settings import Settings
from app.single_slashes import SingleSlashes

MOST_BODY_BYTES = 1 << 20
ROOMS = (
    exports,
    manifests,
    artifacts,
    outputs,
    retention,
    events,
    schedules,
    workspaces,
    lanes,
    clients,
    credentials,
    webhooks,
    attention,
    jwks,
    health,
    metrics,
    problem_pages,
    asana,
)


def create_app(services: Services | None = None) -> FastAPI:
    """The application on open services; without, it can only describe itself."""
    app = FastAPIOffline(
        title="Asana exports",
        version=version("asana-exports"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/"}],
        generate_unique_id_function=_operation_id,
        # Requests that are answered by the thousand, and tell nothing of an export.
        telemetry={"logs": False, "metrics": False, "operation_spans": False, "exclude": _is_about_us},
        # A redirect would trust the Host header, and lose the body of a POST.
        redirect_slashes=False,
    )
    app.state.services = services
    settings = services.settings if services else Settings()
    for rooms in ROOMS:
        app.include_router(rooms.router)
    add_notices(app.webhooks)
    handle_problems(app)
    describe(app)
    # The one added last is the first to see a request.
    app.add_middleware(HeadMiddleware)
    app.add_middleware(BoundedBodyMiddleware, most=MOST_BODY_BYTES, within=settings.body_seconds)
    app.add_middleware(UnexpectedErrorMiddleware)
    app.add_middleware(RequestTimeMiddleware)
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(ClosingMiddleware)
    app.add_middleware(SingleSlashes, prefix=BASE)
    return app


def _is_about_us(scope: MutableMapping[str, Any]) -> bool:
    return scope.get("path") in {"/healthz", "/readyz", "/metrics"}


def _operation_id(route: APIRoute) -> str:
    return route.name
