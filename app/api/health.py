"""Whether the process lives, and whether the service can do its work."""

from typing import Any, Literal

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.services import ServicesOf
from app.database.migrate import at_head
from app.lanes.lease import live_workers

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the service needs, and whether it is there."""

    ready: bool
    database: bool = Field(description="The database answers.")
    migrations: bool = Field(description="Its schema is the one this version was written for.")
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
    """Whether the database answers with the right schema, and a worker lives."""
    try:
        async with services.sessions() as session:
            found = await _look(session)
    except (DBAPIError, PoolTimeout, OSError):
        found = Readiness(ready=False, database=False, migrations=False, workers=0)
    if not found.ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return found


async def _look(session: AsyncSession) -> Readiness:
    if not await at_head(session):
        return Readiness(ready=False, database=True, migrations=False, workers=0)
    workers = await live_workers(session)
    return Readiness(ready=workers > 0, database=True, migrations=True, workers=workers)
