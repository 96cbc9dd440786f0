"""Whether the process lives, and whether the service can do its work."""

from typing import Any, Literal

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.api.services import ServicesOf
from app.database.migrate import is_behind
from app.lanes.lease import live_workers

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the service needs, and whether it is there."""

    ready: bool
    stopping: bool = Field(description="The process was told to stop: send it nothing new.")
    database: bool = Field(description="The database answers.")
    migrations: bool = Field(description="Its schema has what this version needs.")
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
    """Whether this process should get requests: the database answers with a schema that has what it needs,
    and nobody has told it to stop. It may without workers: what is accepted waits for one.
    """
    try:
        async with services.sessions() as session:
            migrations = not await is_behind(session)
            workers = await live_workers(session) if migrations else 0
        database = True
    except (DBAPIError, PoolTimeout, OSError):
        database, migrations, workers = False, False, 0
    stopping = services.stopping.is_set()
    ready = migrations and not stopping
    if not ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Readiness(
        ready=ready, stopping=stopping, database=database, migrations=migrations, workers=workers
    )
