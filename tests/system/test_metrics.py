"""What Prometheus reads of real processes while exports go through them."""

import socket

import httpx
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from app.exports.models import Export
from app.sandbox.faults import Call, FaultKind
from tests.processes import until
from tests.system.conftest import Service
from tests.system.exports import assert_verified

Samples = dict[tuple[str, ...], float]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def told(by: httpx.AsyncClient) -> Samples:
    response = await by.get("/metrics")
    assert response.status_code == 200, response.text
    return {
        (sample.name.removeprefix("asana_exports_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_processes_count_what_they_do(service: Service) -> None:
    """An export through a taken slot and a lost answer, to its file."""
    port = free_port()
    service.sandbox.hold_slot("1001")
    api, worker = service.api(), service.worker(METRICS_PORT=str(port))
    async with httpx.AsyncClient(base_url=await api.address()) as tool:
        tool.headers["Authorization"] = f"Bearer {service.tenants['1001'].key}"
        body = {"workspace": "1001", "export_request_parameters": [{"resource_type": "task"}]}
        accepted = await tool.post("/v1/exports/resource", json=body)
        assert accepted.status_code == 202, accepted.text
        await worker.said("run.submit_forbidden")
        standing = await told(tool)
    assert standing["accepted_total", "resource"] == standing["workers",] == 1
    assert sum(count for name, count in standing.items() if name[0] == "lane_state") == 1

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as prometheus:

        async def external() -> float:
            return (await told(prometheus))["slot_external_seconds_total",]

        await until(external, 20, worker.output)
        service.sandbox.add_fault(Call.RESOURCE, FaultKind.DROP_AFTER)
        service.sandbox.release_slot("1001")
        async with service.sessions() as session:
            export = (await session.scalars(select(Export))).one()
        (done,) = await service.finished(export)
        artifact = await assert_verified(service, done)
        seen = await told(prometheus)
        # Nothing of it tells whose exports they were.
        assert "1001" not in (await prometheus.get("/metrics")).text
    assert seen["exports_total", "resource", "succeeded"] == 1
    assert seen["queue_wait_seconds_count", "resource"] == seen["run_seconds_count", "resource"] == 1
    assert seen["archive_bytes_total",] == artifact.bytes
    assert min(seen["upstream_responses_total", code] for code in ("none", "403", "200")) >= 1
    assert seen["upstream_responses_total", "201"] == 1
    assert seen["submit_unknown_total",] == 1
    assert seen["fence_rejections_total",] == 0


async def test_a_port_that_is_taken_is_told(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = service.worker(METRICS_PORT=str(listener.getsockname()[1]))
        assert await worker.ended() == 1
    assert "METRICS_PORT" in worker.output()
