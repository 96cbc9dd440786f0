"""Names of things: a prefix that says what it is, and a UUIDv7 (RFC 9562) that sorts by time of making."""

from secrets import randbits
from typing import NewType

from uuid_utils import uuid7

ExportId = NewType("ExportId", str)
RunId = NewType("RunId", str)
ArtifactId = NewType("ArtifactId", str)
OutputId = NewType("OutputId", str)
EventId = NewType("EventId", str)
CredentialId = NewType("CredentialId", str)
ClientId = NewType("ClientId", str)
ScheduleId = NewType("ScheduleId", str)
WorkerId = NewType("WorkerId", str)
EndpointId = NewType("EndpointId", str)
LaneKey = NewType("LaneKey", str)

# Of whatever Asana names.
GID = r"^[0-9]{1,20}$"


def new_export_id() -> ExportId:
    return ExportId(f"exp_{uuid7().hex}")


def new_run_id() -> RunId:
    return RunId(f"run_{uuid7().hex}")


def new_artifact_id() -> ArtifactId:
    return ArtifactId(f"art_{uuid7().hex}")


def new_output_id() -> OutputId:
    return OutputId(f"out_{uuid7().hex}")


def new_event_id() -> EventId:
    return EventId(f"evt_{uuid7().hex}")


def new_credential_id() -> CredentialId:
    return CredentialId(f"cred_{uuid7().hex}")


def new_client_id() -> ClientId:
    return ClientId(f"cli_{uuid7().hex}")


def new_schedule_id() -> ScheduleId:
    return ScheduleId(f"sch_{uuid7().hex}")


def new_endpoint_id() -> EndpointId:
    return EndpointId(f"whe_{uuid7().hex}")


def new_worker_id() -> WorkerId:
    return WorkerId(f"wrk_{uuid7().hex}")


def new_job_gid() -> int:
    """An even number of 19 digits that fits 64 bits with a sign.

    By chance: counted on from a restored backup, one that a caller still has would come to name another job.
    """
    return 2 * (2**61 + randbits(61))
