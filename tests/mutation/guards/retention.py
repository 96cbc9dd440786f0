"""Guards of retention: when a file ends, who may end it, and what is mended how."""

from tests.mutation.guard import Edit, Guard

KEEPING, REMOVAL, ROUND = "app/exports/keeping.py", "app/exports/removal.py", "app/exports/retention.py"
GARBAGE, COLLECT = "app/exports/garbage.py", "app/worker/garbage.py"
REFETCHES, REFETCH = "app/exports/refetches.py", "app/worker/refetch.py"
ON_API, ON_ROUND, ON_GARBAGE = (
    "tests/api/test_retention.py",
    "tests/worker/test_retention.py",
    "tests/worker/test_garbage.py",
)
RESTORING = "app/exports/restoring.py"
ON_RESTORE = "tests/faults/test_restore.py::test_nothing_is_lost_or_mistaken"

GUARDS = (
    Guard(
        "who joins a run has its file locked",
        "an export that succeeds with a file that was deleted in the same moment",
        f"{ON_API}::test_a_file_that_ends_while_it_is_joined_is_not_shared",
        Edit(
            "app/exports/accept.py",
            "return run if await keep_for_another(session, run.id, wish, cause) else None",
            "return run if await keep_for_another(session, run.id, wish, cause) else run",
        ),
    ),
    Guard(
        "a file that is missing is not shared",
        "an export that succeeds with a file that cannot be had",
        f"{ON_API}::test_a_file_that_is_missing_is_not_shared",
        Edit("app/exports/sharing.py", "IS_KEPT, Artifact.missing_since.is_(None)", "IS_KEPT"),
        Edit(
            KEEPING, "Artifact.run == run, IS_KEPT, Artifact.missing_since.is_(None)", "Artifact.run == run"
        ),
    ),
    Guard(
        "no wish shortens",
        "a file that is gone before its client was told it would be",
        f"{ON_API}::test_an_export_that_joins_later_lengthens_it_and_never_shortens_it",
        Edit(KEEPING, "if artifact.expires_at < until:", "if True:"),
    ),
    Guard(
        "what is held is not deleted",
        "evidence deleted by mistake",
        f"{ON_API}::test_a_held_file_stays",
        Edit(REMOVAL, "    if artifact.held_at:\n        raise", "    if False:\n        raise"),
    ),
    Guard(
        "what is held does not expire",
        "evidence that is gone because nobody looked",
        f"{ON_ROUND}::test_a_held_file_does_not_expire_and_is_given_notice_when_it_is_released[folder]",
        Edit(ROUND, "*due, Artifact.held_at.is_(None)", "*due"),
    ),
    Guard(
        "a file of two clients is not deleted by one",
        "a client that finds its file deleted by another",
        f"{ON_API}::test_a_file_of_two_clients_is_deleted_by_administrators_alone",
        Edit(
            REMOVAL,
            "if not client.may(Scope.ADMIN) and await _shared_with_others(session, client, artifact):",
            "if False:",
        ),
    ),
    Guard(
        "bytes go hours after the end",
        "a download that breaks off because retention has passed",
        f"{ON_API}::test_a_download_that_has_begun_ends_well_though_retention_passes[bucket]",
        Edit(ROUND, "GRACE = timedelta(hours=6)", "GRACE = timedelta()"),
    ),
    Guard(
        "a round passes over what is locked",
        "a round that waits for whoever has a file locked",
        f"{ON_ROUND}::test_what_somebody_has_locked_is_left_to_the_next_round[folder]",
        Edit(ROUND, "with_for_update(skip_locked=True)", "with_for_update()"),
    ),
    Guard(
        "one worker at a time collects garbage",
        "the store being asked for every file by all workers at once",
        "tests/worker/test_chores.py::test_a_long_round_is_joined_by_nobody",
        Edit("app/worker/chores.py", "lock=chore.name if chore.is_long else None", "lock=None"),
    ),
    Guard(
        "files of others are let alone",
        "files of another service deleted, whose place ours was given by mistake",
        f"{ON_GARBAGE}::test_files_that_are_not_known_to_be_ours_are_let_alone[folder]",
        Edit(
            GARBAGE,
            "(EXISTS (SELECT FROM runs WHERE runs.id = found.owner)\n"
            "           OR EXISTS (SELECT FROM artifacts WHERE artifacts.id = found.owner))",
            "true",
        ),
    ),
    Guard(
        "a file is a day old before it counts as nobody's",
        "a file removed in the moment between being published and being recorded",
        f"{ON_GARBAGE}::test_a_file_that_may_be_about_to_be_recorded_is_let_alone[folder]",
        Edit(COLLECT, "if entry.modified_at < before:", "if True:"),
    ),
    Guard(
        "tables and lists count as named",
        "the files of other formats removed as nobody's",
        f"{ON_GARBAGE}::test_in_health_nothing_is_changed[folder]",
        Edit(GARBAGE, "key.removesuffix(DUPLICATES)", "key"),
    ),
    Guard(
        "only the same bytes replace a file",
        "a file that is no longer the one its receipt speaks of",
        f"{ON_GARBAGE}::test_other_bytes_replace_nothing[folder]",
        Edit(REFETCH, "if verified.sha256 != artifact.sha256:", "if False:"),
    ),
    Guard(
        "a list of duplicates is made of the verified file alone",
        "lines left out of a download that repeat nothing",
        f"{ON_GARBAGE}::test_a_list_of_duplicates_is_not_made_of_another_file[folder]",
        Edit(
            COLLECT,
            """    except (Corrupt, TooLarge):
        return False
    if verified.sha256 != artifact.sha256:
        return False
""",
            """    except (Corrupt, TooLarge):
        return True
""",
        ),
    ),
    Guard(
        "the fence of refetches",
        "a worker that was given up recording a file over that of its successor",
        f"{ON_GARBAGE}::test_a_refetch_is_held_by_one_worker_until_its_lease_is_over[folder]",
        Edit(REFETCHES, "if (refetch.worker, refetch.fence) != (held.worker, held.fence):", "if False:"),
    ),
    Guard(
        "a refetch is held by one worker",
        "the same file being fetched by all workers at once",
        f"{ON_GARBAGE}::test_a_refetch_is_held_by_one_worker_until_its_lease_is_over[folder]",
        Edit(REFETCHES, "worker IS NULL OR worker = :worker\n", "true\n"),
    ),
    Guard(
        "a file is recorded again while it is kept",
        "bytes that nobody ever removes, of a file that was deleted meanwhile",
        f"{ON_GARBAGE}::test_what_was_deleted_meanwhile_is_not_recorded[folder]",
        Edit(
            REFETCHES,
            "Artifact.id == held.artifact, IS_KEPT))\n    if",
            "Artifact.id == held.artifact))\n    if",
        ),
    ),
    Guard(
        "what has failed for good is not asked for by itself",
        "a file asked for in vain every hour, for ever",
        f"{ON_GARBAGE}::test_what_asana_has_no_longer_stays_missing_and_is_listed_with_the_cause[folder]",
        Edit(GARBAGE, "if refetch is None or refetch.state is RefetchState.DONE:", "if True:"),
    ),
    Guard(
        "a state follows another as it may",
        "a file that is deleted after it has expired, and told so twice",
        "tests/exports/test_keeping.py::test_what_has_ended_stays_ended",
        Edit(
            KEEPING,
            "if to is not artifact.state and to not in MAY_BECOME[artifact.state]:",
            "if False:",
        ),
    ),
    Guard(
        "what there is of a run that has not ended is kept",
        "a file of before the database was put back, removed while there is no other",
        ON_RESTORE,
        Edit(
            GARBAGE,
            "      AND NOT EXISTS (SELECT FROM runs WHERE runs.id = found.owner AND finished_at IS NULL)\n",
            "",
        ),
    ),
    Guard(
        "the feed of a restored database goes on far above",
        "events that no reader hears of, for it has heard of others in their places",
        ON_RESTORE,
        Edit(RESTORING, "last_position = last_position + :far", "last_position = last_position + 0 * :far"),
    ),
    Guard(
        "files of a restored database have names of their own",
        "a file that callers have a receipt for, written over by another",
        ON_RESTORE,
        Edit(RESTORING, "archive_fence = archive_fence + :far", "archive_fence = archive_fence + 0 * :far"),
    ),
    Guard(
        "a database that is served is not made to go on",
        "numbers changed under the hands of workers",
        ON_RESTORE,
        Edit(RESTORING, "if workers := await live_workers(session):", "if workers := 0:"),
    ),
)
