"""Guards of what may become of exports, and of who shares what."""

from tests.mutation.guard import Edit, Guard

RUNS, STATES = "app/exports/runs.py", "app/exports/states.py"
CANCEL, SHARING = "tests/exports/test_cancel.py", "tests/exports/test_sharing.py"
ON_ARCHIVES = "tests/lanes/test_archives.py"
ON_RUNS = "tests/lanes/test_runs.py"
ON_SLOTS = "tests/lanes/test_slots.py"

HOLDS_ARCHIVE = (
    "(run.status, run.archiver, run.archive_fence) != (Status.ARCHIVING, archive.worker, archive.fence)"
)

GUARDS = (
    Guard(
        "the table of what a run may become",
        "a run that ends twice, or goes on after its end",
        "tests/exports/test_states.py::test_a_run_becomes_only_what_it_may",
        Edit(STATES, "if to is not run.status and to not in MAY_BECOME[run.status]:", "if False:"),
    ),
    Guard(
        "ended exports are left as they are",
        "a canceled export that succeeds after all, for its run went on",
        "tests/exports/test_states.py::test_a_final_export_is_not_touched_by_what_becomes_of_its_run",
        Edit(STATES, 'bindparam("run"), Export.status.not_in(FINAL))', 'bindparam("run"))'),
    ),
    Guard(
        "an event with every change",
        "changes that nobody can look up",
        "tests/exports/test_states.py::test_a_change_reaches_the_export_with_its_event_and_a_new_version",
        Edit(STATES, "    await record_all(session, told)\n", ""),
    ),
    Guard(
        "the run's lock",
        "a cancel that writes over a success which is just being committed",
        f"{CANCEL}::test_a_success_that_is_being_committed_is_not_canceled",
        Edit(
            STATES,
            '.where(Run.id == bindparam("id"))\n    .with_for_update()',
            '.where(Run.id == bindparam("id"))',
        ),
    ),
    Guard(
        "a locked run is read anew",
        "decisions by what a run was before its lock was waited for",
        "tests/exports/test_states.py::test_a_locked_run_is_shown_as_it_is_behind_the_lock",
        Edit(
            STATES,
            "as it was before the lock.\n    .execution_options(populate_existing=True)",
            "as it was before the lock.",
        ),
    ),
    Guard(
        "cancel locks the lane first",
        "a cancel that takes a run for queued which a worker has just begun",
        f"{CANCEL}::test_cancel_sees_the_run_as_it_is_behind_the_lock",
        Edit(
            "app/exports/cancel.py",
            "    await lock_lane(session, export.lane)\n    run = await locked_run(session, export.run)\n",
            "    run = await session.get_one(Run, export.run)\n",
        ),
    ),
    Guard(
        "the intent is committed before Asana is asked",
        "a job at Asana of which nothing is known after a crash",
        f"{ON_RUNS}::test_a_resumed_run_without_a_job_is_of_unknown_outcome",
        Edit(RUNS, "    await begin(session, lane, first, quietly=state.probes > 0)\n", ""),
    ),
    Guard(
        "a run resumed without a job is of unknown outcome",
        "that a job may exist already being forgotten",
        f"{ON_RUNS}::test_a_resumed_run_without_a_job_is_of_unknown_outcome",
        Edit(RUNS, "if flying.phase is Phase.SUBMITTING:", "if False:"),
    ),
    Guard(
        "nobody's run is not started",
        "Asana being asked for what was canceled in the meantime",
        f"{ON_RUNS}::test_a_canceled_run_without_a_job_is_not_started",
        Edit(
            RUNS, "if await _unwanted(session, lane, run) or run.status is not Status.RUNNING:", "if False:"
        ),
    ),
    Guard(
        "steps that free the slot bear being repeated",
        "a run moved on twice because the answer to a commit was lost",
        f"{ON_RUNS}::test_steps_bear_being_repeated",
        Edit(
            RUNS,
            "    elif run.status is Status.RUNNING:\n        await change(session, run, to,",
            "    else:\n        await change(session, run, to,",
        ),
    ),
    Guard(
        "trying another credential bears being repeated",
        "a second run begun in a slot that is taken, because the answer to a commit was lost",
        f"{ON_SLOTS}::test_trying_another_credential_bears_being_repeated",
        Edit(
            "app/exports/forbidden.py", "if begun := await run_in_flight(session, lane):", "if begun := None:"
        ),
    ),
    Guard(
        "recording a success bears being repeated",
        "a file deleted as refused though it was recorded, because the answer to the commit was lost",
        f"{ON_RUNS}::test_success_is_told_once_though_its_answer_was_lost",
        Edit(
            RUNS,
            "if await session.scalar(select(Artifact.id).where(Artifact.key == artifact.key)):",
            "if False:",
        ),
    ),
    Guard(
        "recording a success waits for its own first try",
        "a file deleted as refused while the first try at recording it is committed",
        f"{ON_ARCHIVES}::test_a_success_whose_commit_is_under_way_is_not_taken_for_refused",
        Edit(RUNS, "    await locked_run(session, archive.run)\n    if await", "    if await"),
    ),
    Guard(
        "the fence of archiving",
        "a success by what a worker knew when it had the file in hand before",
        f"{ON_ARCHIVES}::test_a_file_that_was_given_away_is_lost_even_to_the_same_worker",
        Edit(
            RUNS,
            HOLDS_ARCHIVE,
            "(run.status, run.archiver) != (Status.ARCHIVING, archive.worker)",
        ),
    ),
    Guard(
        "the archiver of archiving",
        "a success by a worker whose file was given to others",
        f"{ON_ARCHIVES}::test_a_file_that_was_given_away_is_lost_even_to_the_same_worker",
        Edit(
            RUNS,
            HOLDS_ARCHIVE,
            "(run.status, run.archive_fence) != (Status.ARCHIVING, archive.fence)",
        ),
    ),
    Guard(
        "files lost with a worker are claimed apart",
        "one file that kills workers taking the files beside it along",
        f"{ON_ARCHIVES}::test_a_file_lost_with_its_worker_is_claimed_apart_from_others",
        Edit(RUNS, "          AND (archiver IS NOT NULL OR lost_archivers <> '{}') = :suspect\n", ""),
    ),
    Guard(
        "a worker that lives on clears its files of suspicion",
        "sound files given up as poison because leases ran out",
        f"{ON_ARCHIVES}::test_workers_that_vanish_with_a_file_are_counted_but_for_those_that_come_back",
        Edit(RUNS, '    await session.execute(CLEAR_OF_SUSPICION, {"worker": worker})\n', ""),
    ),
    Guard(
        "only runs by the same credential are shared",
        "a result that another token may see given to somebody whose token may not",
        f"{SHARING}::test_nothing_is_shared_across_credentials_or_accounts",
        Edit("app/exports/sharing.py", '"credential": credential.id,', '"credential": "",'),
    ),
    Guard(
        "only runs by the same account are shared",
        "a result of the account before, after a token was replaced by another person's",
        f"{SHARING}::test_nothing_is_shared_across_credentials_or_accounts",
        Edit("app/exports/sharing.py", '"account": credential.asana_user,', '"account": "",'),
    ),
    Guard(
        "a file that is gone is not shared",
        "an export that succeeds at once with a file that cannot be fetched any more",
        f"{SHARING}::test_a_file_that_is_gone_is_not_shared",
        Edit("app/exports/sharing.py", ", HAS_FILE)", ")"),
    ),
    Guard(
        "a run has so many members at most",
        "steps of a run growing into transactions of minutes",
        f"{ON_RUNS}::test_a_run_that_a_thousand_share_goes_on_and_takes_no_more",
        Edit(
            "app/exports/sharing.py",
            'Run.fingerprint == bindparam("fingerprint"), HAS_ROOM)',
            'Run.fingerprint == bindparam("fingerprint"))',
        ),
    ),
    Guard(
        "one request at a time for an idempotency key",
        "two exports by the same request sent twice at once",
        "tests/api/test_exports.py::test_twins_in_the_same_moment_make_one_export",
        Edit("app/access/idempotency.py", '    await _take_turn(session, f"{client} {route} {key}")\n', ""),
    ),
    Guard(
        "an idempotency key goes with its body",
        "another request taken for a repetition, and never done",
        "tests/api/test_exports.py::test_a_key_with_another_body_is_refused",
        Edit("app/access/idempotency.py", "if known.fingerprint != digest:", "if False:"),
    ),
    Guard(
        "an idempotency key belongs to its client and route",
        "a caller that is answered with the export of another one",
        "tests/api/test_exports.py::test_a_key_belongs_to_its_client_and_route",
        Edit(
            "app/access/idempotency.py",
            "known = await session.get(IdempotencyKey, (client, route, key))",
            """look = text("SELECT fingerprint, export AS made FROM idempotency_keys WHERE key = :key")
    known = (await session.execute(look, {"key": key})).one_or_none()""",
        ),
    ),
    Guard(
        "quotas of clients",
        "one client that fills the queues of all",
        "tests/api/test_limits.py::test_a_client_has_so_many_queued_at_a_time",
        Edit("app/exports/quotas.py", "if quota.left <= 0:", "if False:"),
    ),
    Guard(
        "one request at a time counts against a client's quotas",
        "a quota exceeded by requests in two workspaces at once",
        "tests/api/test_limits.py::test_a_quota_holds_in_all_workspaces_at_once",
        Edit("app/exports/quotas.py", "if client.has_quotas:", "if False:"),
    ),
    Guard(
        "a lane has room for so many",
        "a queue that grows without end",
        "tests/api/test_limits.py::test_a_full_queue_takes_nothing_more",
        Edit("app/exports/quotas.py", ">= limits.queued_per_lane:", "< 0:"),
    ),
    Guard(
        "a result that has shrunk misses nothing",
        "an alarm over keys that only few objects have, whenever a result is small",
        "tests/exports/test_drift.py::test_a_result_that_has_shrunk_may_lack_what_few_objects_have",
        Edit("app/exports/drift.py", "shrunk = 2 * after.lines[kind] < before.lines[kind]", "shrunk = False"),
    ),
)
