"""Guards of the event feed: of its order, of who sees what, and of streams."""

from tests.mutation.guard import Edit, Guard

FEED, FOLLOWER, FORGET = "app/exports/feed.py", "app/api/follower.py", "app/worker/forget.py"
ORDER, EVENTS = "tests/events/test_order.py", "tests/api/test_events.py"

GUARDS = (
    Guard(
        "one at a time places events",
        "two events in one place, or an event that appears below others that were shown",
        f"{ORDER}::test_two_who_place_at_the_same_time_place_nothing_twice",
        Edit("app/events/placing.py", "SELECT FROM event_feed FOR UPDATE", "SELECT FROM event_feed"),
    ),
    Guard(
        "an event is placed and nothing else",
        "a history that was written anew in the guise of its order",
        "tests/database/test_schema.py::test_an_event_is_placed_once_and_keeps_what_it_says",
        Edit(
            "migrations/versions/0006_the_event_feed.py",
            "IF OLD IS NOT DISTINCT FROM NEW THEN",
            "IF true THEN",
        ),
    ),
    Guard(
        "what becomes of a file is told to those who have it",
        "clients that hear of the files of others",
        f"{EVENTS}::test_who_follows_is_told_no_more_than_who_reads_pages",
        Edit(
            FEED,
            "return is_granted and (event.run is None or client.id in told.owners)",
            "return is_granted",
        ),
    ),
    Guard(
        "pages tell what becomes of a file to those who have it",
        "clients that hear of the files of others",
        f"{EVENTS}::test_what_becomes_of_a_file_is_told_to_those_who_have_it",
        Edit(FEED, "or_(Event.run.is_(None), has_result)", "true()"),
    ),
    Guard(
        "only one's own export can be followed",
        "clients that learn which exports there are",
        f"{EVENTS}::test_others_exports_cannot_be_followed",
        Edit(FEED, "        await visible_export(session, client, wanted.export)\n", "        pass\n"),
    ),
    Guard(
        "a page is read as of one moment",
        "events that are forgotten in the middle of it, without the reader being told",
        f"{ORDER}::test_what_is_forgotten_in_the_middle_of_a_page_is_no_gap",
        Edit(FEED, '"REPEATABLE READ"', '"READ COMMITTED"'),
    ),
    Guard(
        "cursors expire",
        "a gap that nobody is told of",
        f"{EVENTS}::test_a_cursor_is_good_as_long_as_nothing_after_it_is_forgotten",
        Edit(FEED, "if after < feed.forgotten_position:", "if False:"),
    ),
    Guard(
        "what is forgotten is noted",
        "a gap that nobody is told of",
        "tests/worker/test_forget.py::test_an_exports_events_are_forgotten_together",
        Edit(FORGET, "(SELECT max(position) FROM gone)", "0"),
    ),
    Guard(
        "a cursor ahead of all events is refused",
        "readers that wait for events which they then skip, after a backup was put back",
        f"{EVENTS}::test_a_cursor_ahead_of_all_events_is_refused",
        Edit(FEED, "if after > feed.last_position:", "if False:"),
    ),
    Guard(
        "streams end with their keys",
        "a revoked key that still shows what happens",
        f"{EVENTS}::test_a_stream_ends_with_its_key",
        Edit(FOLLOWER, "and not await self._is_let_in()", "and False"),
    ),
    Guard(
        "streams end with the process",
        "a process that cannot be stopped while somebody follows",
        f"{EVENTS}::test_a_stream_ends_when_the_process_does",
        Edit(FOLLOWER, "and not self._feed.closed and", "and"),
    ),
    Guard(
        "streams end when the database was put back",
        "readers that wait for events which they then skip, without being told",
        f"{EVENTS}::test_a_stream_ends_when_the_database_was_put_back",
        Edit("app/api/feed.py", "self.era += 1", "pass"),
    ),
    Guard(
        "few events are kept in memory",
        "memory that grows with what happens",
        f"{EVENTS}::test_who_is_slow_holds_up_nobody_and_misses_nothing",
        Edit("app/api/feed.py", "if surplus := self._newest[:-KEPT]:", "if surplus := self._newest[:0]:"),
    ),
)
