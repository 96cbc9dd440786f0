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


async def test_requests_are_counted_by_route_and_answer(api: Api) -> None:
    caller = await api.caller(Scope.METRICS_READ, Scope.EXPORTS_READ)

    async def counted() -> dict[tuple[str, str], float]:
        told = samples(await caller.get("/metrics"))
        return {key: told.get(key, 0.0) for key in asked}

    asked = {
        ("request_seconds_count", "404 /v1/exports/{export_id}"): 3,
        ("request_seconds_count", "404 /api/1.0/jobs/{job_gid}"): 1,
        ("request_seconds_count", "500 /v1/exports"): 1,
        ("request_seconds_count", "404 none"): 1,
        ("crashes_total", "request"): 1,
    }
    before = await counted()
    for number in range(2):
        await caller.get(f"/v1/exports/exp_{number:032d}")
    await caller.head(f"/v1/exports/exp_{0:032d}")
    await caller.get("/api/1.0//jobs/1")
    await caller.get("/nowhere")
    async with api.sessions.begin() as session:
        await session.execute(text("ALTER TABLE exports RENAME labels TO lost"))
    await caller.get("/v1/exports")
    async with api.sessions.begin() as session:
        await session.execute(text("ALTER TABLE exports RENAME lost TO labels"))
    after = await counted()
    assert {key: after[key] - before[key] for key in asked} == asked
