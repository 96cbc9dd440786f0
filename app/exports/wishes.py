"""How an export is to be treated here; nothing of it is sent to Asana."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from app.access.models import Priority

MONTH = 30 * 86_400

Label = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^:\x00]+$")]
Labels = Annotated[
    dict[Label, Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]],
    Field(default_factory=dict, max_length=20, description="Yours to find exports by; not sent to Asana."),
]


class Wishes(BaseModel):
    """What callers can say of an export beside what it holds."""

    priority: Priority = Field(
        Priority.NORMAL,
        description="Higher ones go first in the workspace's queue; a started export is never interrupted.",
    )
    labels: Labels
    max_age: int = Field(
        0,
        strict=True,
        ge=0,
        le=MONTH,
        description="Seconds that the data may be old: a run that Asana began so recently, of the same "
        "request by the same credential, is shared instead of made again. 0 shares only what has not begun.",
    )
    queue_ttl: int | None = Field(
        None, strict=True, ge=10, le=MONTH, description="Seconds after which it fails if it has not started."
    )
