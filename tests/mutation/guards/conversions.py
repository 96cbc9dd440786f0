"""Guards of making other formats: whose a conversion is, and what a hostile file may do."""

from tests.mutation.guard import Edit, Guard

STEPS, CONVERT = "app/exports/conversions.py", "app/worker/convert.py"
APART, CONVERTER, FORMATS = (
    "app/artifacts/apart.py",
    "app/artifacts/converter.py",
    "app/artifacts/formats.py",
)
ON_CONVERT, ON_APART = "tests/worker/test_convert.py", "tests/artifacts/test_apart.py"
ON_FORMATS = "tests/artifacts/test_formats.py"

GUARDS = (
    Guard(
        "a conversion is held by one worker",
        "the same file being converted by all workers at once",
        f"{ON_CONVERT}::test_one_is_held_by_one_worker",
        Edit(STEPS, "worker IS NULL OR worker = :worker\n", "true\n"),
    ),
    Guard(
        "what a worker holds without knowing it is taken again",
        "a conversion that nobody makes, for the answer to its claim was lost",
        f"{ON_CONVERT}::test_a_claim_whose_answer_was_lost_is_made_again",
        Edit(STEPS, "worker IS NULL OR worker = :worker\n", "worker IS NULL\n"),
    ),
    Guard(
        "the conversion of a worker whose lease is over is taken",
        "a conversion that waits for ever for a worker that has died",
        f"{ON_CONVERT}::test_another_takes_over_from_one_that_died_and_the_dead_one_writes_nothing",
        Edit(STEPS, "OR worker IN (SELECT id FROM workers WHERE lease_expires_at < now())", ""),
    ),
    Guard(
        "the fence of conversions",
        "a worker that was given up recording its files beside those of its successor",
        f"{ON_CONVERT}::test_another_takes_over_from_one_that_died_and_the_dead_one_writes_nothing",
        Edit(STEPS, "if (conversion.worker, conversion.fence) != (held.worker, held.fence):", "if False:"),
    ),
    Guard(
        "a conversion is put back by its holder alone",
        "a worker that was given up freeing what its successor works on",
        f"{ON_CONVERT}::test_another_takes_over_from_one_that_died_and_the_dead_one_writes_nothing",
        Edit(STEPS, " AND worker = :worker AND fence = :fence\n", "\n"),
    ),
    Guard(
        "files are recorded once",
        "a second try of the same commit that finds its own work and gives up the files",
        f"{ON_CONVERT}::test_recording_twice_is_recording_once",
        Edit(
            STEPS,
            "if conversion.state is ConversionState.READY and conversion.fence == held.fence:",
            "if False:",
        ),
    ),
    Guard(
        "files are recorded while their artifact is kept",
        "files that outlive the artifact they were made of",
        f"{ON_CONVERT}::test_files_of_an_artifact_that_was_deleted_meanwhile_are_not_recorded",
        Edit(STEPS, "    if not kept:\n        raise", "    if False:\n        raise"),
    ),
    Guard(
        "an artifact is locked while files of it are recorded",
        "the same, when it is deleted in the same moment",
        f"{ON_CONVERT}::test_a_file_is_not_deleted_while_its_conversion_is_recorded",
        Edit("app/exports/outputs.py", "found.with_for_update(read=True)", "found"),
    ),
    Guard(
        "publishing files and recording them is not interrupted",
        "files that nobody knows, whenever a worker is told to stop",
        f"{ON_CONVERT}::test_a_worker_told_to_stop_records_the_files_it_has_published",
        Edit(
            CONVERT,
            "await uninterrupted(_keep(ctx, held, files, writers))",
            "await _keep(ctx, held, files, writers)",
        ),
    ),
    Guard(
        "files that could not be recorded are deleted",
        "files that nobody knows, whenever a conversion is taken over",
        f"{ON_CONVERT}::test_files_that_nobody_wants_any_more_are_deleted",
        Edit("app/artifacts/store.py", "await self.delete(writer.key)", "pass"),
    ),
    Guard(
        "conversions are tried three times",
        "a file that crashes the process being tried for ever",
        f"{ON_CONVERT}::test_crashes_are_tried_three_times",
        Edit(CONVERT, "if held.failures >= MOST_FAILURES:", "if False:"),
    ),
    Guard(
        "the converting process has so much memory",
        "a hostile line that takes the memory of the whole machine",
        f"{ON_APART}::test_more_memory_than_allowed_is_not_taken",
        Edit(
            CONVERTER,
            "resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))",
            "resource.getrlimit(resource.RLIMIT_DATA)",
        ),
    ),
    Guard(
        "the converting process ends with its worker",
        "processes that go on with what another worker has taken over",
        f"{ON_APART}::test_it_ends_with_a_worker_that_is_killed",
        Edit(CONVERTER, "    os._exit(1)\n", "    return\n"),
    ),
    Guard(
        "the converting process ends when it is no longer wanted",
        "the same, of a worker that is told to stop",
        f"{ON_APART}::test_one_that_is_canceled_leaves_no_process",
        Edit(APART, "            process.kill()\n            await process.wait()\n", "            pass\n"),
    ),
    Guard(
        "the converting process knows no secrets",
        "keys in the hands of what reads files that others have written",
        f"{ON_APART}::test_secrets_of_the_worker_are_not_handed_on",
        Edit(APART, "HANDED_ON & {*os.environ}", "{*os.environ}"),
    ),
    Guard(
        "files are named by number",
        "a resource type that is the path of another file",
        f"{ON_FORMATS}::test_each_resource_type_has_a_file_whose_name_it_cannot_choose",
        Edit(FORMATS, 'folder / f"{number:03}.{form}"', 'folder / f"{kind}.{form}"'),
    ),
    Guard(
        "names that differ only in case are told apart",
        "a file that most readers refuse",
        f"{ON_FORMATS}::test_names_that_differ_only_in_case_stay_apart_for_readers_that_do_not_see_it",
        Edit(FORMATS, "while name.lower() in taken:", "while name in taken:"),
    ),
)
