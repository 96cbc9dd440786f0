"""Who goes next in a lane: the one definition, used for choosing and for telling a position."""

from typing import Any

from sqlalchemy import ColumnElement, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from app.exports.models import Run, Status


def queue_order() -> tuple[InstrumentedAttribute[Any], ...]:
    """Class first, then the place taken when the run was accepted."""
    return (Run.rank, Run.queued_at, Run.id)


def ahead_of(run: Run) -> ColumnElement[bool]:
    """Queued runs of the lane that go before a queued run."""
    return (
        (Run.lane == run.lane)
        & (Run.status == Status.QUEUED)
        & (tuple_(*queue_order()) < tuple_(run.rank, run.queued_at, run.id))
    )
