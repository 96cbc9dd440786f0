"""What this service posts to webhook endpoints, for the `webhooks` section of its description."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, status

from app.events.body import EventBody
from app.events.log import Event
from app.events.public import PublicType

UUID = "01997d3c5b7d7e3f8a1b2c3d4e5f6071"
AT = datetime.fromisoformat("2026-01-02T03:04:05.678901+00:00")
# What the events of each kind are about.
FACTS: dict[str, dict[str, Any]] = {
    "export": {"export": f"exp_{UUID}"},
    "artifact": {"data": {"artifact": f"art_{UUID}"}},
    "lane": {"lane": "12345", "data": {}},
    "credential": {"credential": f"cred_{UUID}", "data": {}},
    "schedule": {"data": {"schedule": f"sch_{UUID}"}},
}
STATUSES = {
    PublicType.EXPORT_CREATED: "queued",
    PublicType.EXPORT_STARTED: "running",
    PublicType.EXPORT_AT_RISK: "queued",
}
SUMMARIES: dict[PublicType, str] = {
    PublicType.EXPORT_CREATED: "An export was asked for",
    PublicType.EXPORT_STARTED: "An export has started at Asana",
    PublicType.EXPORT_AT_RISK: "An export may miss its deadline",
    PublicType.EXPORT_SUCCEEDED: "An export has succeeded",
    PublicType.EXPORT_FAILED: "An export has failed",
    PublicType.EXPORT_CANCELED: "An export was canceled",
    PublicType.ARTIFACT_EXPIRING: "A file will expire soon",
    PublicType.ARTIFACT_EXPIRED: "A file has expired",
    PublicType.LANE_BLOCKED: "A queue is blocked by somebody outside",
    PublicType.LANE_UNBLOCKED: "A queue is no longer blocked",
    PublicType.LANE_PAUSED: "A queue was paused",
    PublicType.LANE_RESUMED: "A queue was resumed",
    PublicType.CREDENTIAL_INVALID: "Asana no longer accepts a token",
    PublicType.SCHEDULE_SKIPPED: "A schedule has skipped an export",
}


def add_notices(webhooks: APIRouter) -> None:
    """A post for each of the public types."""
    for kind in PublicType:
        webhooks.add_api_route(
            kind,
            _receive,
            methods=["POST"],
            name=f"told_{kind.replace('.', '_')}",
            summary=SUMMARIES[kind],
            description="Answer 2xx within 15 seconds, once the signature is verified; what is not accepted "
            "is sent again. Answered by 410, nothing is sent to the endpoint any more.",
            tags=["webhooks"],
            status_code=status.HTTP_204_NO_CONTENT,
            responses={204: {"description": "Accepted."}, "4XX": {"description": "Not accepted."}},
        )


def describe_notices(webhooks: dict[str, Any]) -> None:
    """Put in what FastAPI does not: examples with their nulls, and that the sender has no key here
    but signs.
    """
    for kind, webhook in webhooks.items():
        operation = webhook["post"]
        operation["security"] = []
        operation["requestBody"]["content"]["application/json"]["example"] = notice_example(PublicType(kind))


def notice_example(kind: PublicType) -> dict[str, Any]:
    """As it would be sent."""
    about, _, what = kind.partition(".")
    event = Event(type=kind, created_at=AT, **FACTS[about])
    if about == "export":
        event.data = {"status": STATUSES.get(kind, what), "version": 3}
    return EventBody.of(event).model_dump(mode="json")


async def _receive(
    body: Annotated[EventBody, Body()],
    webhook_id: Annotated[str, Header(description="The event's id, the same at every try.")],
    webhook_timestamp: Annotated[int, Header(description="When this try was made, in seconds since 1970.")],
    webhook_signature: Annotated[
        str,
        Header(description="`v1,` and a signature of id, timestamp and body; two in a rotation."),
    ],
) -> None:
    """The receiver's to implement."""
