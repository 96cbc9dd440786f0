"""What is told of a finished export: its files, and what is known of them.

Names follow the manifest of FHIR Bulk Data, where that has them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import rfc8785

from app.artifacts.models import Artifact, OutputFile


@dataclass(frozen=True)
class Span:
    """Between which moments Asana read the objects."""

    since: datetime | None
    to: datetime | None


@dataclass(frozen=True)
class Upstream:
    """Gids at Asana."""

    job: str | None
    export: str | None


@dataclass(frozen=True)
class Origin:
    """Where the content of a file comes from; nothing that changed after `transaction_time` need be in it."""

    request: dict[str, Any]
    transaction_time: datetime | None
    data_as_of: Span
    upstream: Upstream


@dataclass(frozen=True)
class Output:
    """One way to have the content, with the resource type of all that is in it, if it is one."""

    type: str | None
    url: str
    count: int
    bytes: int
    uncompressed_bytes: int | None
    sha256: str
    media_type: str


@dataclass(frozen=True)
class Totals:
    """Over the whole content."""

    lines: int
    by_type: dict[str, int]
    duplicate_gids: int | None


@dataclass(frozen=True)
class Schema:
    """The keys of one resource type; both are None where there were too many to keep."""

    fingerprint: str | None
    paths: list[str] | None


@dataclass(frozen=True)
class Manifest:
    """All of it."""

    transaction_time: datetime | None
    request: dict[str, Any]
    requires_access_token: bool
    output: list[Output]
    deleted: list[Output]
    data_as_of: Span
    totals: Totals
    schemas: dict[str, Schema] | None
    upstream: Upstream
    expires_at: datetime


def manifest_of(artifact: Artifact, origin: Origin, made: Iterable[OutputFile] = ()) -> Manifest:
    """The manifest of an artifact whose `key_paths` are loaded, and of what was made of its file."""
    return Manifest(
        transaction_time=origin.transaction_time,
        request=origin.request,
        requires_access_token=True,
        output=[_stored(artifact), *map(_made, made)],
        deleted=[],
        data_as_of=origin.data_as_of,
        totals=Totals(artifact.lines, artifact.by_type, artifact.duplicate_gids),
        schemas=schemas_of(artifact),
        upstream=origin.upstream,
        expires_at=artifact.expires_at,
    )


def _stored(artifact: Artifact) -> Output:
    types = list(artifact.by_type)
    return Output(
        type=types[0] if len(types) == 1 else None,
        url=artifact.content_path,
        count=artifact.lines,
        bytes=artifact.bytes,
        uncompressed_bytes=artifact.uncompressed_bytes,
        sha256=artifact.sha256,
        media_type=artifact.media_type,
    )


def _made(file: OutputFile) -> Output:
    return Output(
        type=file.resource_type,
        url=file.content_path,
        count=file.rows,
        bytes=file.bytes,
        uncompressed_bytes=None,
        sha256=file.sha256,
        media_type=file.media_type,
    )


def schemas_of(artifact: Artifact) -> dict[str, Schema] | None:
    """The keys by resource type; None for a file that was archived before they were looked at."""
    if artifact.key_paths is None:
        return None
    return {kind: Schema(fingerprint(paths), paths) for kind, paths in sorted(artifact.key_paths.items())}


def fingerprint(paths: list[str] | None) -> str | None:
    """SHA-256 of the canonical form (RFC 8785) of the sorted paths."""
    return None if paths is None else sha256(rfc8785.dumps(sorted(paths))).hexdigest()
