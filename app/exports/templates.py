"""What a schedule asks for: a request whose filters by time may move on from slot to slot."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from app.exports.requests import (
    ExportRequestParameter,
    Filters,
    GraphRequest,
    Moment,
    ResourceRequest,
)
from app.exports.wishes import MONTH, Wishes

EARLIEST = datetime.min.replace(tzinfo=UTC)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Since(BaseModel):
    """What has changed since the last success: from the schedule's watermark on."""

    model_config = ConfigDict(extra="forbid")

    since: Literal["last_success"]
    overlap: str = Field(
        "15m",
        pattern=r"^[0-9]{1,5}[smhd]$",
        description="How much earlier to begin, for Asana may take a moment to show what has changed.",
        examples=["15m"],
    )
    first: Moment | None = Field(
        None, description="From when, as long as there was no success; null for everything."
    )

    def at(self, slot: datetime, watermark: datetime | None) -> datetime | None:
        if watermark is None:
            return self.first
        return watermark - min(duration(self.overlap), watermark - EARLIEST)


class Relative(BaseModel):
    """So long before the slot."""

    model_config = ConfigDict(extra="forbid")

    relative: str = Field(
        pattern=r"^-[0-9]{1,5}[smhd]$",
        description="A minus sign, a number, and `s`, `m`, `h` or `d`.",
        examples=["-24h"],
    )

    def at(self, slot: datetime, watermark: datetime | None) -> datetime:
        return slot - duration(self.relative[1:])


def duration(text: str) -> timedelta:
    """What `15m`, `2h` or `1d` stands for."""
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


# The steps that these tags are in the place of a fault are no part of the body.
RESOURCE, GRAPH, MOMENT, SINCE, RELATIVE = TAGS = (
    "(resource)",
    "(graph)",
    "(moment)",
    "(since)",
    "(relative)",
)


def _form(value: Any) -> str:
    if isinstance(value, Since) or (isinstance(value, dict) and "since" in value):
        return SINCE
    return RELATIVE if isinstance(value, Relative | dict) else MOMENT


def _fixed_or_relative(value: Any) -> str:
    return RELATIVE if isinstance(value, Relative | dict) else MOMENT


After = Annotated[
    Annotated[Moment, Tag(MOMENT)] | Annotated[Since, Tag(SINCE)] | Annotated[Relative, Tag(RELATIVE)],
    Discriminator(_form),
]
Before = Annotated[
    Annotated[Moment, Tag(MOMENT)] | Annotated[Relative, Tag(RELATIVE)], Discriminator(_fixed_or_relative)
]


class ScheduledFilters(Filters):
    """Asana's filters; those by time may move on from slot to slot."""

    created_at_after: After | None = Field(None, alias="created_at.after")  # type: ignore[assignment]
    created_at_before: Before | None = Field(None, alias="created_at.before")  # type: ignore[assignment]
    modified_at_after: After | None = Field(None, alias="modified_at.after")  # type: ignore[assignment]
    modified_at_before: Before | None = Field(None, alias="modified_at.before")  # type: ignore[assignment]


class ScheduledParameter(ExportRequestParameter):
    """Objects of one type; several items of a type mean OR, and may give the same object twice."""

    filters: ScheduledFilters | None = Field(None, description="Absent: no filter. Not supported for teams.")

    @classmethod
    def misfits(cls, data: Any) -> Iterator[tuple[str, str]]:
        """Also windows of which a part would never be asked for, or which would close one day."""
        yield from super().misfits(data)
        filters = data.get("filters") if isinstance(data, dict) else None
        if not isinstance(filters, dict):
            return
        grows = any(isinstance(value, dict) and "since" in value for value in filters.values())
        for before in ("created_at.before", "modified_at.before"):
            start, end = filters.get(before.replace(".before", ".after")), filters.get(before)
            if end is None:
                continue
            if grows:
                yield before, "cannot go with `since`: what it leaves out would never be asked for again"
            elif start is not None and isinstance(start, dict) is not isinstance(end, dict):
                yield before, "must be relative where its beginning is, and fixed where that is fixed"
            elif _ends_before(start, end):
                yield before, "must not be earlier than its beginning"


def _ends_before(start: object, end: object) -> bool:
    try:
        since, until = Relative.model_validate(start), Relative.model_validate(end)
    except ValidationError:
        return False  # no pair of these, or a fault of its own
    return duration(since.relative[1:]) < duration(until.relative[1:])


class ScheduledWishes(Wishes):
    """How the exports of a schedule are to be treated here; nothing of it is sent to Asana."""

    deliver_within: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=MONTH,
        description="Seconds after its slot by which an export is needed: its `deliver_by`.",
    )


class ScheduledResourceExport(ResourceRequest, ScheduledWishes):
    """A bulk export of a workspace's tasks, teams or messages at each slot; the fields are Asana's own."""

    export_request_parameters: Annotated[  # type: ignore[assignment]
        list[ScheduledParameter], Field(min_length=1, max_length=100)
    ]

    def at(self, slot: datetime, watermark: datetime | None) -> ResourceRequest:
        """The request of a slot. Raises `ValidationError` for one that Asana would no longer take."""
        body = self.for_asana()
        for item, parameter in zip(
            body["export_request_parameters"], self.export_request_parameters, strict=True
        ):
            for name, value in _moving(parameter.filters):
                moment = value.at(slot, watermark)
                item["filters"][name] = moment
                if moment is None:
                    del item["filters"][name]
        return ResourceRequest.model_validate(body)


class ScheduledGraphExport(GraphRequest, ScheduledWishes):
    """An export of a goal, team, portfolio or project and what is below it, at each slot."""

    def at(self, slot: datetime, watermark: datetime | None) -> GraphRequest:
        """The request of a slot, which is always the same."""
        return GraphRequest(workspace=self.workspace, parent=self.parent)


def _moving(filters: ScheduledFilters | None) -> Iterator[tuple[str, Since | Relative]]:
    if filters is None:
        return
    for name, field in ScheduledFilters.model_fields.items():
        value = getattr(filters, name)
        if isinstance(value, Since | Relative):
            yield str(field.alias), value


def _kind(value: Any) -> str:
    is_graph = isinstance(value, ScheduledGraphExport) or (isinstance(value, dict) and "parent" in value)
    return GRAPH if is_graph else RESOURCE


ScheduledExport = Annotated[
    Annotated[ScheduledResourceExport, Tag(RESOURCE)] | Annotated[ScheduledGraphExport, Tag(GRAPH)],
    Discriminator(_kind),
]
AnyScheduled = ScheduledResourceExport | ScheduledGraphExport
STORED: TypeAdapter[AnyScheduled] = TypeAdapter(ScheduledExport)
