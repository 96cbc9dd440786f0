"""What has come of an export, for those who want its file."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.signing import signing_key
from app.access.vault import Vault
from app.artifacts.manifest import Manifest, Origin, Span, Upstream, manifest_of
from app.artifacts.models import KEPT, Artifact, OutputFile
from app.artifacts.receipt import facts_of, signed
from app.database.base import NO_KEY_UPDATE
from app.exports.models import Run
from app.exports.reading import ExportView
from app.problems import Code, ProblemError


async def manifest_for(session: AsyncSession, view: ExportView) -> Manifest:
    """The manifest of an ended export. Raises `ProblemError` when it has no file, or has none any more."""
    artifact = artifact_of(view)
    if view.artifact_state not in KEPT:
        raise ProblemError(Code.ARTIFACT_EXPIRED, f"The file of export {view.export.id} is no longer kept.")
    await session.refresh(artifact, ["key_paths"])
    made = select(OutputFile).where(OutputFile.artifact == artifact.id)
    files = await session.scalars(made.order_by(OutputFile.format, OutputFile.resource_type))
    return manifest_of(artifact, _origin(view.run), files)


async def receipt_for(session: AsyncSession, vault: Vault, view: ExportView) -> str:
    """The receipt of the file of an ended export, also when the file is no longer kept.

    It is signed when it is first asked for, and kept: what a receipt says, and by which key, never changes.
    Raises `ProblemError` when there was no file.
    """
    artifact = artifact_of(view)
    await session.refresh(artifact, ["key_paths", "receipt"], with_for_update=NO_KEY_UPDATE)
    if artifact.receipt is None:
        facts = facts_of(artifact, _origin(view.run))
        artifact.receipt = signed(facts, await signing_key(session, vault))
        await session.flush()
    return artifact.receipt


def artifact_of(view: ExportView) -> Artifact:
    """The artifact of an ended export. Raises `ProblemError` `not-found` where it ended without."""
    if view.artifact is None:
        raise ProblemError(
            Code.NOT_FOUND, f"The export was {view.export.status}: there never will be a file."
        )
    return view.artifact


def _origin(run: Run) -> Origin:
    return Origin(
        request=run.request,
        # Asana may have answered from a cache, as of when it says itself.
        transaction_time=run.data_from or run.submitted_at,
        data_as_of=Span(run.data_from, run.data_to),
        upstream=Upstream(run.asana_job, run.asana_export),
    )
