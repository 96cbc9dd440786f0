"""Pages by keyset: a token names the last item seen, so that nothing is skipped or told twice."""

import base64
import binascii
import re

from pydantic import BaseModel, ConfigDict, Field

from app.ids import ExportId
from app.problems import Code, ProblemError


class PageQuery(BaseModel):
    """The parameters of a list; one that it does not know is refused, lest a typing error list everything."""

    model_config = ConfigDict(extra="forbid")

    page_size: int = Field(50, ge=1, le=200, description="Most items on a page.")
    page_token: str | None = Field(None, description="`next_page_token` of the page before.")


EXPORT_ID = re.compile(r"exp_[0-9a-f]{32}")


def page_token(last: str) -> str:
    """A token for the page after this item."""
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def last_seen(token: str | None) -> ExportId | None:
    """The item that a token names. Raises `ProblemError` `bad-page-token`."""
    if token is None:
        return None
    try:
        last = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        last = ""
    if not EXPORT_ID.fullmatch(last):
        raise ProblemError(Code.BAD_PAGE_TOKEN, "The page token cannot be read.")
    return ExportId(last)
