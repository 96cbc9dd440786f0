"""Other formats of an archived file, as their callers see them: asked for once, made by a worker."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client
from app.artifacts.models import IS_KEPT, Artifact, Conversion, OutputFile
from app.artifacts.outputs import Format
from app.events.log import Cause, EventType, record
from app.exports.models import Run
from app.exports.reading import kept_artifact
from app.ids import ArtifactId, OutputId
from app.problems import Code, ProblemError

# One that has failed is tried anew; one that is there or on its way stays as it is.
ASK = text("""
    INSERT INTO conversions (artifact, format, state) VALUES (:artifact, :format, 'pending')
    ON CONFLICT (artifact, format) DO UPDATE
    SET state = 'pending', error = NULL, finished_at = NULL, worker = NULL, failures = 0,
        not_before = now(), requested_at = now()
    WHERE conversions.state = 'failed'
""")


@dataclass(frozen=True)
class ConversionView:
    """A conversion with its files, by resource type."""

    conversion: Conversion
    files: Sequence[OutputFile]


async def ask_for_conversion(
    session: AsyncSession, client: Client, artifact_id: ArtifactId, form: Format, cause: Cause
) -> ConversionView:
    """Have the file made into a format, unless it is or will be. Raises `ProblemError` `artifact-expired`."""
    artifact, run = await kept_artifact(session, client, artifact_id)
    if not await lock_kept(session, artifact.id):
        raise ProblemError(Code.ARTIFACT_EXPIRED, f"The file of artifact {artifact_id} is no longer kept.")
    asked = await session.execute(ASK, {"artifact": artifact.id, "format": form})
    if asked.rowcount:  # type: ignore[attr-defined]
        await record(
            session,
            EventType.ARTIFACT_CONVERSION_REQUESTED,
            actor=cause.actor,
            request_id=cause.request_id,
            run=run.id,
            data={"artifact": artifact.id, "format": form},
        )
    return (await _views(session, Conversion.artifact == artifact.id, Conversion.format == form))[0]


async def lock_kept(session: AsyncSession, artifact_id: ArtifactId) -> bool:
    """Whether the file is kept, and will be until the transaction ends."""
    found = select(Artifact.id).where(Artifact.id == artifact_id, IS_KEPT)
    return await session.scalar(found.with_for_update(read=True)) is not None


async def conversions_of(
    session: AsyncSession, client: Client, artifact_id: ArtifactId
) -> list[ConversionView]:
    """The formats that were asked for, by whomever. Raises `ProblemError` as `kept_artifact` does."""
    artifact, _ = await kept_artifact(session, client, artifact_id)
    return await _views(session, Conversion.artifact == artifact.id)


async def conversion_of(
    session: AsyncSession, client: Client, artifact_id: ArtifactId, form: Format
) -> ConversionView:
    """One of them. Raises `ProblemError` `not-found` where it was not asked for."""
    artifact, _ = await kept_artifact(session, client, artifact_id)
    views = await _views(session, Conversion.artifact == artifact.id, Conversion.format == form)
    if not views:
        raise ProblemError(Code.NOT_FOUND, f"Nobody has asked for {artifact_id} as {form}.")
    return views[0]


async def visible_output(
    session: AsyncSession, client: Client, artifact_id: ArtifactId, output_id: OutputId
) -> tuple[OutputFile, Artifact, Run]:
    """One file, with the artifact it was made of. Raises `ProblemError` `not-found` for one unseen, too."""
    artifact, run = await kept_artifact(session, client, artifact_id)
    file = await session.scalar(
        select(OutputFile).where(OutputFile.id == output_id, OutputFile.artifact == artifact.id)
    )
    if file is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no output {output_id} of {artifact_id}.")
    return file, artifact, run


async def _views(session: AsyncSession, *wanted: ColumnElement[bool]) -> list[ConversionView]:
    conversions = (
        await session.scalars(
            select(Conversion)
            .where(*wanted)
            .order_by(Conversion.format)
            .execution_options(populate_existing=True)
        )
    ).all()
    ids = {conversion.artifact for conversion in conversions}
    made = select(OutputFile).where(OutputFile.artifact.in_(ids)).order_by(OutputFile.resource_type)
    files = (await session.scalars(made)).all()
    return [
        ConversionView(conversion, [file for file in files if file.format is conversion.format])
        for conversion in conversions
    ]
