"""Whether the process lives, and whether the service can do its work."""

import asyncio
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.api.services import Services, ServicesOf
from app.database.migrate import is_behind
from app.lanes.lease import live_workers

router = APIRouter(tags=["health"])

# Less than who asks is patient.
LOOK_SECONDS = 2.0


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the service needs, and whether it is there."""

    ready: bool
    stopping: bool = Field(description="The process was told to stop: send it nothing new.")
    database: bool = Field(description="The database answers.")
    migrations: bool = Field(description="Its schema, as last seen, has what this version needs.")
    workers: int = Field(description="Live workers: without one, exports are accepted but wait.")


@router.get("/healthz")
async def get_health() -> Alive:
    """The process answers; it needs nothing else for that."""
    return Alive()


NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Readiness, "description": "Something is missing; the body tells what."}
}


@router.get("/readyz", responses=NOT_READY)
async def get_readiness(services: ServicesOf, response: Response) -> Readiness:
    """Whether this process should get requests: the database's schema has what it needs, and nobody has told
    it to stop. It may without workers: what is accepted waits for one. It may while the database is away, for
    so it is for all processes, and their answer says what to do.
    """
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            workers = await services.health_looks.at(None, partial(_look, services))
    except TimeoutError:
        workers = None
    migrations, stopping = services.migrated.is_set(), services.stopping.is_set()
    ready = migrations and not stopping
    if not ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Readiness(
        ready=ready,
        stopping=stopping,
        database=workers is not None,
        migrations=migrations,
        workers=workers or 0,
    )


async def _look(services: Services) -> int | None:
    """How many workers live; None where the database does not answer."""
    try:
        async with services.vitals() as session:
            if await is_behind(session):
                services.migrated.clear()
                return 0
            services.migrated.set()
            return await live_workers(session)
    except (DBAPIError, PoolTimeout, OSError):
        return None
