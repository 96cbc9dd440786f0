"""What one process counts as it happens, in the names and base units of Prometheus.

No label grows with workspaces, clients or lanes. What is a state and no happening is read from the database
when it is asked for, in `app/exports/measures.py`.
"""

from collections.abc import Callable, Iterable

from prometheus_client import Counter, Histogram
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

NAMESPACE = "asana_exports"
# From seconds to days: exports take minutes, and wait for hours behind others.
LONG = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
# The last ones are the pauses between tries.
DELIVERY = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 300, 1800, 7200, 86_400)
# The last ones are those of callers that asked to wait.
ANSWER = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)

REQUESTS = Histogram(
    "request_seconds",
    "From a request until its answer begins, by route and HTTP status; `none` where no route fits.",
    ["route", "code"],
    namespace=NAMESPACE,
    buckets=ANSWER,
)
ACCEPTED = Counter("accepted", "Exports accepted.", ["kind"], namespace=NAMESPACE)
EXPORTS = Counter("exports", "Exports that have ended, by how.", ["kind", "status"], namespace=NAMESPACE)
QUEUE_WAIT = Histogram(
    "queue_wait_seconds",
    "From the acceptance of an export until Asana has taken its job.",
    ["kind"],
    namespace=NAMESPACE,
    buckets=LONG,
)
RUN = Histogram(
    "run_seconds",
    "From Asana's taking a job until its slot is free again.",
    ["kind"],
    namespace=NAMESPACE,
    buckets=LONG,
)
ARCHIVED_BYTES = Counter(
    "archive_bytes", "Bytes of files verified and kept, as Asana packed them.", namespace=NAMESPACE
)
UPSTREAM_RESPONSES = Counter(
    "upstream_responses",
    "Answers of Asana's API by HTTP status; `none` where no whole answer came.",
    ["code"],
    namespace=NAMESPACE,
)
SLOT_EXTERNAL = Counter(
    "slot_external_seconds",
    "Seconds that lanes waited since Asana refused their exports, pause by pause.",
    namespace=NAMESPACE,
)
SUBMIT_UNKNOWN = Counter("submit_unknown", "Starts at Asana whose answer was lost.", namespace=NAMESPACE)
FENCE_REJECTIONS = Counter(
    "fence_rejections",
    "Writes refused because a lane or a file was another worker's by then.",
    namespace=NAMESPACE,
)
LEASES_LOST = Counter(
    "leases_lost",
    "Leases that ran out while their worker lived, which begins anew then.",
    namespace=NAMESPACE,
)
CRASHES = Counter(
    "crashes",
    "Faults of our own code: what a worker does is tried again, a request is answered by 500.",
    ["part"],
    namespace=NAMESPACE,
)
WEBHOOK_DELIVERY = Histogram(
    "webhook_delivery_seconds",
    "From an event until its receiver has accepted it.",
    namespace=NAMESPACE,
    buckets=DELIVERY,
)
REPAIRS = Counter(
    "sweeper_repairs",
    "What was found amiss and mended; in health that is nothing.",
    ["what"],
    namespace=NAMESPACE,
)

# Told as 0 from the beginning: of what is told first as 1 nobody sees that it has risen.
for part in (
    "claim", "lane", "archive", "conversion", "refetch", "duty", "chore", "schedule", "task", "request"
):  # fmt: skip
    CRASHES.labels(part)
for what in ("lane", "file", "stray", "webhook"):
    REPAIRS.labels(what)

COUNTS = "counts"


def once_committed(session: AsyncSession, count: Callable[[], object]) -> None:
    """Count what a transaction does when it is committed, and not if it never is."""
    session.info.setdefault(COUNTS, []).append(count)


def count_start(kind: str, waits: Iterable[float]) -> None:
    """Asana has taken the job of exports that waited for so many seconds."""
    for seconds in waits:
        QUEUE_WAIT.labels(kind).observe(seconds)


@event.listens_for(Session, "after_commit")
def _count(session: Session) -> None:
    for count in session.info.pop(COUNTS, ()):
        count()


@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    session.info.pop(COUNTS, None)
