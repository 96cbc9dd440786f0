"""Guards of schedules: that a slot fires once, and that no change is missed between two exports."""

from tests.mutation.guard import Edit, Guard

FIRING, SCHEDULES, RISK = "app/exports/firing.py", "app/exports/schedules.py", "app/exports/risk.py"
TEMPLATES, WATERMARKS = "app/exports/templates.py", "app/schedules/watermarks.py"
ON_TEMPLATES = "tests/exports/test_templates.py"
ON_FIRING = "tests/firing/test_firing.py"
ON_SKIPS = "tests/firing/test_skips.py"
ON_WINDOWS = "tests/firing/test_windows.py"
ON_DEADLINES = "tests/worker/test_deadlines.py"

GUARDS = (
    Guard(
        "a schedule is locked while it is fired, and passed over by others",
        "several exports of one slot, or workers that wait for each other",
        f"{ON_FIRING}::test_one_that_is_being_fired_is_passed_over",
        Edit(FIRING, "    .with_for_update(skip_locked=True)\n", ""),
    ),
    Guard(
        "one export for each slot, by a unique index",
        "several exports of one slot, whatever workers believe",
        f"{ON_FIRING}::test_the_database_refuses_a_second_export_of_a_slot",
        Edit(
            "migrations/versions/0009_schedules.py",
            '        ["schedule", "slot"],\n        unique=True,\n',
            '        ["schedule", "slot"],\n',
        ),
    ),
    Guard(
        "what is late is skipped unless it is to be made up for",
        "exports in the middle of the day that were meant for the night",
        f"{ON_SKIPS}::test_slots_missed_in_a_downtime_are_skipped",
        Edit(FIRING, "if is_late and schedule.catch_up is CatchUp.SKIP:", "if False:"),
    ),
    Guard(
        "what meets a full queue is tried again",
        "a night without its export, because the queue was full at three for a minute",
        f"{ON_SKIPS}::test_a_slot_that_meets_a_full_queue_is_tried_again_until_there_is_room",
        Edit(FIRING, "outcome.reason in PASSING and", "False and"),
    ),
    Guard(
        "what was put off is told of when its time is over",
        "slots without an export that nobody is told of",
        f"{ON_SKIPS}::test_what_is_put_off_meanwhile_is_told_of_for_its_own_reason",
        Edit(SCHEDULES, "    await skip_put_off(session, schedule, rules, by=timing_of(schedule))\n", ""),
    ),
    Guard(
        "a slot does not stack behind the export of the last",
        "a queue that grows without end where exports take longer than from slot to slot",
        f"{ON_SKIPS}::test_a_slot_does_not_stack_behind_the_export_of_the_last",
        Edit(FIRING, "if await _is_running(session, schedule) and", "if False and"),
    ),
    Guard(
        "a revoked client fires nothing",
        "exports for somebody who was shut out",
        f"{ON_SKIPS}::test_a_client_that_may_no_longer_is_skipped_until_it_may_again",
        Edit(FIRING, "if client.revoked_at:", "if False:"),
    ),
    Guard(
        "the scope is looked at when a schedule fires",
        "exports for somebody who may no longer ask for any",
        f"{ON_SKIPS}::test_a_client_that_may_no_longer_is_skipped_until_it_may_again",
        Edit(FIRING, "if not client.may(Scope.EXPORTS_WRITE):", "if False:"),
    ),
    Guard(
        "a schedule that cannot be fired holds up no other",
        "one faulty schedule that keeps all of them from firing",
        "tests/worker/test_schedules.py::test_one_that_cannot_be_fired_does_not_hold_up_the_others",
        Edit("app/worker/schedules.py", "except Exception as error:", "except ZeroDivisionError as error:"),
    ),
    Guard(
        "the overlap",
        "changes missed that Asana showed a moment after they had happened",
        f"{ON_TEMPLATES}::test_since_the_last_success_begins_at_the_watermark_less_the_overlap",
        Edit(TEMPLATES, "return watermark - min(", "return watermark or min("),
    ),
    Guard(
        "windows from the last success have no end",
        "changes after the end of one window and before the beginning of the next",
        f"{ON_TEMPLATES}::test_windows_that_cannot_be_meant_are_refused",
        Edit(TEMPLATES, "            if grows:\n", "            if False:\n"),
    ),
    Guard(
        "the watermark does not go back",
        "what was had being asked for once more, for an export that ended late",
        f"{ON_WINDOWS}::test_the_watermark_never_goes_back_by_an_export_that_ends_late",
        Edit(WATERMARKS, "SET moment = greatest(moment, runs.data_from)", "SET moment = runs.data_from"),
    ),
    Guard(
        "only success moves the watermark",
        "changes missed because the export that had asked for them was canceled",
        f"{ON_WINDOWS}::test_a_canceled_export_moves_no_watermark_though_its_run_succeeds",
        Edit(
            WATERMARKS,
            "WHERE exports.run = :run AND exports.status = 'succeeded'",
            "WHERE exports.run = :run",
        ),
    ),
    Guard(
        "exports from before a reset do not move the watermark",
        "a reset that is undone by an export that was under way",
        f"{ON_WINDOWS}::test_the_watermark_can_be_set_and_exports_from_before_do_not_move_it",
        Edit(WATERMARKS, " AND exports.created_at >= watermarks.since\n", "\n"),
    ),
    Guard(
        "another request begins without a watermark",
        "objects never asked for, because the watermark was that of another request",
        f"{ON_WINDOWS}::test_the_watermark_outlives_a_change_unless_it_is_of_the_request",
        Edit(SCHEDULES, 'if _asked(schedule) != asked or "watermark" in', 'if "watermark" in'),
    ),
    Guard(
        "an export at risk is looked at again behind its lock",
        "a risk told of an export that has just ended, or twice",
        f"{ON_DEADLINES}::test_what_ends_while_it_is_judged_is_left_alone",
        Edit(RISK, ".where(Export.id.in_(late), IS_WATCHED)", ".where(Export.id.in_(late))"),
    ),
)
