"""What the store has and the tables do not know, and the other way round: found in pages, mended."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.models import DUPLICATES, IS_KEPT, Artifact, OutputFile, Refetch, RefetchState
from app.events.log import Cause, EventType
from app.exports.keeping import change_artifact, locked
from app.exports.latency import database_now
from app.exports.models import Run
from app.exports.refetches import ask_for_refetch
from app.ids import ArtifactId
from app.metrics import REPAIRS, once_committed
from app.problems import Code

AT_ONCE = 200
# What workers call the files they publish, by the run or the artifact that they are of.
OURS = re.compile(r"[0-9]+/((?:run|art)_[0-9a-f]{32})-[A-Za-z0-9._-]+")

# A file of a run or an artifact that is unknown here may be that of another service, whose place ours was
# given by mistake, or that has been restored from a backup: it is let alone. So is whatever there is of an
# artifact whose file is missing, or was until some hours ago: it may be that file. And what there is of a run
# that has not ended waits for the file that it will have.
STRAYS = text("""
    SELECT found.key
    FROM unnest(CAST(:keys AS text[]), CAST(:originals AS text[]), CAST(:owners AS text[]))
        AS found (key, original, owner)
    WHERE (EXISTS (SELECT FROM runs WHERE runs.id = found.owner)
           OR EXISTS (SELECT FROM artifacts WHERE artifacts.id = found.owner))
      AND NOT EXISTS (SELECT FROM runs WHERE runs.id = found.owner AND finished_at IS NULL)
      AND NOT EXISTS (SELECT FROM artifacts WHERE artifacts.key = found.original AND removed_at IS NULL)
      AND NOT EXISTS (SELECT FROM output_files WHERE output_files.key = found.key)
      AND NOT EXISTS (
        SELECT FROM artifacts LEFT JOIN refetches ON refetches.artifact = artifacts.id
        WHERE found.owner IN (artifacts.run, artifacts.id)
          AND (missing_since IS NOT NULL OR refetches.finished_at > now() - interval '6 hours'))
""")
MAKE_AGAIN = text("""
    UPDATE conversions
    SET state = 'pending', finished_at = NULL, worker = NULL, failures = 0, not_before = now(),
        requested_at = now()
    WHERE state = 'ready' AND EXISTS (
        SELECT FROM output_files
        WHERE (output_files.artifact, output_files.format) = (conversions.artifact, conversions.format)
          AND key = ANY(:keys))
    RETURNING artifact, format
""")
FORGET_OUTPUTS = text("DELETE FROM output_files WHERE artifact = :artifact AND format = :format")


@dataclass(frozen=True)
class Kept:
    """An artifact that is kept, and the files that the store has to have of it: their sizes by key, None for
    one that is not known."""

    artifact: Artifact
    run: Run
    files: dict[str, int | None]


def owned(keys: Sequence[str]) -> list[tuple[str, str]]:
    """Those of the keys that are of files of ours, each with the run or the artifact that it is of."""
    return [(key, match[1]) for key in keys if (match := OURS.fullmatch(key))]


async def strays(session: AsyncSession, keys: Sequence[str]) -> list[str]:
    """Those of the keys that are of a file of ours which no row names any more."""
    ours = owned(keys)
    found = await session.scalars(
        STRAYS,
        {
            "keys": [key for key, _ in ours],
            "originals": [key.removesuffix(DUPLICATES) for key, _ in ours],
            "owners": [owner for _, owner in ours],
        },
    )
    return list(found)


async def kept_after(session: AsyncSession, last: ArtifactId | None) -> list[Kept]:
    """Some of what is kept, in order of making, from the artifact after `last` on."""
    statement = select(Artifact, Run).join(Run, Run.id == Artifact.run).where(IS_KEPT)
    if last:
        statement = statement.where(Artifact.id > last)
    rows = (await session.execute(statement.order_by(Artifact.id).limit(AT_ONCE))).all()
    ids = [row.Artifact.id for row in rows]
    made = (await session.scalars(select(OutputFile).where(OutputFile.artifact.in_(ids)))).all()
    return [Kept(row.Artifact, row.Run, _files_of(row.Artifact, made)) for row in rows]


def _files_of(artifact: Artifact, made: Sequence[OutputFile]) -> dict[str, int | None]:
    duplicates = {artifact.duplicates_key: None} if artifact.duplicate_gids else {}
    outputs = {file.key: file.bytes for file in made if file.artifact == artifact.id}
    return {artifact.key: artifact.bytes, **duplicates, **outputs}


async def note_missing(
    session: AsyncSession, artifact_id: ArtifactId, key: str, missing: Sequence[str], actor: str
) -> bool:
    """Record that the store has not what it has to have of an artifact, and have it mended where others do
    that. False where the artifact has changed since it was looked at.
    """
    kept = select(Artifact).where(Artifact.id == artifact_id, Artifact.key == key, IS_KEPT)
    artifact = await locked(session, kept)
    if artifact is None:
        return False
    cause = Cause(actor)
    if artifact.missing_since is None:
        artifact.missing_since = await database_now(session)
        kind = EventType.ARTIFACT_MISSING
        await change_artifact(session, artifact, artifact.state, kind, cause, missing=[*missing])
        once_committed(session, lambda: REPAIRS.labels("file").inc(len(missing)))
    if key not in missing:
        await _make_outputs_again(session, artifact, missing, cause)
    elif await _may_be_had_again(session, artifact):
        await ask_for_refetch(session, artifact, cause)
    return True


async def note_whole(session: AsyncSession, artifact_id: ArtifactId, key: str, actor: str) -> None:
    """All files of an artifact are there again."""
    was_missing = Artifact.missing_since.is_not(None)
    artifact = await locked(
        session, select(Artifact).where(Artifact.id == artifact_id, Artifact.key == key, was_missing)
    )
    if artifact is not None:
        artifact.missing_since = None
        kind = EventType.ARTIFACT_MENDED
        await change_artifact(session, artifact, artifact.state, kind, Cause(actor))


async def _make_outputs_again(
    session: AsyncSession, artifact: Artifact, missing: Sequence[str], cause: Cause
) -> None:
    for artifact_id, form in (await session.execute(MAKE_AGAIN, {"keys": [*missing]})).all():
        await session.execute(FORGET_OUTPUTS, {"artifact": artifact_id, "format": form})
        kind = EventType.ARTIFACT_CONVERSION_REQUESTED
        await change_artifact(session, artifact, artifact.state, kind, cause, format=form)


async def _may_be_had_again(session: AsyncSession, artifact: Artifact) -> bool:
    """Not where that has failed for good: only a person tries again. A token may have been replaced since."""
    refetch = await session.get(Refetch, artifact.id)
    if refetch is None or refetch.state is RefetchState.DONE:
        return True
    return bool(refetch.error and refetch.error["code"] == Code.CREDENTIAL_REVOKED)
