"""Pages by keyset: a token names the last item seen, so that nothing is skipped or told twice."""

import re

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.ids import EventId, ExportId
from app.problems import Code, ProblemError

FORM = r"^[0-9a-f]{32}$"


class PageQuery(BaseModel):
    """The parameters of a list; one that it does not know is refused, lest a typing error list everything."""

    model_config = ConfigDict(extra="forbid")

    page_size: int = Field(50, ge=1, le=200, description="Most items on a page.")
    page_token: str | None = Field(
        None,
        description="`next_page_token` of the page before.",
        json_schema_extra={"anyOf": [{"type": "string", "pattern": FORM}, {"type": "null"}]},
    )


def page_token(last: ExportId | EventId) -> str:
    """A token for the page after this one."""
    return last.partition("_")[2]


def last_seen(token: str | None) -> ExportId | None:
    """The export that a token names. Raises `ProblemError` `bad-page-token`."""
    return None if token is None else ExportId(f"exp_{_read(token)}")


def last_event_seen(token: str | None) -> EventId | None:
    """The event that a token names. Raises `ProblemError` `bad-page-token`."""
    return None if token is None else EventId(f"evt_{_read(token)}")


def name_next_page(request: Request, response: Response, token: str | None) -> None:
    """Say in `Link` (RFC 8288) where the next page is, if there is one."""
    if token:
        address = request.url.include_query_params(page_token=token)
        response.headers["Link"] = f'<{address.path}?{address.query}>; rel="next"'


def _read(token: str) -> str:
    if not re.fullmatch(FORM, token):
        raise ProblemError(Code.BAD_PAGE_TOKEN, "The page token cannot be read.")
    return token
