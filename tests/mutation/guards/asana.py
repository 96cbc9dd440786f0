"""Guards of calls of Asana."""

from tests.mutation.guard import Edit, Guard

CLIENT, TESTS = "app/asana/client.py", "tests/asana/test_client.py"

GUARDS = (
    Guard(
        "no redirect of Asana is followed",
        "a token sent to another host",
        f"{TESTS}::test_each_status_has_its_meaning",
        Edit(CLIENT, "follow_redirects=False", "follow_redirects=True"),
    ),
    Guard(
        "a start without an answer is of unknown outcome",
        "a second job taken for the first, with nobody the wiser",
        f"{TESTS}::test_a_lost_answer_leaves_the_outcome_of_a_start_unknown",
        Edit(CLIENT, 'lost = OutcomeUnknown if method == "POST" else Unavailable', "lost = Unavailable"),
    ),
    Guard(
        "a start is not repeated where the connection was cut",
        "two jobs by one call",
        f"{TESTS}::test_a_connection_that_is_always_cut_is_given_up_and_a_start_is_never_repeated_here",
        Edit(CLIENT, '                if method != "GET":\n                    raise\n', ""),
    ),
    Guard(
        "calls beyond those at once wait for their place",
        "looks at jobs that fail for being many",
        f"{TESTS}::test_a_crowd_is_served_in_turn",
        Edit(
            CLIENT,
            'async with self._reads if method == "GET" else self._starts:',
            "async with asyncio.Semaphore(10_000):",
        ),
    ),
    Guard(
        "a start is asked for again when its turn has come",
        "an export started by a worker that has lost its lease while it waited",
        f"{TESTS}::test_a_start_that_waits_for_its_turn_is_asked_for_again_when_it_comes",
        Edit(CLIENT, "            ready()\n            try:", "            try:"),
    ),
    Guard(
        "a token that was replaced while it was read is read again",
        "calls with a token that is no longer the one, until the next change",
        "tests/worker/test_upstream.py::test_a_token_that_is_replaced_while_it_is_read_is_read_again",
        Edit("app/worker/upstream.py", "if not changed.is_set():", "if changed:"),
    ),
    Guard(
        "errors come without their request",
        "a token in a log, in the traceback of a failed call",
        f"{TESTS}::test_the_token_is_in_no_error",
        Edit(
            CLIENT,
            'raise lost(f"{method} {path} got no answer: {_described(error)}") from None',
            'raise lost(f"{method} {path} got no answer: {error.request.headers.raw}") from None',
        ),
    ),
    Guard(
        "no call while a limit lasts",
        "calls that Asana counts against the token though it refuses them",
        "tests/asana/test_budget.py::test_no_call_goes_out_while_held",
        Edit("app/asana/budget.py", "            await self._until(self._held_until)\n", ""),
        Edit(
            "app/asana/budget.py",
            "            if self.held_for <= 0:\n                return",
            "            return",
        ),
    ),
    Guard(
        "a limit that one worker meets is told to the others",
        "each worker running into the same limit by itself",
        "tests/worker/test_upstream.py::test_a_limit_that_one_worker_meets_holds_for_all",
        Edit(
            "app/worker/upstream.py",
            "            await self._write(note_limit, credential, limited.retry_after)\n",
            "",
        ),
    ),
    Guard(
        "a refusal of the token before does not count",
        "a new token called invalid by a late answer to the old one",
        "tests/worker/test_upstream.py::test_a_late_refusal_of_the_token_before_changes_nothing",
        Edit("app/access/credentials.py", "            Credential.updated_at == seen,\n", ""),
    ),
)
