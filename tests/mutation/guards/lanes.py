"""Guards of the queues and their slots."""

from tests.mutation.guard import Edit, Guard

LEASE, CLAIM, RELEASE = "app/lanes/lease.py", "app/lanes/claim.py", "app/lanes/release.py"
ENQUEUE, RUNS = "app/lanes/enqueue.py", "app/exports/runs.py"
ON_CLAIMING = "tests/lanes/test_claiming.py"
ON_LEASES = "tests/lanes/test_leases.py"
ON_RUNS = "tests/lanes/test_runs.py"
ON_SLOTS = "tests/lanes/test_slots.py"
ON_WAKING = "tests/lanes/test_waking.py"

GUARDS = (
    Guard(
        "one live run in a lane, by a unique index",
        "two exports of a workspace at Asana at once, whatever the code does",
        f"{ON_RUNS}::test_the_database_itself_refuses_a_second_live_run_in_a_lane",
        Edit(
            "app/exports/models.py",
            """            unique=True,
            postgresql_where=text("status IN ('running', 'canceling')"),""",
            """            postgresql_where=text("status IN ('running', 'canceling')"),""",
        ),
        Edit(
            "migrations/versions/0001_the_spine.py",
            """        unique=True,
        postgresql_where=sa.text("status IN ('running', 'canceling')"),""",
            """        unique=False,
        postgresql_where=sa.text("status IN ('running', 'canceling')"),""",
        ),
    ),
    Guard(
        "the fence in `hold`",
        "a write by what a worker knew when it held the lane before",
        f"{ON_LEASES}::test_a_holding_that_is_over_writes_nothing_though_the_same_worker_holds_again",
        Edit(LEASE, "AND holder = :worker AND fence = :fence FOR", "AND holder = :worker FOR"),
    ),
    Guard(
        "the holder in `hold`",
        "a write for a lane that was given away",
        f"{ON_LEASES}::test_a_lane_that_was_given_away_is_lost_though_nobody_took_it",
        Edit(LEASE, "AND holder = :worker AND fence = :fence FOR", "AND fence = :fence FOR"),
    ),
    Guard(
        "the lease in `hold`",
        "a write by a worker that was silent for too long, before anybody has taken over",
        f"{ON_LEASES}::test_a_lapsed_lease_stops_the_holder_though_nobody_took_over",
        Edit(LEASE, "row is None or not row.leased", "row is None"),
    ),
    Guard(
        "the lease in `hold` is that of the moment",
        "a write by a lease that ran out while the lane's lock was waited for",
        f"{ON_LEASES}::test_a_lease_that_runs_out_behind_a_lock_is_noticed",
        Edit(
            LEASE,
            "workers.lease_expires_at > clock_timestamp() AS leased",
            "workers.lease_expires_at > now() AS leased",
        ),
    ),
    Guard(
        "a lapsed lease is never revived",
        "a worker going on with lanes that others may have been given",
        f"{ON_LEASES}::test_a_lapsed_lease_is_never_revived",
        Edit(LEASE, "WHERE id = :id AND lease_expires_at > clock_timestamp()", "WHERE id = :id"),
    ),
    Guard(
        "the lane's lock in `hold`",
        "work lost that comes while the lane is given back: looked for before, flagged away after",
        f"{ON_WAKING}::test_a_lane_is_not_given_back_while_work_comes",
        Edit(LEASE, "AND fence = :fence FOR UPDATE", "AND fence = :fence"),
    ),
    Guard(
        "the lane's lock on enqueueing",
        "two runs made by equal requests in the same moment",
        "tests/exports/test_sharing.py::test_an_equal_request_waits_for_one_that_is_being_accepted",
        Edit(ENQUEUE, "WHERE key = :key FOR UPDATE", "WHERE key = :key"),
    ),
    Guard(
        "the lane's lock on enqueueing, together with that of its foreign keys",
        "work lost that comes while the lane is given back: the flag seems to be set already",
        f"{ON_WAKING}::test_work_that_comes_while_its_lane_is_given_back_is_not_lost",
        Edit(ENQUEUE, "WHERE key = :key FOR UPDATE", "WHERE key = :key"),
        # Which the lock for a foreign key does not wait for.
        Edit(LEASE, "AND fence = :fence FOR UPDATE", "AND fence = :fence FOR NO KEY UPDATE"),
    ),
    Guard(
        "looking for work after the lane is locked",
        "work lost that is committed while the lock is waited for",
        f"{ON_WAKING}::test_a_lane_is_not_given_back_while_work_comes",
        Edit(
            RUNS,
            "    state = await hold(session, lane)\n    flying",
            "    early = await head(session, lane.key)\n    state = await hold(session, lane)\n    flying",
        ),
        Edit(RUNS, "first = await head(session, lane.key) if free", "first = early if free"),
        Edit(
            LEASE,
            "    held = await session.execute(LOCK,",
            """    look = text("SELECT min(not_before) FROM runs WHERE lane = :key AND status = 'queued'")
    session.info["soonest"] = await session.scalar(look, {"key": lane.key})
    held = await session.execute(LOCK,""",
        ),
        Edit(
            RELEASE,
            'soonest = (await session.execute(SOONEST, {"key": lane.key})).scalar_one()',
            'soonest = session.info["soonest"]',
        ),
    ),
    Guard(
        "a held lane is not claimed",
        "two workers in one lane",
        f"{ON_CLAIMING}::test_a_claim_whose_answer_was_lost_is_given_back",
        Edit(
            CLAIM,
            "        WHERE has_work AND holder IS NULL AND next_attempt_at <= now()\n        ORDER",
            "        WHERE has_work AND next_attempt_at <= now()\n        ORDER",
        ),
    ),
    Guard(
        "lanes of a worker whose lease is over are freed",
        "lanes that stand still after their worker was killed",
        f"{ON_LEASES}::test_a_holder_of_the_past_writes_nothing",
        Edit(CLAIM, "WHERE workers.lease_expires_at < now()", "WHERE false"),
    ),
    Guard(
        "lanes of a living worker are not freed",
        "a lane taken from the hands of a worker that is well",
        f"{ON_LEASES}::test_lanes_of_a_living_worker_are_left_alone",
        Edit(CLAIM, "WHERE workers.lease_expires_at < now()", "WHERE true"),
    ),
    Guard(
        "no waiting behind a stopped worker's locks",
        "all workers hanging because one was frozen in the middle of a transaction",
        f"{ON_CLAIMING}::test_rescue_does_not_wait_behind_a_zombie_in_the_middle_of_a_transaction",
        Edit(CLAIM, "FOR UPDATE OF lanes SKIP LOCKED)", "FOR UPDATE OF lanes)"),
    ),
    Guard(
        "queueing for lanes that are always locked",
        "a lane passed over for as long as requests stream in",
        f"{ON_CLAIMING}::test_a_lane_whose_lock_is_always_taken_is_claimed_by_queueing",
        Edit(CLAIM, "WHERE key = :key AND has_work AND holder IS NULL AND", "WHERE false AND key = :key AND"),
    ),
    Guard(
        "giving up lanes held without knowing it",
        "a lane that stands still because the answer to its claim was lost",
        f"{ON_CLAIMING}::test_a_claim_whose_answer_was_lost_is_given_back",
        Edit(
            RELEASE,
            "    WHERE holder = :worker AND NOT EXISTS (",
            "    WHERE false AND holder = :worker AND NOT EXISTS (",
        ),
    ),
    Guard(
        "a lane that waits as a whole keeps its time",
        "Asana being asked again with every new request, though it asked for a pause",
        f"{ON_WAKING}::test_new_work_does_not_hurry_a_lane_whose_slot_is_taken",
        Edit(
            ENQUEUE,
            "AND (wait_reason IS NULL OR :has_token AND wait_reason = 'credential_invalid')",
            "AND :has_token",
        ),
    ),
    Guard(
        "a paused lane starts nothing",
        "an export started though an administrator holds the queue",
        f"{ON_SLOTS}::test_what_was_not_yet_asked_of_asana_is_not_asked_of_a_paused_lane",
        Edit(RUNS, "free = not (state.parked or state.paused)", "free = not state.parked"),
    ),
    Guard(
        "a resumed lane is flagged",
        "what was queued during a pause waiting for the next request",
        f"{ON_WAKING}::test_what_was_queued_during_a_pause_goes_on_after_it",
        Edit(
            "app/lanes/control.py",
            "draining_at = NULL, has_work = true, next_attempt_at",
            "draining_at = NULL, next_attempt_at",
        ),
    ),
    Guard(
        "a drain is looked for again behind the lane's lock",
        "an export accepted after the queue was closed",
        f"{ON_WAKING}::test_a_request_that_meets_a_drain_at_the_door_is_refused",
        Edit("app/exports/accept.py", "    refuse_draining(admitted.workspace.gid, lane.draining_at)\n", ""),
    ),
)
