"""What can come of a call, told apart by what the caller may conclude from it."""


class AsanaError(Exception):
    """A call did not give what it was for; the message holds Asana's own words where there are any."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message if status is None else f"{status} {message}")
        self.status = status


class NotAuthorized(AsanaError):
    """401: the token is not, or no longer, valid."""


class PlanRequired(AsanaError):
    """402 or 451: the plan lacks the feature, or the law forbids the call."""


class Forbidden(AsanaError):
    """403: no access, or, on starting a resource export, another one of the workspace in progress."""


class NotFound(AsanaError):
    """404 on reading: there is no such object for this token."""


class Refused(AsanaError):
    """Any other 4xx: the request itself is at fault, and will be tomorrow."""


class RateLimited(AsanaError):
    """429: no call of this token for `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, status=429)
        self.retry_after = retry_after


class Unavailable(AsanaError):
    """The call was surely not carried out, or only wanted to read: it may be made again."""


class OutcomeUnknown(AsanaError):
    """A call that starts something may or may not have been carried out: the answer was lost or is a 5xx."""
