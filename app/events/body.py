"""What is told of an event to those who follow it elsewhere: what it is about, and where to look."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.events.log import Event


class Subject(BaseModel):
    """What an event is about."""

    id: str | None = Field(
        description="Of the export; else of the schedule, webhook endpoint, artifact, workspace, credential, "
        "client or item. "
        "Null where it is about none of them."
    )
    status: str | None = Field(description="What the export became; null where it is about none.")
    version: int | None = Field(
        description="The export's version by this event. The highest one seen is the latest."
    )
    links: dict[str, str] = Field(
        description="Paths of this API at which more is to be had, by what is there."
    )


class EventBody(BaseModel):
    """An event without any data: who wants more follows its links, with a key that may."""

    type: str = Field(description="As `export.succeeded`.")
    timestamp: datetime = Field(description="When it was written.")
    data: Subject

    @classmethod
    def of(cls, event: Event) -> "EventBody":
        return cls(type=event.type, timestamp=event.created_at, data=subject_of(event))


def subject_of(event: Event) -> Subject:
    """The one thing that an event is about most of all."""
    about, links = _about(event)
    return Subject(id=about, status=event.data.get("status"), version=event.data.get("version"), links=links)


def _about(event: Event) -> tuple[str | None, dict[str, str]]:
    known = event.data
    if event.export:
        return event.export, {"export": f"/v1/exports/{event.export}"}
    if schedule := known.get("schedule"):
        return schedule, {"schedule": f"/v1/schedules/{schedule}"}
    if endpoint := known.get("endpoint"):
        return endpoint, {"webhook_endpoint": f"/v1/webhook-endpoints/{endpoint}"}
    if artifact := known.get("artifact"):
        path = f"/v1/artifacts/{artifact}"
        outputs = {"output": f"{path}/outputs/{known['format']}"} if "format" in known else {}
        return artifact, {"content": f"{path}/content", **outputs}
    if event.lane:
        gid, _, kind = event.lane.partition("/")
        return gid, {"lane": f"/v1/workspaces/{gid}/lane" + (f"?kind={kind}" if kind else "")}
    if workspace := known.get("workspace"):
        return workspace, {"workspace": f"/v1/workspaces/{workspace}"}
    if event.credential:
        return event.credential, {"credential": f"/v1/credentials/{event.credential}"}
    if client := known.get("client"):
        return client, {"client": f"/v1/clients/{client}"}
    return (known["item"], {"attention": "/v1/attention"}) if "item" in known else (None, {})
