"""What an administrator should look at, and that somebody has."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from app.api.auth import LanesAdmin, ReasonBody, cause_of
from app.api.problems import ON_BODY, ON_CALL, problems
from app.api.services import ServicesOf
from app.exports.attention import AttentionItem, AttentionKind, acknowledge, attention

router = APIRouter(prefix="/v1/attention", tags=["attention"])

ItemId = Annotated[str, Path(max_length=200, examples=["lane-blocked.12345"])]


class AcknowledgementOut(BaseModel):
    """That somebody has seen it."""

    at: datetime
    by: str
    note: str | None


class AttentionOut(BaseModel):
    """Something a person should look at. It ends by itself once its cause is gone."""

    id: str
    kind: AttentionKind
    workspace: str | None = Field(description="Null where all may be concerned.")
    cause: str | None = Field(
        description="The credential, schedule or webhook endpoint, or the code of the problem."
    )
    since: datetime
    latest: datetime = Field(description="When it happened last.")
    count: int = Field(
        description="Refusals in a row, exports queued or failed, files waiting or missing, slots skipped, "
        "events not sent."
    )
    acknowledged: AcknowledgementOut | None

    @classmethod
    def of(cls, item: AttentionItem) -> "AttentionOut":
        seen = item.acknowledged
        return cls(
            id=item.id,
            kind=item.kind,
            workspace=item.workspace,
            cause=item.cause,
            since=item.since,
            latest=item.latest,
            count=item.count,
            acknowledged=AcknowledgementOut(at=seen.at, by=seen.by, note=seen.note) if seen else None,
        )


class AttentionList(BaseModel):
    items: list[AttentionOut]


@router.get("", responses=problems(*ON_CALL))
async def list_attention(
    client: LanesAdmin,
    services: ServicesOf,
    acknowledged: Annotated[bool, Query(description="Also what somebody has acknowledged.")] = False,
) -> AttentionList:
    """What should be looked at, the longest lasting first; each with its cause, not each export of it."""
    async with services.sessions() as session:
        items = await attention(session, client, services.settings.attention_seconds)
    return AttentionList(
        items=[AttentionOut.of(item) for item in items if acknowledged or not item.acknowledged]
    )


@router.post("/{item_id}/acknowledge", responses=problems(*ON_BODY))
async def acknowledge_attention(
    client: LanesAdmin,
    item_id: ItemId,
    services: ServicesOf,
    body: ReasonBody,
) -> AttentionOut:
    """Say that somebody looks after it. It is listed again when it happens again."""
    async with services.sessions.begin() as session:
        cause = cause_of(client, body.note)
        limit = services.settings.attention_seconds
        return AttentionOut.of(await acknowledge(session, client, item_id, limit, cause))
