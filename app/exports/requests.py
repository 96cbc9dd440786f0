"""What Asana can be asked to export, and everything it would refuse that can be known beforehand.

The rules are those of Asana's documentation of `POST /exports/resource` and `POST /exports/graph`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

import rfc8785
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.access.models import Kind
from app.ids import GID

Gid = Annotated[
    str,
    StringConstraints(pattern=GID),
    Field(description="An Asana gid: a string of digits.", examples=["12345"]),
]
FieldPath = Annotated[
    str,
    StringConstraints(pattern=r"^[a-zA-Z0-9_().|]{1,200}$"),
    Field(description="A path as in Asana's `opt_fields`.", examples=["assignee.name"]),
]


class ResourceType(StrEnum):
    """What a resource export may hold: every `task`, `team` or `message` of the workspace."""

    TASK = "task"
    TEAM = "team"
    MESSAGE = "message"


def read_moment(value: object) -> datetime:
    """Read an ISO 8601 date-time; without an offset it would mean different instants to different readers."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)  # type: ignore[arg-type]
        utc = moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise PydanticCustomError(
            "timestamp", "must be a date-time in ISO 8601, such as 2026-01-01T00:00:00Z"
        ) from None
    if moment.tzinfo is None:
        raise PydanticCustomError("timestamp", "must name its offset from UTC, such as Z or +02:00")
    return utc


Moment = Annotated[
    datetime,
    BeforeValidator(read_moment, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Users = Annotated[list[Gid], Field(min_length=1, max_length=1000)]


class Filters(BaseModel):
    """Asana's filters: all given ones must hold. They apply to tasks and, save the first two, to messages."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)

    assigned_by_any: Users | None = Field(None, alias="assigned_by.any", description="Tasks only.")
    assignee_any: Users | None = Field(None, alias="assignee.any", description="Tasks only.")
    commented_on_by_any: Users | None = Field(None, alias="commented_on_by.any")
    created_by_any: Users | None = Field(None, alias="created_by.any")
    followers_any: Users | None = Field(None, alias="followers.any")
    liked_by_any: Users | None = Field(None, alias="liked_by.any")
    created_at_after: Moment | None = Field(None, alias="created_at.after")
    created_at_before: Moment | None = Field(None, alias="created_at.before")
    modified_at_after: Moment | None = Field(None, alias="modified_at.after")
    modified_at_before: Moment | None = Field(None, alias="modified_at.before")


TASKS_ONLY = ("assigned_by.any", "assignee.any")
KNOWN_FILTERS = {str(field.alias) for field in Filters.model_fields.values()}


class ExportRequestParameter(BaseModel):
    """Objects of one type; several items of a type mean OR, and may give the same object twice."""

    model_config = ConfigDict(extra="forbid")

    resource_type: ResourceType
    filters: Filters | None = Field(None, description="Absent: no filter. Not supported for teams.")
    fields: Annotated[list[FieldPath], Field(min_length=1, max_length=500)] | None = Field(
        None, description="Absent: all that Asana gives without asking."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _all_faults_at_once(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Add filters that do not go with the type to what is wrong with each field by itself."""
        faults = [_fault(why, ("filters", name)) for name, why in cls.misfits(data)]
        try:
            item = validate(data)
        except ValidationError as error:
            faults += [
                _fault(each["msg"], each["loc"], each["type"], each["input"]) for each in error.errors()
            ]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return item

    @classmethod
    def misfits(cls, data: Any) -> Iterator[tuple[str, str]]:
        """Filters, by name, that Asana would not take with the resource type, or that nothing can pass."""
        filters = data.get("filters") if isinstance(data, dict) else None
        if not isinstance(filters, dict):
            return
        resource_type = data.get("resource_type")
        for name in KNOWN_FILTERS & filters.keys():
            if resource_type == ResourceType.TEAM:
                yield name, "Asana does not support filters for teams"
            elif resource_type == ResourceType.MESSAGE and name in TASKS_ONLY:
                yield name, f"{name} applies to tasks only"
            elif name.endswith(".after") and _is_later(
                filters[name], filters.get(name.replace(".after", ".before"))
            ):
                yield name, f"must not be later than {name.replace('.after', '.before')}"


class ExportRequest(BaseModel):
    """What is asked of Asana."""

    model_config = ConfigDict(extra="forbid")
    kind: ClassVar[Kind]

    workspace: Gid

    def for_asana(self) -> dict[str, Any]:
        """Asana's body."""
        raise NotImplementedError

    def canonical(self) -> dict[str, Any]:
        """One form for all requests that ask for the same, in whatever order."""
        raise NotImplementedError

    def shape(self) -> str:
        """What is alike in requests that may take alike long: their form without the values."""
        raise NotImplementedError


class ResourceRequest(ExportRequest):
    """A bulk export of a workspace's tasks, teams or messages."""

    kind: ClassVar[Kind] = Kind.RESOURCE

    export_request_parameters: Annotated[list[ExportRequestParameter], Field(min_length=1, max_length=100)]

    def for_asana(self) -> dict[str, Any]:
        items = [
            item.model_dump(mode="json", by_alias=True, exclude_none=True)
            for item in self.export_request_parameters
        ]
        # Asana does not say what it makes of filters that are there but empty.
        kept = [{name: value for name, value in item.items() if value} for item in items]
        return {"workspace": self.workspace, "export_request_parameters": kept}

    def canonical(self) -> dict[str, Any]:
        items = [_sorted(item) for item in self.for_asana()["export_request_parameters"]]
        return {"export_request_parameters": sorted(items, key=rfc8785.dumps)}

    def shape(self) -> str:
        return "+".join(
            sorted(
                f"{item['resource_type']}({','.join(sorted(item.get('filters', {})))})"
                f"{'[fields]' if 'fields' in item else ''}"
                for item in self.for_asana()["export_request_parameters"]
            )
        )


class GraphRequest(ExportRequest):
    """An export of a goal, team, portfolio or project and what is below it."""

    kind: ClassVar[Kind] = Kind.GRAPH

    parent: Gid

    def for_asana(self) -> dict[str, Any]:
        # The workspace is ours: Asana finds its own by the parent.
        return {"parent": self.parent}

    def canonical(self) -> dict[str, Any]:
        return self.for_asana()

    def shape(self) -> str:
        return f"parent {self.parent}"


def stored_request(kind: Kind, workspace: str, request: dict[str, Any]) -> ExportRequest:
    """A request as it was kept with its export."""
    match kind:
        case Kind.RESOURCE:
            return ResourceRequest.model_validate(request)
        case Kind.GRAPH:
            return GraphRequest.model_validate({"workspace": workspace, **request})


def only_type(request: dict[str, Any]) -> str:
    """What a line is that does not say: with `fields` given, Asana leaves the resource type out."""
    types = {item["resource_type"] for item in request.get("export_request_parameters", [])}
    return types.pop() if len(types) == 1 else "unknown"


def _sorted(item: dict[str, Any]) -> dict[str, Any]:
    """An item whose lists mean sets."""
    filters = {
        name: sorted(set(value)) if isinstance(value, list) else value
        for name, value in item.get("filters", {}).items()
    }
    fields = sorted(set(item.get("fields", ())))
    parts = {"resource_type": item["resource_type"], "filters": filters, "fields": fields}
    return {name: value for name, value in parts.items() if value}


def _is_later(after: object, before: object) -> bool:
    try:
        return read_moment(after) > read_moment(before)
    except PydanticCustomError:
        return False  # the field itself is at fault, and says so


def _fault(
    why: str, place: tuple[int | str, ...], kind: str = "misfit", given: Any = None
) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, why), loc=place, input=given)
