"""Guards of webhooks: who is told what, where it is sent, and what one receiver may cost the others."""

from tests.mutation.guard import Edit, Guard

OUTGOING, TARGETS = "app/events/outgoing.py", "app/webhooks/targets.py"
TRIES, SENDING = "app/webhooks/tries.py", "app/webhooks/sending.py"
ENDPOINTS, WORK = "app/webhooks/endpoints.py", "app/worker/webhooks.py"
ON_OUTGOING, ON_TARGETS = "tests/events/test_outgoing.py", "tests/webhooks/test_targets.py"
ON_WORK, ON_API = "tests/worker/test_webhooks.py", "tests/api/test_webhooks.py"

GUARDS = (
    Guard(
        "events are told to those with a grant",
        "a client being told what happens in a workspace that it may no longer see",
        f"{ON_OUTGOING}::test_of_a_lane_those_are_told_who_have_a_grant_for_its_workspace",
        Edit(
            OUTGOING,
            "SELECT FROM grants WHERE client = clients.id AND workspace IN ('*', told.workspace))",
            "SELECT)",
        ),
    ),
    Guard(
        "an endpoint is locked before it is told of anything",
        "exports refused, and jobs of Asana lost, because somebody deletes a webhook endpoint",
        f"{ON_OUTGOING}::test_an_endpoint_that_is_deleted_meanwhile_fails_no_event",
        Edit(OUTGOING, "        FOR KEY SHARE OF wanting\n", ""),
    ),
    Guard(
        "events of exports are told to their owner",
        "a client being told of everybody's exports in its workspaces",
        f"{ON_OUTGOING}::test_of_an_export_its_owner_is_told_and_administrators",
        Edit(OUTGOING, "THEN told.owner = clients.id", "THEN true"),
    ),
    Guard(
        "events of files are told to those who have the file",
        "a client being told of files that only others have",
        f"{ON_OUTGOING}::test_of_a_file_those_are_told_who_have_an_export_with_it",
        Edit(OUTGOING, "WHERE run = told.run AND client = clients.id AND status = 'succeeded')", "LIMIT 1)"),
    ),
    Guard(
        "events are told to clients whose key is good",
        "somebody who was shut out being told what happens",
        f"{ON_OUTGOING}::test_who_has_lost_its_scope_or_its_key_is_told_nothing",
        Edit(OUTGOING, " AND clients.revoked_at IS NULL\n", "\n"),
    ),
    Guard(
        "what waits is sent to clients whose key is good",
        "the same, of what happened before",
        f"{ON_WORK}::test_who_is_no_client_any_more_is_sent_nothing",
        Edit(
            TRIES,
            "receiver.disabled_at IS NULL AND clients.revoked_at IS NULL\n          AND coalesce",
            "receiver.disabled_at IS NULL\n          AND coalesce",
        ),
    ),
    Guard(
        "deliveries are entered in the transaction of the event",
        "events that nobody is told of",
        f"{ON_OUTGOING}::test_of_an_export_its_owner_is_told_and_administrators",
        Edit(OUTGOING, "WHERE wanting.disabled_at IS NULL AND", "WHERE false AND"),
    ),
    Guard(
        "an endpoint is given only workspaces of its owner",
        "an administrator handing on by mistake what the owner may not see",
        f"{ON_API}::test_an_administrator_gives_an_endpoint_nothing_its_owner_may_not_see",
        Edit(ENDPOINTS, "if not owner.sees_all_workspaces:", "if False:"),
    ),
    Guard(
        "a client's row is locked while its endpoints are counted",
        "more endpoints than a client may have, when they come at the same time",
        f"{ON_API}::test_twenty_are_enough_also_when_they_come_at_once",
        Edit(ENDPOINTS, "    await client_by_id(session, client.id, lock=True)\n", ""),
    ),
    Guard(
        "secrets of webhooks are encrypted",
        "secrets that can be read in the database and its backups",
        f"{ON_API}::test_secrets_are_encrypted_at_rest",
        Edit(
            ENDPOINTS,
            "        secret=vault.encrypt(new_secret()),\n",
            "        secret=new_secret().get_secret_value().encode(),\n",
        ),
    ),
    Guard(
        "every encrypted column is rotated",
        "secrets of webhooks that are lost with the old key",
        "tests/access/test_rotation.py::test_everything_that_is_secret_gets_the_new_key",
        Edit(
            "app/database/base.py",
            "if isinstance(column.type, Encrypted)]",
            'if isinstance(column.type, Encrypted) and column.name != "previous_secret"]',
        ),
    ),
    Guard(
        "the signature",
        "receivers that cannot tell our requests from anybody's",
        f"{ON_WORK}::test_what_is_sent_is_thin_and_verified",
        Edit(
            "app/webhooks/signing.py",
            "sign(event, at.astimezone(UTC), body)",
            'sign(event, at.astimezone(UTC), "")',
        ),
    ),
    Guard(
        "the secret before the present one signs too",
        "requests that are refused while a receiver is given the new secret",
        f"{ON_WORK}::test_two_secrets_sign_for_a_day_after_a_rotation",
        Edit(TRIES, "CASE WHEN previous_until > now() THEN previous_secret END", "NULL"),
    ),
    Guard(
        "the secret before the present one ends",
        "a secret that was lost being good for ever",
        f"{ON_WORK}::test_two_secrets_sign_for_a_day_after_a_rotation",
        Edit(
            TRIES,
            "CASE WHEN previous_until > now() THEN previous_secret END",
            "previous_secret",
        ),
    ),
    Guard(
        "a secret is not rotated twice within a day by mistake",
        "requests that are refused by a receiver which still has the secret before the last one",
        f"{ON_API}::test_a_secret_is_not_rotated_twice_within_a_day_unless_forced",
        Edit(ENDPOINTS, "until > now and not force", "until > now and False"),
    ),
    Guard(
        "the addresses of a receiver are checked",
        "requests into our own network, by a name that points there",
        f"{ON_TARGETS}::test_the_address_that_was_checked_is_the_one_connected_to",
        Edit(TARGETS, "        self._policy.check(host, addresses)\n", ""),
    ),
    Guard(
        "the address that was checked is connected to",
        "the same, by a name that points there at the second look only",
        f"{ON_TARGETS}::test_the_address_that_was_checked_is_the_one_connected_to",
        Edit(TARGETS, "request.url.copy_with(host=str(address)),", "request.url,"),
    ),
    Guard(
        "certificates are checked by name",
        "no receiver whose certificate names a host being reached, or any being believed",
        f"{ON_TARGETS}::test_certificates_are_checked_by_name_though_the_address_is_connected_to",
        Edit(TARGETS, '{**request.extensions, "sni_hostname": _ascii(request.url)}', "request.extensions"),
    ),
    Guard(
        "no connection to a receiver is used twice",
        "a request sent over a connection on which another host's certificate was checked",
        f"{ON_TARGETS}::test_a_connection_is_not_used_for_another_name",
        Edit(TARGETS, "max_keepalive_connections=0", "max_keepalive_connections=10"),
    ),
    Guard(
        "IPv4 addresses within IPv6 ones are looked through",
        "requests to this machine, by another spelling of its address",
        f"{ON_TARGETS}::test_nothing_else_is_allowed_by_default",
        Edit(TARGETS, "if not self._allows(host, meant(address)):", "if not self._allows(host, address):"),
    ),
    Guard(
        "some addresses are never sent to",
        "what a cloud tells of its machine being asked for, because a list was too wide",
        f"{ON_TARGETS}::test_no_list_allows_what_answers_for_the_machine_itself",
        Edit(TARGETS, "if any(address in network for network in NEVER):", "if False:"),
    ),
    Guard(
        "this machine is allowed by a network only",
        "requests to what listens on this machine alone, by a name on the list",
        f"{ON_TARGETS}::test_only_a_network_allows_this_machine",
        Edit(TARGETS, "if address.is_loopback:", "if False:"),
    ),
    Guard(
        "redirects of receivers are not followed",
        "a receiver that sends what is signed for it elsewhere",
        f"{ON_WORK}::test_whatever_is_not_accepted_is_tried_again_after_five_seconds",
        Edit(TARGETS, "follow_redirects=False", "follow_redirects=True"),
    ),
    Guard(
        "a try ends in time",
        "a receiver that keeps a worker for ever by answering a byte at a time",
        f"{ON_WORK}::test_whatever_is_not_accepted_is_tried_again_after_five_seconds",
        Edit(SENDING, "asyncio.timeout(within),", "asyncio.timeout(30),"),
    ),
    Guard(
        "so much of an answer is read",
        "a receiver that keeps a worker busy with an answer that never ends",
        f"{ON_WORK}::test_an_endless_answer_is_read_no_further_than_needed",
        Edit(SENDING, "if taken >= MOST_ANSWER_BYTES:", "if False:"),
    ),
    Guard(
        "three failing deliveries stand for all",
        "a dead receiver that costs a try for each of thousands of events",
        f"{ON_WORK}::test_a_dead_receiver_costs_three_tries_at_a_time_however_much_waits_for_it",
        Edit(TRIES, "due.tries >= (SELECT (failing >= 3)::int FROM", "due.tries >= (SELECT 0 FROM"),
    ),
    Guard(
        "a failing receiver is probed",
        "a receiver that is well again being sent nothing for up to a day",
        f"{ON_WORK}::test_a_receiver_that_is_well_again_is_noticed_within_minutes",
        Edit(TRIES, "receiver.failing >= 3 AND receiver.probe_at <= now()", "false"),
    ),
    Guard(
        "a receiver is probed every few minutes",
        "a dead receiver that costs a try for each of thousands of events",
        f"{ON_WORK}::test_several_workers_send_one_probe",
        Edit(TRIES, "receiver.failing >= 3 AND receiver.probe_at <= now()", "receiver.failing >= 3"),
    ),
    Guard(
        "a probe is none of the tries of a delivery",
        "events given up sooner than after three days, for they were probes",
        f"{ON_WORK}::test_a_probe_is_another_one_each_time_and_none_of_its_tries",
        Edit(TRIES, "        delivery.tries = held.tries\n", ""),
    ),
    Guard(
        "what is given up alone no longer stands for others",
        "a receiver that is sent nothing any more, for nothing is left that would tell that it is well",
        f"{ON_WORK}::test_several_that_it_chokes_on_do_not_hold_up_others_for_ever",
        Edit(TRIES, "        endpoint.failing -= 1\n", ""),
    ),
    Guard(
        "an endpoint is disabled when nothing was accepted all along",
        "a receiver that is given up for one event that it cannot take",
        f"{ON_WORK}::test_one_event_that_a_receiver_chokes_on_holds_up_no_other_and_disables_nothing",
        Edit(TRIES, "    elif taken_nothing_since:\n", "    elif True:\n"),
    ),
    Guard(
        "a receiver is left alone when it asks for that",
        "a receiver that has too much to do being sent more",
        f"{ON_WORK}::test_a_receiver_that_asks_for_it_is_left_alone",
        Edit(
            TRIES,
            "coalesce(receiver.not_before <= now(), true)\n          AND due",
            "true\n          AND due",
        ),
    ),
    Guard(
        "a delivery is held for one try",
        "the same event being sent by several workers at the same time",
        f"{ON_WORK}::test_a_delivery_is_held_for_one_try_at_a_time",
        Edit(
            TRIES,
            "due.tries DESC, due.event\n        LIMIT 1\n        FOR UPDATE OF due SKIP LOCKED)",
            "due.tries DESC, due.event\n        LIMIT 1)",
        ),
    ),
    Guard(
        "what comes of a try counts while the delivery is held for it",
        "a try that was given up for dead deciding over the one after it",
        f"{ON_WORK}::test_what_an_old_try_tells_does_not_count",
        Edit(TRIES, "(delivery.ticket, delivery.state) == (held.ticket,", "(0, delivery.state) == (0,"),
    ),
    Guard(
        "a receiver has three places in a worker",
        "one that lets each try hang taking all that a worker can do at a time",
        f"{ON_WORK}::test_a_receiver_that_hangs_takes_three_places_and_no_other_waits_for_it",
        Edit("app/webhooks/places.py", "if self._taken[endpoint] == self._each:", "if False:"),
    ),
    Guard(
        "who leaves looks once more when somebody has come",
        "a delivery that nobody sees to for a minute",
        f"{ON_WORK}::test_what_comes_while_all_places_look_for_the_last_time_is_sent_too",
        Edit(WORK, "elif not places.somebody_came(endpoint):", "else:"),
    ),
    Guard(
        "what should have been sent is found",
        "deliveries that wait for ever for a worker that has died",
        f"{ON_WORK}::test_what_a_worker_that_died_had_in_hand_is_sent_again",
        Edit(TRIES, "    for endpoint in found:\n        await wake(session, endpoint)\n", ""),
    ),
)
