"""Who goes next in a lane: the one definition, used for choosing and for telling a position."""

from typing import Any

from sqlalchemy import ScalarSelect, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.exports.models import Run, Status


def queue_order(run: type[Run] = Run) -> tuple[InstrumentedAttribute[Any], ...]:
    """Class first, then the place taken when the run was accepted."""
    return (run.rank, run.queued_at, run.id)


def count_ahead() -> ScalarSelect[int]:
    """How many queued runs of the lane go before the `Run` of the enclosing statement."""
    other = aliased(Run)
    return (
        select(func.count())
        .where(
            other.lane == Run.lane,
            other.status == Status.QUEUED,
            tuple_(*queue_order(other)) < tuple_(*queue_order()),
        )
        .correlate(Run)
        .scalar_subquery()
    )
