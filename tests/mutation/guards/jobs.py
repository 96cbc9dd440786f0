"""Guards of what is spoken as Asana is: jobs, their download URLs, and where parents are."""

from tests.mutation.guard import Edit, Guard

JOBS, TICKETS, PARENTS = "app/exports/jobs.py", "app/access/tickets.py", "app/exports/parents.py"
SPOKEN, URLS, SEARCH = (
    "tests/api/test_asana.py",
    "tests/api/test_download_urls.py",
    "tests/api/test_parents.py",
)

GUARDS = (
    Guard(
        "a job is its client's",
        "the files of others being had by gids",
        f"{SPOKEN}::test_a_job_is_its_clients_alone",
        Edit(JOBS, "JobGid.gid == int(gid), Export.client == client.id)", "JobGid.gid == int(gid))"),
    ),
    Guard(
        "of two who start a graph export at once, one finds the other's job",
        "two jobs of one parent",
        f"{SPOKEN}::test_the_same_parent_is_the_same_job_until_it_has_ended",
        Edit(JOBS, '    await session.execute(TAKE_TURN, {"what": f"{client.id} graph {parent}"})\n', ""),
    ),
    Guard(
        "a job that is being canceled is not joined",
        "a new request that ends as canceled",
        f"{SPOKEN}::test_a_job_that_is_given_up_is_nobodys",
        Edit(JOBS, "            Export.status != Status.CANCELING,\n", ""),
    ),
    Guard(
        "a download URL lasts an hour",
        "a file being had for ever by whoever finds the URL in a log",
        f"{URLS}::test_a_url_lasts_an_hour_from_each_look",
        Edit(TICKETS, " and now.timestamp() < self.until", ""),
    ),
    Guard(
        "a download URL dies with the key that it was made for",
        "files being had by somebody who was shut out",
        f"{URLS}::test_a_url_dies_with_its_clients_key",
        Edit(TICKETS, " and client.revoked_at is None", ""),
    ),
    Guard(
        "a download URL is for one job",
        "another job's file being had by a changed path",
        f"{URLS}::test_what_was_tampered_with_opens_nothing",
        Edit("app/api/asana.py", "if ticket and ticket.job == job_gid:", "if ticket:"),
    ),
    Guard(
        "what else is sealed is no ticket",
        "another secret of ours being taken for leave to download",
        f"{URLS}::test_what_was_tampered_with_opens_nothing",
        Edit(TICKETS, " if purpose == PURPOSE:", ":"),
    ),
    Guard(
        "a download URL opens what its client may fetch",
        "files being had by a client whose scope for them was taken away",
        f"{URLS}::test_a_url_dies_with_its_clients_key",
        Edit("app/api/asana.py", "if not client.may(Scope.ARTIFACTS_READ):", "if False:"),
    ),
    Guard(
        "where a parent is, is told by grant",
        "exports of workspaces that the client has nothing to do with, and their parents being found out",
        f"{SEARCH}::test_nothing_is_said_of_workspaces_that_are_not_granted",
        Edit(PARENTS, "if found is None or found not in granted:", "if found is None:"),
    ),
    Guard(
        "a search for a parent keeps to a limit",
        "calls that Asana refuses, and counts, one after the other",
        f"{SEARCH}::test_a_limit_is_kept_and_told_to_all",
        Edit(PARENTS, "if opener.limited_for > 0:", "if False:"),
    ),
    Guard(
        "a limit that a search meets is told to the workers",
        "each of them running into it too",
        f"{SEARCH}::test_a_limit_is_kept_and_told_to_all",
        Edit(PARENTS, "            await note_limit(session, opener.id, seconds)\n", "            pass\n"),
    ),
)
