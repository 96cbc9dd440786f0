"""What a long queue costs: those who claim lanes, and those who wait elsewhere."""

import time
from statistics import median

from sqlalchemy import text

from app.exports.models import Run
from app.exports.runs import next_run
from app.ids import new_worker_id
from app.lanes.claim import claim_lanes
from app.lanes.lease import register_worker
from app.lanes.release import hand_over
from benchmarks.result import Result, percentile
from benchmarks.stand import Stand, a_stand
from tests.processes import until

LANES = 10_000
QUEUED = (10_000, 100_000, 300_000)
CLAIMS = 200
TARGET_CLAIM = 0.005
BESIDE = 100_000
STARTS = 200
TARGET_START_P50, TARGET_START_P99 = 0.05, 1.0
SANDBOX = ("--time-scale", "1000", "--run-seconds", "20", "60")

MORE_LANES = text("""
    WITH places AS (
        INSERT INTO workspaces (gid, name, credential)
        SELECT (100000 + n)::text, 'many', :credential FROM generate_series(1, :lanes) AS n
        ON CONFLICT DO NOTHING RETURNING gid)
    INSERT INTO lanes (key, workspace, has_work) SELECT gid, gid, true FROM places
""")
# One after the other into every lane, of ten clients' worth of turns.
MORE_RUNS = text("""
    INSERT INTO runs (id, lane, workspace, credential, kind, request, fingerprint, shape, status, rank,
        client, turn, queued_at)
    SELECT 'run_' || md5(:name || n), gid, gid, :credential, 'resource',
        jsonb_build_object('workspace', gid, 'export_request_parameters', CAST(:items AS jsonb)),
        md5(:name || n), 'many', 'queued', n % 4, :client, n / :lanes, now() - n * interval '1 millisecond'
    FROM (
        SELECT n, (100001 + n % :lanes)::text AS gid FROM generate_series(0, :runs - 1) AS n) AS numbered
""")


async def claims() -> list[Result]:
    """A claim of a worker that comes to so many, and the choice of what comes first in the lane."""
    results, queued, at_first = list[Result](), 0, 0.0
    async with a_stand() as stand:
        for many in QUEUED:
            await fill(stand, LANES, many - queued, str(many))
            queued = many
            claim, choice = await claiming(stand)
            at_first = at_first or choice
            crowd = f"{many:,} queued in {LANES:,} lanes"
            results += [
                Result(
                    f"a claim, {crowd}",
                    f"{claim * 1000:.1f} ms",
                    f"target {TARGET_CLAIM * 1000:.0f} ms",
                    TARGET_CLAIM / claim,
                ),
                Result(
                    f"the choice of the run to start, {crowd}",
                    f"{choice * 1000:.1f} ms",
                    f"{QUEUED[0]:,} queued: {at_first * 1000:.1f} ms",
                    at_first / choice,
                ),
            ]
    return results


async def fill(stand: Stand, lanes: int, runs: int, name: str) -> None:
    whose = {"credential": stand.tenant.credential, "client": stand.tenant.client.id}
    items = '[{"resource_type": "task"}]'
    async with stand.database.sessions.begin() as session:
        await session.execute(MORE_LANES, {"credential": whose["credential"], "lanes": lanes})
        await session.execute(
            MORE_RUNS,
            whose | {"lanes": lanes, "runs": runs, "name": name, "items": items},
        )
    async with stand.database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE"))


async def claiming(stand: Stand) -> tuple[float, float]:
    """The middle of many, of each step."""
    worker, claim, choice = new_worker_id(), list[float](), list[float]()
    async with stand.database.sessions.begin() as session:
        await register_worker(session, worker, "benchmark", 600)
    for _ in range(CLAIMS):
        async with stand.database.sessions() as session:
            began = time.perf_counter()
            (lane,) = await claim_lanes(session, worker, 1)
            claimed = time.perf_counter()
            assert await next_run(session, lane, credential_wait=60)
            claim.append(claimed - began)
            choice.append(time.perf_counter() - claimed)
            await session.rollback()
    async with stand.database.sessions.begin() as session:
        await hand_over(session, worker)
    return median(claim), median(choice)


async def starts() -> list[Result]:
    """From the commit of a request until Asana has taken it, in lanes of their own, while a hundred thousand
    wait in another."""
    async with a_stand(*SANDBOX) as stand:
        await fill(stand, 1, BESIDE, "beside")
        stand.sandbox.put_workspace("100001", tasks=100)
        stand.start("worker", POLL_MIN_SECONDS="0.05", POLL_MAX_SECONDS="1")
        took = [await started(stand, str(1001 + number % 4)) for number in range(STARTS)]
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    beside = f"{BESIDE:,} queued in another lane"
    return [
        Result(
            f"from request to Asana's yes, half of {STARTS}, {beside}",
            f"{p50 * 1000:.0f} ms",
            f"target {TARGET_START_P50 * 1000:.0f} ms",
            TARGET_START_P50 / p50,
        ),
        Result(
            "the same, the slowest of a hundred",
            f"{p99 * 1000:.0f} ms",
            f"target {TARGET_START_P99 * 1000:.0f} ms",
            TARGET_START_P99 / p99,
        ),
    ]


async def started(stand: Stand, workspace: str) -> float:
    export = await stand.submit(workspace)

    async def done() -> Run | None:
        async with stand.database.sessions() as session:
            run = await session.get_one(Run, export.run)
        return run if run.finished_at else None

    run = await until(done, 60, lambda: f"the end of {export.id}")
    assert run.submitted_at
    return (run.submitted_at - run.queued_at).total_seconds()
