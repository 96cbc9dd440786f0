"""What a worker says of an error that has ended a piece of its work, which is tried again."""

import structlog
from procrastinate.exceptions import ConnectorException
from psycopg_pool import PoolTimeout

from app.artifacts.store import StoreFailed
from app.metrics import CRASHES
from app.worker.transactions import first_line, is_passing

# What others than the database's own driver raise when the database or the store does not answer.
OUTSIDE = (StoreFailed, ConnectorException, PoolTimeout)

log = structlog.get_logger()


def report(part: str, error: Exception, **what: object) -> None:
    """Log it: as a warning where the database or the store is away, and as a crash, with its traceback and
    counted, where it is a fault of our own code."""
    if isinstance(error, OUTSIDE) or is_passing(error):
        interrupted = f"{part}.interrupted"
        log.warning(interrupted, error=first_line(error), **what)
    else:
        CRASHES.labels(part).inc()
        crashed = f"{part}.crashed"
        log.error(crashed, exc_info=error, **what)
