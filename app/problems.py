"""What can go wrong, by stable code. The same object answers a request and explains a failed export."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """Stable names of problems; callers decide by them, never by text."""

    VALIDATION_FAILED = "validation-failed"
    MALFORMED_JSON = "malformed-json"
    IDEMPOTENCY_KEY_INVALID = "idempotency-key-invalid"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    IDEMPOTENCY_IN_PROGRESS = "idempotency-in-progress"
    BAD_PAGE_TOKEN = "bad-page-token"  # noqa: S105
    UNAUTHENTICATED = "unauthenticated"
    SCOPE_MISSING = "scope-missing"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    CONFLICT = "conflict"
    BODY_TOO_LARGE = "body-too-large"
    REQUEST_TIMEOUT = "request-timeout"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    NOT_READY = "not-ready"
    NOT_CANCELABLE = "not-cancelable"
    NOT_RETRYABLE = "not-retryable"
    QUOTA_EXCEEDED = "quota-exceeded"
    TOO_MANY_REQUESTS = "too-many-requests"
    QUEUE_FULL = "queue-full"
    LANE_DRAINING = "lane-draining"
    ARTIFACT_EXPIRED = "artifact-expired"
    CURSOR_EXPIRED = "cursor-expired"
    ARTIFACT_MISSING = "artifact-missing"
    ARTIFACT_SHARED = "artifact-shared"
    LEGAL_HOLD = "legal-hold"
    STORE_UNAVAILABLE = "store-unavailable"
    PRECONDITION_FAILED = "precondition-failed"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable"
    DOWNLOAD_URL_REFUSED = "download-url-refused"
    ENDPOINT_DISABLED = "endpoint-disabled"
    SECRET_ROTATING = "secret-rotating"  # noqa: S105
    CREDENTIAL_REFUSED = "credential-refused"
    WORKSPACE_REFUSED = "workspace-refused"
    UPSTREAM_UNAVAILABLE = "upstream-unavailable"
    DATABASE_UNAVAILABLE = "database-unavailable"
    SHUTTING_DOWN = "shutting-down"
    INTERNAL_ERROR = "internal-error"

    UPSTREAM_FAILED = "upstream-failed"
    UPSTREAM_FORBIDDEN = "upstream-forbidden"
    UPSTREAM_REJECTED = "upstream-rejected"
    PARENT_NOT_IN_WORKSPACE = "parent-not-in-workspace"
    CREDENTIAL_REVOKED = "credential-revoked"
    UPSTREAM_JOB_LOST = "upstream-job-lost"
    UPSTREAM_ARTIFACT_EXPIRED = "upstream-artifact-expired"
    ARTIFACT_CORRUPT = "artifact-corrupt"
    ARTIFACT_CHANGED = "artifact-changed"
    ARTIFACT_TOO_LARGE = "artifact-too-large"
    DOWNLOAD_REFUSED = "download-refused"
    POISON = "poison"
    NOT_CONVERTIBLE = "not-convertible"
    CONVERSION_FAILED = "conversion-failed"
    RUN_TIMEOUT = "run-timeout"
    QUEUE_TTL_EXCEEDED = "queue-ttl-exceeded"


@dataclass(frozen=True)
class Explanation:
    """What a code means to whoever meets it: a title, and whose turn it is to do what."""

    title: str
    advice: str
    retryable: bool = False


EXPLANATIONS: dict[Code, Explanation] = {
    Code.VALIDATION_FAILED: Explanation(
        "The request has faults.",
        "Mend every fault under `errors`; each names its place by a JSON Pointer. Nothing was accepted.",
    ),
    Code.MALFORMED_JSON: Explanation(
        "The body is not JSON.", "Send one JSON object with `Content-Type: application/json`."
    ),
    Code.IDEMPOTENCY_KEY_INVALID: Explanation(
        "The Idempotency-Key cannot be used.", "Send 1 to 255 printable ASCII characters, or no key at all."
    ),
    Code.IDEMPOTENCY_KEY_REUSED: Explanation(
        "The Idempotency-Key was used before with another request.",
        "Use a new key for a new request. Nothing was accepted; what the earlier one made is untouched.",
    ),
    Code.IDEMPOTENCY_IN_PROGRESS: Explanation(
        "A request with the same Idempotency-Key is still being worked on.",
        "Send the same request again after `Retry-After` seconds.",
        retryable=True,
    ),
    Code.BAD_PAGE_TOKEN: Explanation(
        "The page token is not one of ours.",
        "Take `next_page_token` from the last answer, or start anew without.",
    ),
    Code.UNAUTHENTICATED: Explanation(
        "No valid API key came with the request.",
        "Send `Authorization: Bearer <API key>`. Keys are made by `asana-exports keys create`.",
    ),
    Code.SCOPE_MISSING: Explanation(
        "The API key lacks the scope this call needs.", "Ask an administrator for a key with the scope named."
    ),
    Code.NOT_FOUND: Explanation(
        "There is no such thing, or it is not yours to see.",
        "Check the id. A workspace must be registered, and the key needs a grant for it.",
    ),
    Code.METHOD_NOT_ALLOWED: Explanation(
        "The resource does not know this method.", "The `Allow` header names the methods it knows."
    ),
    Code.CONFLICT: Explanation(
        "There is such a thing already.", "Choose another name, or change what is there."
    ),
    Code.BODY_TOO_LARGE: Explanation(
        "The body is larger than this service reads.", "Send at most 1 MiB; nothing was accepted."
    ),
    Code.REQUEST_TIMEOUT: Explanation(
        "The body did not arrive in time.", "Send the request again; nothing was accepted.", retryable=True
    ),
    Code.UNSUPPORTED_MEDIA_TYPE: Explanation(
        "The body is not sent as JSON.", "Send it with `Content-Type: application/json`."
    ),
    Code.NOT_READY: Explanation(
        "The export has no file yet.", "Wait until its status is `succeeded`.", retryable=True
    ),
    Code.NOT_CANCELABLE: Explanation(
        "The export can no longer be canceled.", "It has ended; its status tells how."
    ),
    Code.NOT_RETRYABLE: Explanation(
        "The export has not ended yet.", "Wait for its end, or cancel it first.", retryable=True
    ),
    Code.QUOTA_EXCEEDED: Explanation(
        "A quota of yours is used up.",
        "`detail` names it. Wait until some of your exports have started or expired, or cancel some; an "
        "administrator may raise it. Nothing was accepted.",
        retryable=True,
    ),
    Code.TOO_MANY_REQUESTS: Explanation(
        "You send requests faster than you may.",
        "Send the request again after `Retry-After` seconds.",
        retryable=True,
    ),
    Code.QUEUE_FULL: Explanation(
        "Too many exports of this workspace wait already.",
        "Send the request again after `Retry-After` seconds. Nothing was accepted.",
        retryable=True,
    ),
    Code.LANE_DRAINING: Explanation(
        "An administrator lets this workspace's queue run empty.",
        "Nothing was accepted. Ask when it takes exports again.",
        retryable=True,
    ),
    Code.ARTIFACT_EXPIRED: Explanation(
        "The file is no longer kept.", "It has expired, or was deleted. Ask for a new export."
    ),
    Code.CURSOR_EXPIRED: Explanation(
        "There are events after this cursor that are no longer kept.",
        "Some may have been missed. Read the present state of what you follow (`GET /v1/exports`), and go on "
        "from `after=latest`, or from the oldest event without `after`.",
    ),
    Code.ARTIFACT_MISSING: Explanation(
        "The file is not as this service has put it there.",
        "It is fetched from Asana again within hours if Asana still has it, or at once by "
        "`POST /v1/artifacts/{id}/refetch`. An administrator checks the store (is the right folder "
        "mounted?). Else ask for a new export.",
    ),
    Code.ARTIFACT_SHARED: Explanation(
        "The file belongs to exports of other clients, too.",
        "It goes when its time is over, at `expires_at`; before that an administrator may delete it.",
    ),
    Code.LEGAL_HOLD: Explanation(
        "The file is held: it must not be deleted.",
        "An administrator knows why, and may end it by `DELETE /v1/artifacts/{id}/hold`.",
    ),
    Code.STORE_UNAVAILABLE: Explanation(
        "The store of files cannot be reached.",
        "Send the request again after `Retry-After` seconds.",
        retryable=True,
    ),
    Code.PRECONDITION_FAILED: Explanation(
        "It is not in the state your condition names.",
        "Compare the `ETag` you sent with the one it has now.",
    ),
    Code.RANGE_NOT_SATISFIABLE: Explanation(
        "The file has no such part.",
        "`Content-Range` tells how many bytes it has. Where you have them all already, it is whole.",
    ),
    Code.SECRET_ROTATING: Explanation(
        "The secret was rotated less than a day ago.",
        "Another rotation would end the secret before the present one, by which your receiver may still "
        "verify. Wait until the time in `detail`, or send `force`. Nothing was changed.",
    ),
    Code.DOWNLOAD_URL_REFUSED: Explanation(
        "The download URL is not, or no longer, valid.",
        "Get the job again: it has a fresh one, valid for an hour. Take it as it is, `signature` and all.",
    ),
    Code.ENDPOINT_DISABLED: Explanation(
        "The webhook endpoint is disabled.",
        "`disabled_because` of the endpoint tells why. Enable it first, by `PATCH` with "
        '`{"disabled": false}`.',
    ),
    Code.CREDENTIAL_REFUSED: Explanation(
        "Asana does not accept this token.", "Check that the token is whole and has not been revoked."
    ),
    Code.WORKSPACE_REFUSED: Explanation(
        "The credential does not open this workspace.",
        "Check the gid, and that the token's user or service account belongs to the workspace.",
    ),
    Code.UPSTREAM_UNAVAILABLE: Explanation(
        "Asana cannot answer now.", "Nothing was changed. Send the request again later.", retryable=True
    ),
    Code.DATABASE_UNAVAILABLE: Explanation(
        "The service cannot reach its database.",
        "Send the request again after `Retry-After` seconds, with its `Idempotency-Key`: it may have been "
        "accepted, and only the answer was lost.",
        retryable=True,
    ),
    Code.SHUTTING_DOWN: Explanation(
        "The process that had your request was told to stop before it was done.",
        "Send the request again after `Retry-After` seconds, with its `Idempotency-Key`: another process has "
        "the service then, and it may have been accepted already.",
        retryable=True,
    ),
    Code.INTERNAL_ERROR: Explanation(
        "The service made a mistake.",
        "Report the `request_id`. Sending the request again may help.",
        retryable=True,
    ),
    Code.UPSTREAM_FAILED: Explanation(
        "Asana reported the export as failed.",
        "Asana gives no reason. It was tried several times; a narrower request may succeed.",
        retryable=True,
    ),
    Code.UPSTREAM_FORBIDDEN: Explanation(
        "Asana refuses this export to the credential.",
        "Resource exports need a service account, and the organization's plan must include exports.",
    ),
    Code.UPSTREAM_REJECTED: Explanation(
        "Asana rejected the request.",
        "`detail` holds Asana's own words. Mend the request and send a new one.",
    ),
    Code.PARENT_NOT_IN_WORKSPACE: Explanation(
        "The parent of the graph export is not in the workspace that was named.",
        "Name the workspace that the goal, project, portfolio or team is in.",
    ),
    Code.CREDENTIAL_REVOKED: Explanation(
        "Asana no longer accepts the workspace's token.",
        "An administrator stores a valid token in the credential; then ask for a new export.",
    ),
    Code.UPSTREAM_JOB_LOST: Explanation(
        "Asana no longer knows the job.", "It was tried several times. Ask for a new export.", retryable=True
    ),
    Code.UPSTREAM_ARTIFACT_EXPIRED: Explanation(
        "Asana no longer has the file.",
        "Asana keeps a file for 30 days. Ask for a new export.",
        retryable=True,
    ),
    Code.ARTIFACT_CORRUPT: Explanation(
        "The file from Asana is damaged.",
        "It was fetched several times and never passed verification. Ask for a new export.",
        retryable=True,
    ),
    Code.ARTIFACT_CHANGED: Explanation(
        "Asana's file is not the one that was archived.",
        "Nothing was replaced. An administrator puts the file back from a backup; or ask for a new export.",
    ),
    Code.ARTIFACT_TOO_LARGE: Explanation(
        "The file from Asana exceeds a limit of this service.",
        "`detail` names the limit; an administrator may raise it, or the request be made narrower.",
    ),
    Code.DOWNLOAD_REFUSED: Explanation(
        "Asana named a download address that this service does not trust.",
        "An administrator adds the host to `ASANA_EXPORTS_DOWNLOAD_HOSTS` if it is Asana's.",
    ),
    Code.POISON: Explanation(
        "Three workers have vanished while they fetched the file.",
        "An administrator finds the cause in what the workers' hosts tell (most often: out of memory). "
        "Ask for a narrower export, or again if they were killed for another reason.",
    ),
    Code.NOT_CONVERTIBLE: Explanation(
        "The file cannot be made into this format.",
        "`detail` tells why. The original stays as it is; another format may do, or a narrower export.",
    ),
    Code.CONVERSION_FAILED: Explanation(
        "The file was not made into this format.",
        "It was tried three times, and each time something broke; what the workers log tells more. The "
        "original stays as it is. Ask for it again, or report it.",
        retryable=True,
    ),
    Code.RUN_TIMEOUT: Explanation(
        "The job was in progress at Asana for too long.",
        "It was given up. Ask for a new export.",
        retryable=True,
    ),
    Code.QUEUE_TTL_EXCEEDED: Explanation(
        "The export did not start within its `queue_ttl`.",
        "Ask again with a longer one, a higher priority, or none.",
        retryable=True,
    ),
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a request, and where: a JSON Pointer (RFC 6901) into the body."""

    pointer: str
    detail: str


@dataclass(frozen=True)
class Problem:
    """One occurrence of a problem."""

    code: Code
    detail: str
    faults: tuple[Fault, ...] = field(default=())

    def as_error(self) -> dict[str, Any]:
        """The form kept with a failed export: a problem document without the parts that belong to HTTP."""
        explanation = EXPLANATIONS[self.code]
        return {
            "type": f"/problems/{self.code}",
            "title": explanation.title,
            "detail": self.detail,
            "code": str(self.code),
            "retryable": explanation.retryable,
            "errors": [{"pointer": fault.pointer, "detail": fault.detail} for fault in self.faults],
        }


class ProblemError(Exception):
    """Raised by the domain where a request cannot be met."""

    def __init__(
        self,
        code: Code,
        detail: str,
        faults: tuple[Fault, ...] = (),
        *,
        retry_after: int | None = None,
        size: int | None = None,
    ) -> None:
        """`size` is how many bytes there are, where a part beyond them was asked for."""
        super().__init__(f"{code}: {detail}")
        self.problem = Problem(code, detail, faults)
        self.retry_after = retry_after
        self.size = size
