"""What Prometheus is told."""

import httpx
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from app.access.models import Scope
from app.database.chores import tally
from tests.api.conftest import Api

DUE = text("""
    SELECT procrastinate_defer_jobs_v1(ARRAY[
        ROW('mail', 'mail', 0, NULL, NULL, '{}', now() - interval '90 s')::procrastinate_job_to_defer_v1,
        ROW('mail', 'mail', 0, NULL, NULL, '{}', now() + interval '1 day')::procrastinate_job_to_defer_v1])
""")


def samples(response: httpx.Response) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name.removeprefix("asana_exports_"), " ".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


async def test_chores_and_tasks_are_told_of(api: Api) -> None:
    async with api.sessions.begin() as session:
        await tally(session, "sweep", 0.5, None)
        await tally(session, "sweep", 1.5, None)
        await tally(session, "retire", 2.0, "StoreFailed: no answer")
        await session.execute(DUE)
    response = await (await api.caller(Scope.METRICS_READ)).get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    told = samples(response)
    assert told["chore_runs_total", "sweep succeeded"] == 2
    assert told["chore_runs_total", "retire failed"] == 1
    assert told["chore_seconds_total", "sweep"] == 2.0
    assert ("chore_last_success_timestamp_seconds", "retire") not in told
    assert told["jobs_waiting", "mail"] == 1
    assert 90 <= told["jobs_oldest_seconds", "mail"] < 120


async def test_openmetrics_is_told_to_who_asks_for_it(api: Api) -> None:
    caller = await api.caller(Scope.METRICS_READ)
    response = await caller.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
