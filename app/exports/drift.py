"""Schema drift: a result has other keys than the last one that was asked for in the same words.

A key that is missing is news only where there was room for it. Below an object that did not occur nothing is
missed: that nobody is assigned to any task is no change of the schema. And a result that has shrunk to less
than half may lack what few objects have.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.models import Artifact
from app.database.base import Json
from app.events.log import EventType, new_event, record_all
from app.exports.models import Export, Run
from app.exports.states import FINAL


@dataclass(frozen=True)
class Drift:
    """Key paths of one resource type that have come and gone."""

    resource_type: str
    added: list[str]
    removed: list[str]


@dataclass(frozen=True)
class Seen:
    """Of one result, by resource type: how many lines it has, and its key paths (None where too many)."""

    lines: Json
    paths: Json


def drifts(before: Seen, after: Seen) -> Iterator[Drift]:
    """What has changed in the types that both results have."""
    for kind in sorted(before.paths.keys() & after.paths.keys()):
        old, new = before.paths[kind], after.paths[kind]
        if old is None or new is None:
            continue
        shrunk = 2 * after.lines[kind] < before.lines[kind]
        drift = Drift(kind, _missing(new, old), [] if shrunk else _missing(old, new))
        if drift.added or drift.removed:
            yield drift


def _missing(paths: list[str], there: list[str]) -> list[str]:
    """The paths that are not there, though the objects occur of which they were keys."""
    known, objects = set(there), {_object_of(path) for path in there}
    return [path for path in paths if path not in known and _object_of(path) in objects]


def _object_of(path: str) -> str:
    return path.rpartition(".")[0]


async def tell_of_drift(session: AsyncSession, run: Run, artifact: Artifact, *, actor: str) -> None:
    """Write what has changed since the last result like this one into each of the run's exports' timelines.

    Alike are results of the same request, workspace and credential: another credential may see other objects.
    """
    last = (
        await session.execute(
            select(Run.id, Artifact.by_type, Artifact.key_paths)
            .join(Artifact, Artifact.run == Run.id)
            .where(
                Run.fingerprint == run.fingerprint,
                Run.id != run.id,
                Artifact.key_paths.is_not(None),
                Artifact.lines > 0,
            )
            .order_by(Run.id.desc())
            .limit(1)
        )
    ).one_or_none()
    if last is None or artifact.key_paths is None:
        return
    exports = (
        await session.scalars(select(Export.id).where(Export.run == run.id, Export.status.not_in(FINAL)))
    ).all()
    found = drifts(Seen(last.by_type, last.key_paths), Seen(artifact.by_type, artifact.key_paths))
    told = [
        new_event(
            EventType.SCHEMA_CHANGED,
            actor=actor,
            export=export,
            run=run.id,
            lane=run.lane,
            data={
                "resource_type": drift.resource_type,
                "added": drift.added,
                "removed": drift.removed,
                "previous_run": last.id,
            },
        )
        for drift in found
        for export in exports
    ]
    if told:
        await record_all(session, told)
