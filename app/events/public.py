"""The events that are told to others over HTTP."""

from enum import StrEnum


class PublicType(StrEnum):
    """What a webhook may tell of.

    Of an export: `export.created`, `export.started` at Asana, `export.at_risk` of missing its deadline,
    `export.succeeded`, `export.failed`, `export.canceled`. Of its file: `artifact.expiring` soon,
    `artifact.expired`. Of the queue of a workspace: `lane.blocked` by somebody outside, `lane.unblocked`,
    `lane.paused` by an administrator, `lane.resumed`. To administrators: `credential.invalid`, for Asana no
    longer accepts the token. Of a schedule: `schedule.skipped`, one of its exports was not asked for.
    """

    EXPORT_CREATED = "export.created"
    EXPORT_STARTED = "export.started"
    EXPORT_AT_RISK = "export.at_risk"
    EXPORT_SUCCEEDED = "export.succeeded"
    EXPORT_FAILED = "export.failed"
    EXPORT_CANCELED = "export.canceled"
    ARTIFACT_EXPIRING = "artifact.expiring"
    ARTIFACT_EXPIRED = "artifact.expired"
    LANE_BLOCKED = "lane.blocked"
    LANE_UNBLOCKED = "lane.unblocked"
    LANE_PAUSED = "lane.paused"
    LANE_RESUMED = "lane.resumed"
    CREDENTIAL_INVALID = "credential.invalid"
    SCHEDULE_SKIPPED = "schedule.skipped"


PUBLIC = frozenset(map(str, PublicType))
