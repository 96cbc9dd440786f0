"""The ways Asana says no."""

from itertools import count

HELP = (
    "For more information on API status codes and how to handle them, "
    "read the docs on errors: https://developers.asana.com/docs/errors"
)
MESSAGES = {
    400: "Bad Request",
    401: "Not Authorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    429: "You've made too many requests and hit a rate limit. Please retry after the given amount of time.",
    451: "Unavailable For Legal Reasons",
    500: "Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_phrases = count(1)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str | None = None, retry_after: float | None = None) -> None:
        self.status = status
        self.message = message or MESSAGES.get(status, "Error")
        self.retry_after = retry_after
        super().__init__(f"{status} {self.message}")

    def body(self) -> dict[str, object]:
        """The error in Asana's envelope; only a 500 has a phrase to quote to the support."""
        error = {"message": self.message, "help": HELP}
        if self.status == 500:
            error["phrase"] = f"{next(_phrases)} sad squid snuggle softly"
        return {"errors": [error]}

    def headers(self) -> dict[str, str]:
        """The headers that go with the error."""
        return {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}


def missing(field: str) -> Refused:
    """Something required was not given."""
    return Refused(400, f"{field}: Missing input")


def unknown(field: str, gid: str) -> Refused:
    """There is no such thing, or none that this token may see."""
    return Refused(404, f"{field}: Unknown object: {gid}")


def forbidden(field: str) -> Refused:
    """It exists, but this token may not."""
    return Refused(403, f"{field}: Forbidden")
