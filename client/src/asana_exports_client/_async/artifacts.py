"""The verified files of exports: other formats of them, and how long they are kept."""

import time

import anyio

from asana_exports_client._async.http import Http
from asana_exports_client._requests import id_of
from asana_exports_client.models import (
    Artifact,
    Conversion,
    ConversionList,
    ConversionState,
    Format,
    OutputRequest,
    Reason,
    Refetch,
)
from asana_exports_client.problems import problem_error

FIRST_LOOK, NEXT_LOOK = 0.25, 5.0


class Artifacts:
    """By the artifact or its id."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def convert(
        self,
        artifact: Artifact | str,
        format: Format | str,  # noqa: A002
        timeout: float | None = None,
    ) -> Conversion:
        """The file as `parquet` or `csv`, a file for each resource type, once it is made.

        Raises `problems.NotConvertible` and `problems.ConversionFailed`, and `TimeoutError` after so many
        seconds; it is made all the same.
        """
        since = time.monotonic()
        made = await self.request_output(artifact, format)
        look = FIRST_LOOK
        while made.state == ConversionState.PENDING:
            if timeout is not None and time.monotonic() >= since + timeout:
                raise TimeoutError(f"There is no {made.format} of it within {timeout:g} seconds.")
            await anyio.sleep(look)
            look = min(2 * look, NEXT_LOOK)
            made = await self.output(artifact, format)
        if made.error:
            raise problem_error(made.error)
        return made

    async def request_output(self, artifact: Artifact | str, format: Format | str) -> Conversion:  # noqa: A002
        """Have the file made into another format, without waiting for it."""
        return await self._http.call(
            "POST /v1/artifacts/{artifact_id}/outputs",
            Conversion,
            body=OutputRequest(format=Format(format)),
            artifact_id=id_of(artifact),
        )

    async def output(self, artifact: Artifact | str, format: Format | str) -> Conversion:  # noqa: A002
        """How far another format is."""
        return await self._http.call(
            "GET /v1/artifacts/{artifact_id}/outputs/{format}",
            Conversion,
            artifact_id=id_of(artifact),
            format=Format(format),
        )

    async def outputs(self, artifact: Artifact | str) -> list[Conversion]:
        """All formats that were asked for."""
        found = await self._http.call(
            "GET /v1/artifacts/{artifact_id}/outputs", ConversionList, artifact_id=id_of(artifact)
        )
        return found.items

    async def delete(self, artifact: Artifact | str, note: str | None = None) -> None:
        """End a file before its retention does. Raises `problems.LegalHold`."""
        await self._http.send(
            "DELETE /v1/artifacts/{artifact_id}", query={"note": note}, artifact_id=id_of(artifact)
        )

    async def hold(self, artifact: Artifact | str, note: str | None = None) -> None:
        """Keep a file, whatever its retention says."""
        await self._http.send(
            "PUT /v1/artifacts/{artifact_id}/hold", body=Reason(note=note), artifact_id=id_of(artifact)
        )

    async def release(self, artifact: Artifact | str, note: str | None = None) -> None:
        """End a hold."""
        await self._http.send(
            "DELETE /v1/artifacts/{artifact_id}/hold", query={"note": note}, artifact_id=id_of(artifact)
        )

    async def refetch(self, artifact: Artifact | str, note: str | None = None) -> Refetch:
        """Have a file that the store has lost fetched from Asana again."""
        return await self._http.call(
            "POST /v1/artifacts/{artifact_id}/refetch",
            Refetch,
            body=Reason(note=note),
            artifact_id=id_of(artifact),
        )

    async def refetched(self, artifact: Artifact | str) -> Refetch:
        """How far that is."""
        return await self._http.call(
            "GET /v1/artifacts/{artifact_id}/refetch", Refetch, artifact_id=id_of(artifact)
        )
