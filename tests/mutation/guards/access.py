"""Guards of secrets, and of who may do what."""

from tests.mutation.guard import Edit, Guard

MODELS, CLIENTS, READING = "app/access/models.py", "app/access/clients.py", "app/exports/reading.py"
SECRETS, LEAKS, EXPORTS = (
    "tests/access/test_secrets.py",
    "tests/access/test_leaks.py",
    "tests/api/test_exports.py",
)
ACCESS = "tests/api/test_access.py"

GUARDS = (
    Guard(
        "tokens are encrypted at rest",
        "Asana tokens in every backup of the database",
        f"{SECRETS}::test_a_token_is_not_readable_at_rest_and_comes_back",
        Edit(
            "app/access/vault.py",
            "return self._fernet.encrypt(token.get_secret_value().encode())",
            "return token.get_secret_value().encode()",
        ),
    ),
    Guard(
        "the key in the data folder is for its owner alone",
        "another account of the machine that reads it",
        f"{SECRETS}::test_beside_the_embedded_database_a_key_is_made_once_for_its_owner_alone",
        Edit("app/access/vault.py", "draft.touch(mode=0o600)", "draft.touch()"),
    ),
    Guard(
        "no key is made beside a database that is shared",
        "machines that cannot read each other's tokens",
        f"{SECRETS}::test_with_a_database_of_ones_own_keys_must_be_given",
        Edit(
            "app/access/vault.py",
            "    if settings.database_url:\n        raise",
            "    if False:\n        raise",
        ),
    ),
    Guard(
        "a worker's keys are tried at its start",
        "a worker that takes lanes and then fails at each of their tokens",
        "tests/worker/test_process.py::test_a_worker_whose_keys_do_not_fit_the_tokens_does_not_start",
        Edit(
            "app/worker/process.py",
            "        await check_keys(session, open_vault(settings))\n",
            "        pass\n",
        ),
    ),
    Guard(
        "the API's keys are tried at its start",
        "tokens stored by a key that no worker has",
        "tests/api/test_credentials.py::test_an_api_whose_keys_do_not_fit_the_tokens_does_not_start",
        Edit(
            "app/api/services.py",
            "                await check_keys(session, vault)\n",
            "                pass\n",
        ),
    ),
    Guard(
        "errors of the database are without parameters",
        "a secret in the log, in the error of a statement",
        f"{LEAKS}::test_an_error_of_the_database_does_not_show_what_was_written",
        Edit("app/database/session.py", "hide_parameters=True", "hide_parameters=False"),
    ),
    Guard(
        "errors of the settings are without values",
        "a secret that stands at the wrong place being printed",
        f"{LEAKS}::test_an_error_of_the_settings_does_not_show_the_value",
        Edit("app/settings.py", "hide_input_in_errors=True", "hide_input_in_errors=False"),
    ),
    Guard(
        "an API key has to be the right one",
        "whoever knows a client's id being let in",
        f"{SECRETS}::test_a_key_opens_for_its_client_until_revoked",
        Edit(CLIENTS, "return client if client and fits and prefix", "return client if client and prefix"),
    ),
    Guard(
        "a revoked key opens nothing",
        "somebody let in who was shut out",
        f"{SECRETS}::test_a_key_opens_for_its_client_until_revoked",
        Edit(CLIENTS, "and prefix == PREFIX and client.revoked_at is None else", "and prefix == PREFIX else"),
    ),
    Guard(
        "scopes of keys",
        "a key that may read being used to write",
        f"{EXPORTS}::test_a_key_without_the_scope_is_told_which",
        Edit("app/api/auth.py", "if not client.may(self._scope):", "if False:"),
    ),
    Guard(
        "grants are for workspaces",
        "an export of a workspace that the client has nothing to do with",
        f"{EXPORTS}::test_a_workspace_without_a_grant_does_not_exist",
        Edit(
            MODELS, "if g.workspace in (workspace, ALL_WORKSPACES) and kind in g.kinds", "if kind in g.kinds"
        ),
    ),
    Guard(
        "grants are for kinds",
        "a resource export, which holds a whole workspace, by a client that may have graphs only",
        f"{ACCESS}::test_a_grant_is_for_kinds_too",
        Edit(
            MODELS,
            "if g.workspace in (workspace, ALL_WORKSPACES) and kind in g.kinds",
            "if g.workspace in (workspace, ALL_WORKSPACES)",
        ),
    ),
    Guard(
        "grants cap the priority",
        "a client that pushes past all others",
        f"{EXPORTS}::test_a_grant_caps_the_priority",
        Edit("app/exports/accept.py", "if wanted.priority.rank < grant.highest_priority.rank:", "if False:"),
    ),
    Guard(
        "workspaces are seen by grant",
        "workspaces of others, and the state of their queues, being shown",
        f"{ACCESS}::test_the_lists_hold_what_is_granted",
        Edit(
            "app/access/credentials.py",
            "granted = true() if client.sees_all_workspaces else Workspace.gid.in_(client.workspaces)",
            "granted = true()",
        ),
    ),
    Guard(
        "queues are kept by grant",
        "an administrator of one workspace who pauses another",
        "tests/api/test_lanes.py::test_lanes_are_kept_by_those_who_have_a_grant",
        Edit("app/api/lanes.py", "    await workspace_by_gid(session, client, gid)\n", ""),
    ),
    Guard(
        "what needs attention is seen by grant",
        "failures of workspaces of others being shown",
        "tests/api/test_attention.py::test_one_sees_what_concerns_ones_workspaces",
        Edit(
            "app/exports/attention.py",
            "if client.sees_all_workspaces or item.workspace in client.workspaces)",
            "if True)",
        ),
    ),
    Guard(
        "an export is seen by its client",
        "requests of others being read by their ids",
        f"{EXPORTS}::test_exports_of_others_do_not_exist",
        Edit(READING, "return client.may(Scope.ADMIN) or export.client == client.id", "return True"),
    ),
    Guard(
        "lists hold the client's own exports",
        "requests of others being listed",
        f"{ACCESS}::test_others_exports_do_not_exist",
        Edit(
            READING,
            "return true() if client.may(Scope.ADMIN) else Export.client == client.id",
            "return true()",
        ),
    ),
    Guard(
        "a file is for clients that have an export with it",
        "the data of others being downloaded",
        "tests/api/test_artifacts.py::test_a_file_is_for_its_client_alone",
        Edit(
            READING,
            "Export.status == Status.SUCCEEDED, _visible(client))",
            "Export.status == Status.SUCCEEDED)",
        ),
    ),
    Guard(
        "an export is canceled by its client",
        "exports of others being canceled by their ids",
        f"{EXPORTS}::test_an_export_of_others_is_not_canceled",
        Edit(
            "app/api/exports.py",
            "        await visible_export(session, client, export_id)\n        canceled",
            "        canceled",
        ),
    ),
    Guard(
        "a token is not replaced while a worker decides about a lane of its running exports",
        "a lane that waits for a new token after it has come",
        "tests/api/test_credentials.py::test_a_token_is_not_replaced_while_a_worker_decides_about_its_lane",
        Edit(
            "app/access/credentials.py",
            "WHERE credential = :credential AND status IN ('queued', 'running'))",
            "WHERE credential = :credential AND status = 'queued')",
        ),
    ),
    Guard(
        "a new token and a late refusal of the old one come one after the other",
        "a new token called invalid for good",
        "tests/api/test_credentials.py::test_a_refusal_of_the_old_token_does_not_outlive_it",
        Edit(
            "app/access/credentials.py",
            "await session.get_one(Credential, credential_id, with_for_update=NO_KEY_UPDATE)",
            "await session.get_one(Credential, credential_id)",
        ),
    ),
    Guard(
        "the first signing key is made by one",
        "receipts signed by keys that only one process uses",
        "tests/access/test_signing.py::test_the_first_to_need_a_key_makes_it_and_all_others_use_it",
        Edit("app/access/signing.py", "        await session.execute(LOCK_KEYS)\n", ""),
    ),
)
