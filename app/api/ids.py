"""Ids in paths: what cannot be an id names nothing, and is answered like anything else that is not there."""

import re
from typing import Annotated

from fastapi import Depends, Path

from app.ids import ArtifactId, ClientId, CredentialId, EndpointId, ExportId, OutputId, ScheduleId
from app.problems import Code, ProblemError

UUID = "01997d3c5b7d7e3f8a1b2c3d4e5f6071"


def _named(parameter: str, prefix: str) -> object:
    """A dependency that reads an id of the prefix from the path."""
    form = re.compile(rf"{prefix}_[0-9a-f]{{32}}")

    async def read(value: Annotated[str, Path(alias=parameter, examples=[f"{prefix}_{UUID}"])]) -> str:
        if not form.fullmatch(value):
            raise ProblemError(Code.NOT_FOUND, f"No {parameter.removesuffix('_id')} has such an id.")
        return value

    return Depends(read)


ExportIdPath = Annotated[ExportId, _named("export_id", "exp")]
ArtifactIdPath = Annotated[ArtifactId, _named("artifact_id", "art")]
CredentialIdPath = Annotated[CredentialId, _named("credential_id", "cred")]
ClientIdPath = Annotated[ClientId, _named("client_id", "cli")]
ScheduleIdPath = Annotated[ScheduleId, _named("schedule_id", "sch")]
EndpointIdPath = Annotated[EndpointId, _named("endpoint_id", "whe")]
OutputIdPath = Annotated[OutputId, _named("output_id", "out")]
