"""Guards of the process that serves lanes."""

from tests.mutation.guard import Edit, Guard

PROCESS, ARCHIVE, SUBMIT = "app/worker/process.py", "app/worker/archive.py", "app/worker/submit.py"
STORE = "app/artifacts/store.py"
ON_PROCESS, ON_ARCHIVE = "tests/worker/test_process.py", "tests/worker/test_archive.py"
ON_SUBMIT = "tests/worker/test_submit.py"

GUARDS = (
    Guard(
        "the lease by the worker's own clock, right before Asana is asked",
        "a worker that was frozen asking Asana on waking, though its lane has gone to others",
        f"{ON_SUBMIT}::test_a_worker_that_slept_through_its_lease_does_not_ask_asana",
        Edit(SUBMIT, "ready=ctx.lease.check", "ready=lambda: None"),
    ),
    Guard(
        "the lane is looked at again if a while has passed before Asana is asked",
        "Asana being asked for a run that has been canceled or taken over in the meantime",
        f"{ON_SUBMIT}::test_a_lane_that_was_lost_while_something_else_was_asked_starts_nothing",
        Edit(
            SUBMIT,
            "if not is_fresh and not await ctx.write(about_to_submit, lane, run.id, phase):",
            "if False:",
        ),
    ),
    Guard(
        "asking Asana is not interrupted before the answer is written down",
        "a job at Asana that nobody knows, whenever a worker is told to stop",
        f"{ON_SUBMIT}::test_a_worker_told_to_stop_writes_down_the_job_it_has_asked_for",
        Edit(SUBMIT, "await uninterrupted(_start(ctx, lane, run))", "await _start(ctx, lane, run)"),
    ),
    Guard(
        "a graph's parent is looked up before it is exported",
        "an export of a workspace for which the caller has no grant",
        f"{ON_SUBMIT}::test_a_parent_elsewhere_is_not_exported",
        Edit(SUBMIT, "            await ctx.upstream.check_place(run)\n", ""),
    ),
    Guard(
        "the file is published before it is recorded",
        "a succeeded export without its file",
        f"{ON_ARCHIVE}::test_the_file_is_there_before_it_is_recorded",
        Edit(
            STORE,
            """            for writer in writers:
                await writer.publish()
            yield
""",
            """            yield
            for writer in writers:
                await writer.publish()
""",
        ),
    ),
    Guard(
        "keeping a file is not interrupted between its parts",
        "a file in the store that no record knows, whenever a worker is told to stop",
        f"{ON_ARCHIVE}::test_a_worker_told_to_stop_records_the_file_it_has_published",
        Edit(
            ARCHIVE,
            "await uninterrupted(_keep(ctx, archive, artifact, writers))",
            "await _keep(ctx, archive, artifact, writers)",
        ),
    ),
    Guard(
        "a file that may not be recorded is deleted",
        "files of canceled exports kept for ever",
        f"{ON_ARCHIVE}::test_a_file_that_nobody_wants_any_more_is_deleted",
        Edit(STORE, "await self.delete(writer.key)", "pass"),
    ),
    Guard(
        "a file is given up after three workers",
        "one file that kills all workers, one after the other, for ever",
        f"{ON_ARCHIVE}::test_a_file_that_three_workers_were_lost_with_is_not_fetched",
        Edit(ARCHIVE, "if archive.lost >= MOST_LOST:", "if False:"),
    ),
    Guard(
        "one suspect at a time",
        "sound files counted as poison, for they were in hand beside the one that kills",
        f"{ON_PROCESS}::test_files_lost_with_a_worker_are_fetched_one_at_a_time",
        Edit(PROCESS, "one_more = 0 if self._archiving.has_suspect else min(1, free)", "one_more = free"),
    ),
    Guard(
        "a worker stops all its lanes when its lease is lost",
        "two workers at work in a lane",
        f"{ON_PROCESS}::test_with_its_lease_a_worker_stops_everything",
        Edit(
            PROCESS,
            "await _stopped({*duties, *self._lanes, *self._archiving.tasks})",
            "await _stopped({*duties})",
        ),
    ),
    Guard(
        "a worker that cannot renew its lease stops by its own clock",
        "a worker cut off from the database going on while others take over",
        f"{ON_PROCESS}::test_a_worker_that_cannot_renew_its_lease_stops_by_its_own_clock",
        Edit(
            PROCESS,
            "                if ctx.lease.remaining <= 0:\n                    raise",
            "                if False:\n                    raise",
        ),
    ),
    Guard(
        "lanes are given away at the end",
        "all lanes standing still for the length of a lease at each deploy",
        f"{ON_PROCESS}::test_a_worker_told_to_stop_gives_its_lanes_away",
        Edit(
            PROCESS,
            "                    await hand_over(session, ctx.lease.worker)\n",
            "                    pass\n",
        ),
    ),
    Guard(
        "after a claim without an answer, lanes are counted",
        "a lane that its holder does not know to hold, and that stands still",
        f"{ON_PROCESS}::test_a_claim_whose_answer_was_lost_does_not_leave_a_lane_standing",
        Edit(PROCESS, "full, self._unsure = False, True", "full = False"),
    ),
    Guard(
        "a fault of a duty ends with its round",
        "a worker that begins anew, and dies again, because conversions cannot be read",
        f"{ON_PROCESS}::test_a_fault_of_a_duty_is_counted_and_stops_nothing",
        Edit(
            PROCESS,
            'except Exception as error:\n                report("duty"',
            'except ZeroDivisionError as error:\n                report("duty"',
        ),
    ),
    Guard(
        "looking for work now and then",
        "work that waits for ever because a notification was lost",
        f"{ON_PROCESS}::test_work_is_found_without_notifications",
        Edit(PROCESS, "await woken_within(ctx.clock, self._wake, pause)", "await self._wake.wait()"),
    ),
    Guard(
        "lanes with work but no flag are found",
        "work that waits for ever because of a fault of our own",
        "tests/worker/test_sweep.py::test_a_lane_with_work_but_no_flag_is_mended",
        Edit("app/worker/sweep.py", "    WHERE NOT has_work AND (", "    WHERE false AND ("),
    ),
)
