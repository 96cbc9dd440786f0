"""Guards of the Python client: what it takes for whole, for genuine, and for not yet done."""

from tests.mutation.guard import Edit, Guard

PACKAGE, TESTS = "client/src/asana_exports_client", "tests/client"
CONTENT, RECORDS = f"{PACKAGE}/_async/content.py", f"{PACKAGE}/_records.py"
DOWNLOADS, ANSWERS, WEBHOOKS = (f"{TESTS}/test_{name}.py" for name in ("downloads", "answers", "webhooks"))

GUARDS = (
    Guard(
        "a downloaded file is the one that was verified",
        "a file cut or spoilt on its way that is taken for the export",
        f"{DOWNLOADS}::test_a_file_that_is_not_the_verified_one_is_not_left_behind[async]",
        Edit(CONTENT, "if part.is_file(file.bytes, file.sha256):", "if part:"),
    ),
    Guard(
        "what is left of another download is begun anew",
        "a download that fails each time, for what lies in its place",
        f"{DOWNLOADS}::test_what_is_there_of_another_file_is_no_part_of_it[async]",
        Edit(CONTENT, "range(2 if part.bytes else 1)", "range(1)"),
    ),
    Guard(
        "records go on where they broke off, also where there are no parts",
        "records that are read twice when a connection breaks",
        f"{DOWNLOADS}::test_records_that_break_off_go_on[async]",
        Edit(CONTENT, "passed = at if response.status_code == httpx.codes.OK else 0", "passed = 0"),
    ),
    Guard(
        "records end with the verified file",
        "a loop over the records of a file that is another one, and ends as if it were right",
        f"{DOWNLOADS}::test_a_file_that_is_not_the_verified_one_is_not_left_behind[async]",
        Edit(RECORDS, "if found != verified:", "if found == ():"),
    ),
    Guard(
        "records end where gzip ends",
        "a loop over the records of half a file that ends as if it were whole",
        f"{DOWNLOADS}::test_a_file_that_ends_early_is_never_whole",
        Edit(
            RECORDS,
            "        if not self._member.eof:\n            raise",
            "        if self._member is None:\n            raise",
        ),
    ),
    Guard(
        "what must not be done twice is not sent twice",
        "two clients, keys or secrets where one was asked for, and one of them known to nobody",
        f"{ANSWERS}::test_what_must_not_be_done_twice_is_not_sent_twice[async-None]",
        Edit(f"{PACKAGE}/_async/http.py", "was_not_done if once else is_passing", "is_passing"),
    ),
    Guard(
        "names stay in their place of a path",
        "an id from elsewhere that leads a request to another address",
        f"{ANSWERS}::test_requests_say_who_asks_and_never_leave_the_place_they_name[async]",
        Edit(f"{PACKAGE}/_async/http.py", 'quote(value, safe="")', "value"),
    ),
    Guard(
        "values of a newer service are kept",
        "a client that breaks when the service learns a word",
        f"{ANSWERS}::test_a_newer_service_is_understood[async]",
        Edit(f"{PACKAGE}/_open.py", "if not isinstance(value, str):", "if value:"),
    ),
    Guard(
        "old webhooks are not believed",
        "a webhook that somebody has recorded and plays back",
        f"{WEBHOOKS}::test_what_is_played_back_is_not_genuine",
        Edit(f"{PACKAGE}/webhooks.py", "if age > TOLERANCE_SECONDS:", "if age is None:"),
    ),
    Guard(
        "webhooks are signed by the secret",
        "a webhook that anybody has posted",
        f"{WEBHOOKS}::test_what_was_changed_is_not_genuine",
        Edit(f"{PACKAGE}/webhooks.py", "hmac.compare_digest(expected, given.encode())", "given"),
    ),
)
