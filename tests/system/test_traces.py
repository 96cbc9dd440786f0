"""One trace leads from the caller's request through both processes, and each change leaves a line."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import select

from app.exports.models import Export
from tests.leaks import leaks
from tests.processes import Process, until
from tests.servers import Server, always, answer, serving
from tests.system.conftest import Service
from tests.system.exports import assert_verified

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass(frozen=True)
class Step:
    """A span that a collector has got."""

    part: str
    trace: str
    name: str
    facts: dict[str, str]


def steps(collector: Server) -> Iterator[Step]:
    for request in collector.requests:
        assert not leaks(request.body.decode(errors="replace"))
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            part = names["service.name"].removeprefix("asana-exports-")
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                facts = {each.key: each.value.string_value for each in span.attributes}
                yield Step(part, span.trace_id.hex(), span.name, facts)


def whole_trace(collector: Server) -> set[tuple[str, str]]:
    return {(step.part, step.name) for step in steps(collector) if step.trace == TRACE}


WHOLE = {
    ("api", "POST /v1/exports/resource"),
    ("worker", "queued"),
    ("worker", "run"),
    ("worker", "POST /exports"),
    ("worker", "GET /jobs"),
    ("worker", "archive"),
    ("worker", "publish"),
}


@pytest.fixture
async def collector() -> AsyncIterator[Server]:
    async with serving(always(answer(200))) as server:
        yield server


async def test_a_trace_leads_from_the_request_to_the_store(service: Service, collector: Server) -> None:
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    api, worker = service.api(traced), service.worker(traced)
    async with httpx.AsyncClient(base_url=await api.address(), trust_env=False) as tool:
        tool.headers["Authorization"] = f"Bearer {service.tenants['1001'].key}"
        body = {"workspace": "1001", "export_request_parameters": [{"resource_type": "task"}]}
        sent = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        accepted = await tool.post("/v1/exports/resource?signature=hidden", json=body, headers=sent)
        assert accepted.status_code == 202, accepted.text
    async with service.sessions() as session:
        export = (await session.scalars(select(Export))).one()
    (done,) = await service.finished(export)
    await assert_verified(service, done)

    async def all_told() -> bool | None:
        return whole_trace(collector) >= WHOLE or None

    await until(all_told, 20, lambda: f"{WHOLE - whole_trace(collector)}")
    assert whole_trace(collector) == WHOLE
    (request,) = [step.facts for step in steps(collector) if step.name.startswith("POST /v1")]
    assert request["asana_exports.export"] == done.id
    assert request["url.query"] == "REDACTED"
    changes = lines(worker, "run.changed")
    assert [line["status"] for line in changes] == ["running", "running", "archiving", "succeeded"]
    assert {(line["lane"], line["run"], bool(line["worker"])) for line in changes} == {
        ("1001", done.run, True)
    }
    assert [line.get("job") for line in changes] == [None, *[service.sandbox.jobs()[0].gid] * 3]
    assert [line["export"] for line in lines(api, "export.accepted")] == [done.id]


def lines(process: Process, event: str) -> list[dict[str, str]]:
    told = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
    return [line for line in told if line["event"] == event]
