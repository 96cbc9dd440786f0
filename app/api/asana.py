"""The part of the API that is spoken to as Asana is, by what is written for Asana."""

from datetime import timedelta
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints

from app.access.idempotency import once
from app.access.models import Client, Scope
from app.access.tickets import opened, sealed
from app.api.artifacts import content_of
from app.api.asana_errors import BASE, AsanaAnswer
from app.api.asana_jobs import (
    GraphJobCreate,
    JobAnswer,
    JobOut,
    Look,
    LookQuery,
    ResourceJobCreate,
)
from app.api.auth import ExportsReader, ExportsWriter
from app.api.content import ON_CONTENT, PARAMETERS, content_responses, send
from app.api.exports import ON_SUBMIT_CODES, tell_quotas
from app.api.idempotency import IdempotencyKey
from app.api.problems import ON_CALL, refusals
from app.api.request_id import request_id
from app.api.services import Services, ServicesOf
from app.artifacts.models import MEDIA_TYPE
from app.exports.accept import Submission
from app.exports.jobs import Job, job_by_gid, job_of, start_job
from app.exports.reading import kept_artifact
from app.exports.requests import GraphRequest
from app.ids import GID, ClientId
from app.problems import Code, ProblemError

URL_LASTS = timedelta(hours=1)
ON_START = refusals(*ON_SUBMIT_CODES, Code.UPSTREAM_UNAVAILABLE)

router = APIRouter(prefix=BASE, tags=["asana"])

JobGidPath = Annotated[
    str, StringConstraints(pattern=GID), Path(alias="job_gid", examples=["6917529027641081856"])
]


@router.post(
    "/exports/graph", status_code=status.HTTP_201_CREATED, response_model=JobAnswer, responses=ON_START
)
async def start_graph_export(
    body: GraphJobCreate,
    client: ExportsWriter,
    services: ServicesOf,
    request: Request,
    key: IdempotencyKey,
    look: LookQuery,
) -> Response:
    """Export a goal, team, portfolio or project and what is below it, as Asana's own call does.

    The answer is a job. While one of yours for the same parent has not ended, that one.
    """
    asked = body.data
    workspace = asked.workspace or await services.parents.workspace_for(client, asked.parent)
    wanted = asked.submission(GraphRequest(workspace=workspace, parent=asked.parent), request_id())
    return await _start(services, client, wanted, body, request, key, look)


@router.post(
    "/exports/resource", status_code=status.HTTP_201_CREATED, response_model=JobAnswer, responses=ON_START
)
async def start_resource_export(
    body: ResourceJobCreate,
    client: ExportsWriter,
    services: ServicesOf,
    request: Request,
    key: IdempotencyKey,
    look: LookQuery,
) -> Response:
    """Export a workspace's tasks, teams or messages in bulk, as Asana's own call does.

    The answer is a job. Where Asana says 403, for another export of the workspace is in progress, this one
    waits for its turn.
    """
    wanted = body.data.submission(body.data, request_id())
    return await _start(services, client, wanted, body, request, key, look)


@router.get("/jobs/{job_gid}", response_model=JobAnswer, responses=refusals(*ON_CALL))
async def get_job(
    job_gid: JobGidPath, client: ExportsReader, services: ServicesOf, request: Request, look: LookQuery
) -> Response:
    """One of your jobs as it is now, with a fresh `download_url` once it has succeeded."""
    async with services.sessions() as session:
        job = await job_by_gid(session, client, job_gid)
    return AsanaAnswer(look.at(_shown(services, client, job, request)), pretty=look.pretty)


@router.get(
    "/jobs/{job_gid}/content",
    response_class=StreamingResponse,
    responses=content_responses("The file as it is stored: JSON Lines, compressed by gzip.", MEDIA_TYPE)
    | refusals(
        *ON_CONTENT,
        Code.DOWNLOAD_URL_REFUSED,
        Code.SCOPE_MISSING,
        Code.NOT_FOUND,
        Code.VALIDATION_FAILED,
        Code.TOO_MANY_REQUESTS,
    ),
    openapi_extra=PARAMETERS,
)
async def get_job_content(
    job_gid: JobGidPath,
    services: ServicesOf,
    request: Request,
    signature: Annotated[str, Query(description="As the job's `download_url` has it.")] = "",
) -> Response:
    """Download the file of a job by its `download_url`, which needs no key."""
    client = await _bearer_of(services, job_gid, signature)
    await services.rate.count(client)
    if not client.may(Scope.ARTIFACTS_READ):
        detail = f"Its client's key lacks the scope {Scope.ARTIFACTS_READ}."
        raise ProblemError(Code.SCOPE_MISSING, detail)
    async with services.sessions() as session:
        job = await job_by_gid(session, client, job_gid)
        if job.artifact is None:
            raise ProblemError(Code.NOT_FOUND, f"job: Unknown object: {job_gid}")
        artifact, run = await kept_artifact(session, client, job.artifact)
    return await send(services, request, content_of(artifact, artifact, run, ".jsonl.gz"))


async def _start(
    services: Services,
    client: Client,
    wanted: Submission,
    body: GraphJobCreate | ResourceJobCreate,
    request: Request,
    key: str | None,
    look: Look,
) -> Response:
    kind, workspace = wanted.request.kind, wanted.request.workspace
    given = body.data.model_dump(mode="json", by_alias=True)
    try:
        async with services.sessions.begin() as session:
            make = partial(start_job, session, client, wanted, services.rules)
            export, replayed = await once(session, client.id, f"jobs/{kind}", key, given, make)
    except ProblemError as error:
        if error.problem.code is not Code.NOT_FOUND:
            raise
        raise ProblemError(Code.NOT_FOUND, f"workspace: Unknown object: {workspace}") from None
    async with services.sessions() as session:
        job = await job_of(session, export)
    await tell_quotas(services, client, workspace, kind)
    headers = {"Location": f"{BASE}/jobs/{job.gid}"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    look = look.over(body.options)
    shown = look.at(_shown(services, client, job, request))
    return AsanaAnswer(shown, status.HTTP_201_CREATED, headers, pretty=look.pretty)


def _shown(services: Services, client: Client, job: Job, request: Request) -> JobOut:
    if job.artifact is None:
        return JobOut.of(job, None)
    base = services.settings.public_url or str(request.base_url).rstrip("/")
    signature = sealed(services.vault, client, job.gid, services.clock.now() + URL_LASTS)
    query = urlencode({"signature": signature})
    return JobOut.of(job, f"{base}{BASE}/jobs/{job.gid}/content?{query}")


async def _bearer_of(services: Services, job_gid: str, signature: str) -> Client:
    """Whose download URL it is. Raises `ProblemError` `download-url-refused`."""
    ticket = opened(services.vault, signature)
    if ticket and ticket.job == job_gid:
        async with services.sessions() as session:
            client = await session.get(Client, ClientId(ticket.client))
        if client and ticket.admits(client, services.clock.now()):
            return client
    detail = "The download URL is not one of ours, or its hour is over, or its client's key has been revoked."
    raise ProblemError(Code.DOWNLOAD_URL_REFUSED, detail)
