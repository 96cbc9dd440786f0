"""How many requests are accepted in a second, and how long each takes, while no worker lives.

Beside PostgreSQL's own load generator, which commits one row at a time into a table of the same server, from
as many clients. Callers, API and PostgreSQL share this machine's cores.
"""

import asyncio
import time

import httpx

from benchmarks.result import Result, percentile
from benchmarks.stand import a_stand
from tests.builders import unlike_others

PROCESSES, CALLERS = 2, 8
SECONDS = 20
WORKSPACES = 20
TARGET_PER_SECOND, TARGET_P99 = 200, 0.1
INSERT = """
CREATE TABLE IF NOT EXISTS plain (id bigserial PRIMARY KEY, at timestamptz, body text);
"""
ONE_ROW = "INSERT INTO plain (at, body) VALUES (now(), repeat('x', 500));\n"


async def accepting() -> list[Result]:
    async with a_stand(workspaces=WORKSPACES) as stand:
        made = stand.folder / "table.sql"
        made.write_text(INSERT)
        row = stand.folder / "row.sql"
        row.write_text(ONE_ROW)
        await asyncio.to_thread(stand.server.pgbench, made, 1, 1)
        plain = await asyncio.to_thread(stand.server.pgbench, row, CALLERS, 10)
        apis = [stand.start("api", REQUESTS_PER_MINUTE="10000000") for _ in range(PROCESSES)]
        addresses = [await api.address() for api in apis]
        async with httpx.AsyncClient(
            headers={"Authorization": f"Bearer {stand.tenant.key}"}, trust_env=False, timeout=60
        ) as http:
            until = time.monotonic() + SECONDS
            took = await asyncio.gather(
                *(caller(http, addresses[number % PROCESSES], number, until) for number in range(CALLERS))
            )
    seconds = [each for one in took for each in one]
    rate, p50, p99 = len(seconds) / SECONDS, percentile(seconds, 0.5), percentile(seconds, 0.99)
    return [
        Result(
            f"requests accepted by {PROCESSES} API processes, {CALLERS} callers at once",
            f"{rate:.0f}/s",
            f"target {TARGET_PER_SECOND}/s",
            rate / TARGET_PER_SECOND,
        ),
        Result(
            "the slowest of a hundred answers",
            f"{p99 * 1000:.0f} ms (half: {p50 * 1000:.0f} ms)",
            f"target {TARGET_P99 * 1000:.0f} ms",
            TARGET_P99 / p99,
        ),
        Result(
            "accepted requests beside single rows of pgbench, each with its commit",
            f"{rate:.0f}/s",
            f"{plain:.0f}/s",
            rate / plain,
        ),
    ]


async def caller(http: httpx.AsyncClient, address: str, number: int, until: float) -> list[float]:
    took = []
    workspace = 1001 + number
    while (began := time.monotonic()) < until:
        items = [{"resource_type": "task"} | unlike_others("task")]
        body = {"workspace": str(workspace), "export_request_parameters": items}
        answer = await http.post(f"{address}/v1/exports/resource", json=body)
        assert answer.status_code == 202, answer.text
        took.append(time.monotonic() - began)
        workspace = 1001 + (workspace - 1000) % WORKSPACES
    return took
