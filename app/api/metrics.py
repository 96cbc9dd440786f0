"""What Prometheus scrapes. All of it is in the database, so that any API process tells of all processes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.access.models import Client, Scope
from app.api.auth import Requires
from app.api.problems import ON_CALL, problems
from app.api.services import ServicesOf
from app.database.chores import ChoreTally, Waiting, tallies, waiting_jobs

router = APIRouter(tags=["health"])

MetricsReader = Annotated[Client, Depends(Requires(Scope.METRICS_READ))]


@dataclass(frozen=True, eq=False)
class Background(Collector):
    """Chores, which come around by the clock, and tasks, which were enqueued."""

    chores: Sequence[ChoreTally]
    waiting: Sequence[Waiting]

    def collect(self) -> Iterable[Metric]:
        runs = CounterMetricFamily(
            "asana_exports_chore_runs", "Chores done, by how they ended.", labels=["chore", "outcome"]
        )
        seconds = CounterMetricFamily(
            "asana_exports_chore_seconds", "Seconds that chores took.", labels=["chore"]
        )
        success = GaugeMetricFamily(
            "asana_exports_chore_last_success_timestamp_seconds",
            "When a chore last succeeded.",
            labels=["chore"],
        )
        for chore in self.chores:
            runs.add_metric([chore.name, "succeeded"], chore.succeeded)
            runs.add_metric([chore.name, "failed"], chore.failed)
            seconds.add_metric([chore.name], chore.seconds)
            if chore.last_succeeded_at:
                success.add_metric([chore.name], chore.last_succeeded_at.timestamp())
        jobs = GaugeMetricFamily(
            "asana_exports_jobs_waiting", "Background jobs that are due and not begun.", labels=["task"]
        )
        oldest = GaugeMetricFamily(
            "asana_exports_jobs_oldest_seconds", "Since when the oldest of them is due.", labels=["task"]
        )
        for waiting in self.waiting:
            jobs.add_metric([waiting.task], waiting.jobs)
            oldest.add_metric([waiting.task], waiting.oldest_seconds)
        return runs, seconds, success, jobs, oldest


@router.get("/metrics", response_class=PlainTextResponse, responses=problems(*ON_CALL))
async def get_metrics(
    client: MetricsReader,
    services: ServicesOf,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """What goes on in the background, in the text format of Prometheus."""
    async with services.sessions() as session:
        background = Background(await tallies(session), await waiting_jobs(session))
    told = CollectorRegistry()
    told.register(background)
    try:
        encode, media_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # A version that is no number.
        encode, media_type = choose_encoder("")
    return Response(encode(told), media_type=media_type)
