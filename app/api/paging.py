"""Pages by keyset: a token names the last item seen, so that nothing is skipped or told twice."""

import re

from pydantic import BaseModel, ConfigDict, Field

from app.ids import ExportId
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


def page_token(last: ExportId) -> str:
    """A token for the page after this export."""
    return last.removeprefix("exp_")


def last_seen(token: str | None) -> ExportId | None:
    """The export that a token names. Raises `ProblemError` `bad-page-token`."""
    if token is None:
        return None
    if not re.fullmatch(FORM, token):
        raise ProblemError(Code.BAD_PAGE_TOKEN, "The page token cannot be read.")
    return ExportId(f"exp_{token}")
