"""What Prometheus scrapes: how all of the service stands, and what this process has counted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.access.models import Client, Scope
from app.api.auth import Requires
from app.api.problems import ON_CALL, problems
from app.api.services import ServicesOf
from app.database.chores import ChoreTally, Waiting, tallies, waiting_jobs
from app.exports.measures import Measures, measures
from app.metrics import NAMESPACE

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
        jobs = _by(
            "jobs_waiting",
            "Background jobs that are due and not begun.",
            "task",
            {waiting.task: waiting.jobs for waiting in self.waiting},
        )
        oldest = _by(
            "jobs_oldest_seconds",
            "For how many seconds the oldest of them has been due.",
            "task",
            {waiting.task: waiting.oldest_seconds for waiting in self.waiting},
        )
        return runs, seconds, success, jobs, oldest


@dataclass(frozen=True, eq=False)
class Standing(Collector):
    """How the service stands, whichever process is asked."""

    now: Measures

    def collect(self) -> Iterable[Metric]:
        yield _gauge("workers", "Workers with a lease.", self.now.workers)
        yield _gauge("queued_runs", "Runs that wait for their lane's slot.", self.now.queued)
        yield _gauge(
            "queue_oldest_seconds",
            "For how long the oldest of them has waited.",
            self.now.queue_oldest_seconds,
        )
        yield _gauge(
            "slot_idle_seconds",
            "For how long a lane with work could have been served, and no worker has taken it.",
            self.now.slot_idle_seconds,
        )
        yield _by("lane_state", "Lanes, by what they do or wait for.", "state", self.now.lanes)
        yield _by(
            "attention_items",
            "What needs attention and was not acknowledged.",
            "kind",
            self.now.attention,
        )
        if self.now.eta_p90_hit_ratio is not None:
            yield _gauge(
                "eta_p90_hit_ratio",
                "Of the latest runs, the share that was done by the moment promised with 90 percent.",
                self.now.eta_p90_hit_ratio,
            )


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", about, value=value)


def _by(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", about, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family


@router.get("/metrics", response_class=PlainTextResponse, responses=problems(*ON_CALL))
async def get_metrics(
    client: MetricsReader,
    services: ServicesOf,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """How the service stands, and what this process has counted since it began, in the text format of
    Prometheus. What workers have counted they tell themselves, on their `METRICS_PORT`.
    """
    async with services.sessions() as session:
        background = Background(await tallies(session), await waiting_jobs(session))
        standing = Standing(await measures(session, services.settings.attention_seconds))
    told = CollectorRegistry()
    for collector in (REGISTRY, standing, background):
        told.register(collector)
    try:
        encode, media_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # A version that is no number.
        encode, media_type = choose_encoder("")
    return Response(encode(told), media_type=media_type)
