"""The workspace of a graph export that names none, as Asana's own call does not."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import GrantSpec
from app.access.models import Credential, CredentialState, Kind, Workspace
from app.access.vault import Vault
from app.exports.models import Export
from app.exports.parents import Parent
from app.sandbox.control import SandboxControl
from app.sandbox.faults import Call, FaultKind
from app.settings import Settings
from tests.api.conftest import Api, code_of, served
from tests.api.test_asana import told
from tests.api.test_clients import made
from tests.builders import a_tenant, another_credential, another_workspace
from tests.servers import Request, answer, serving

# A project, a portfolio, a team and a goal of the sandbox's second workspace.
OF_1002 = ("10022001", "10023001", "10021001", "10024001")
BOTH = [GrantSpec(workspace="1001"), GrantSpec(workspace="1002", kinds=(Kind.GRAPH,))]


@pytest.fixture
async def second(api: Api) -> None:
    """Another workspace, opened by the same credential."""
    async with api.sessions.begin() as session:
        await another_workspace(session, api.tenant, "1002")


async def asked(caller: httpx.AsyncClient, parent: str, **more: Any) -> httpx.Response:
    return await caller.post("/api/1.0/exports/graph", json={"data": {"parent": parent} | more})


async def workspaces(caller: httpx.AsyncClient) -> list[str]:
    """Of what was asked for, the newest first."""
    return [export["workspace"] for export in (await caller.get("/v1/exports")).json()["items"]]


async def test_the_only_workspace_needs_no_question(
    api: Api, sandbox: SandboxControl, caller: httpx.AsyncClient, second: None
) -> None:
    no_graphs = GrantSpec(workspace="1001", kinds=(Kind.RESOURCE,))
    for grants in ([GrantSpec(workspace="1002")], [no_graphs, BOTH[1]]):
        only = await api.caller(grants=grants)
        assert (await asked(only, OF_1002[0])).status_code == 201
        assert await workspaces(only) == ["1002"]
    assert sandbox.journal() == []


async def test_a_default_workspace_needs_no_question(
    api: Api, sandbox: SandboxControl, admin: httpx.AsyncClient, second: None
) -> None:
    client = await made(admin, default_workspace="1002", grants=[{"workspace": "*"}], max_queued=9)
    assert client["default_workspace"] == "1002"
    caller = await api.with_key(client["key"])
    assert (await asked(caller, OF_1002[0])).status_code == 201
    assert (await asked(caller, "10012001", workspace="1001")).status_code == 201
    changed = await admin.patch(f"/v1/clients/{client['id']}", json={"default_workspace": "1001"})
    assert changed.json()["default_workspace"] == "1001"
    assert (await asked(caller, "10012002")).status_code == 201
    assert await workspaces(caller) == ["1001", "1001", "1002"]
    assert sandbox.journal() == []


async def test_a_default_workspace_without_a_grant_opens_nothing(
    api: Api, admin: httpx.AsyncClient, second: None
) -> None:
    client = await made(admin, default_workspace="1002")
    answer = await asked(await api.with_key(client["key"]), OF_1002[0])
    assert (answer.status_code, told(answer)) == (404, ["workspace: Unknown object: 1002"])
    refused = await admin.patch(f"/v1/clients/{client['id']}", json={"default_workspace": "*"})
    assert refused.status_code == 422


@pytest.mark.parametrize("parent", OF_1002)
async def test_a_parent_is_looked_for_once(
    api: Api, sandbox: SandboxControl, second: None, parent: str
) -> None:
    caller = await api.caller(grants=BOTH)
    assert (await asked(caller, parent)).status_code == 201
    assert await workspaces(caller) == ["1002"]
    questions = len(sandbox.journal())
    assert 0 < questions <= 4
    assert (await asked(await api.caller(grants=BOTH), parent)).status_code == 201
    assert len(sandbox.journal()) == questions


async def test_nothing_is_said_of_workspaces_that_are_not_granted(
    api: Api, sandbox: SandboxControl, second: None
) -> None:
    async with api.sessions.begin() as session:
        await another_workspace(session, api.tenant, "1003")
    assert (await asked(await api.caller(grants=BOTH), OF_1002[0])).status_code == 201
    stranger = await api.caller(grants=[GrantSpec(workspace="1001"), GrantSpec(workspace="1003")])
    known, unknown = await asked(stranger, OF_1002[0]), await asked(stranger, "77777")
    for refused, parent in ((known, OF_1002[0]), (unknown, "77777")):
        assert (refused.status_code, code_of(refused)) == (400, "validation-failed")
        (message,) = told(refused)
        assert message.startswith(f"parent: Asana shows no goal, project, portfolio or team {parent} in the")
    assert await workspaces(stranger) == []


async def test_without_a_workspace_there_is_nowhere_to_look(api: Api, sandbox: SandboxControl) -> None:
    answer = await asked(await api.caller(grants=[GrantSpec(workspace="1002")]), OF_1002[0])
    assert answer.status_code == 400
    assert "ask an administrator for a grant" in told(answer)[0]
    assert sandbox.journal() == []


async def test_one_of_several_credentials_is_enough(api: Api, sandbox: SandboxControl, vault: Vault) -> None:
    """Each sees its own workspace alone, and one of them is not even valid."""
    for gid in ("1001", "1002", "1003"):
        sandbox.add_token(f"planted-token-{gid}", gid, workspaces=[gid])
        async with api.sessions.begin() as session:
            token = "planted-token-gone" if gid == "1003" else f"planted-token-{gid}"
            credential = await another_credential(session, vault, token, gid)
            await session.merge(Workspace(gid=gid, name=gid, credential=credential.id))
    caller = await api.caller()
    assert (await asked(caller, OF_1002[0])).status_code == 201
    assert await workspaces(caller) == ["1002"]
    # Where nobody sees it, the one that could not look is what there is to be said.
    for _ in range(2):
        refused = await asked(caller, "77777")
        assert (refused.status_code, code_of(refused)) == (503, "upstream-unavailable")
    assert "the token of workspace 1003 is not valid" in told(refused)[0]
    async with api.sessions() as session:
        states = select(Credential.state).where(Credential.name == "1003")
        assert await session.scalar(states) is CredentialState.INVALID


async def test_a_limit_is_kept_and_told_to_all(api: Api, sandbox: SandboxControl, second: None) -> None:
    sandbox.add_fault(Call.PARENT, FaultKind.STATUS, status=429, retry_after=90)
    caller = await api.caller(grants=BOTH)
    for _ in range(2):
        answer = await asked(caller, OF_1002[0])
        assert (answer.status_code, code_of(answer)) == (503, "upstream-unavailable")
        assert 80 < int(answer.headers["Retry-After"]) <= 90
    assert len(sandbox.journal()) == 1
    async with api.sessions.begin() as session:
        left = func.extract("epoch", Credential.limited_until - func.now())
        assert 80 < float(await session.scalar(select(left)) or 0) <= 90
        await session.execute(update(Credential).values(limited_until=func.now()))
    assert (await asked(caller, OF_1002[0])).status_code == 201


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "wrong_content"}])
async def test_asana_that_fails_is_told(
    api: Api, sandbox: SandboxControl, second: None, fault: dict[str, Any]
) -> None:
    sandbox.add_fault(Call.PARENT, **fault)
    caller = await api.caller(grants=BOTH)
    answer = await asked(caller, OF_1002[0])
    assert (answer.status_code, code_of(answer)) == (503, "upstream-unavailable")
    assert "name the workspace, as `workspace` beside `parent`" in told(answer)[0]
    assert int(answer.headers["Retry-After"]) > 0
    assert (await asked(caller, OF_1002[0])).status_code == 201


async def test_a_removed_workspace_is_not_looked_in(
    api: Api, sandbox: SandboxControl, admin: httpx.AsyncClient, second: None
) -> None:
    caller = await api.caller(grants=BOTH)
    assert (await asked(caller, OF_1002[0])).status_code == 201
    async with api.sessions.begin() as session:
        await another_workspace(session, api.tenant, "1003")
    caller = await api.caller()
    assert (await admin.delete("/v1/workspaces/1002")).status_code == 204
    assert (await asked(caller, OF_1002[0])).status_code == 400


async def test_nothing_is_held_in_the_database_while_asana_is_asked(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault
) -> None:
    """More callers wait for a silent Asana than there are connections."""
    silent, asking = asyncio.Event(), asyncio.Event()

    async def handle(*_: Any) -> None:
        asking.set()
        await silent.wait()

    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
        await another_workspace(session, tenant, "1002")
    async with serving(handle) as asana:
        told = settings.model_copy(
            update={"asana_url": asana.url, "database_pool_size": 1, "asana_timeout_seconds": 60.0}
        )
        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with (
            served(told) as (url, _),
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as caller,
        ):
            waiting = [asyncio.create_task(asked(caller, f"1002200{number}")) for number in range(3)]
            await asking.wait()
            assert (await caller.get("/v1/exports")).status_code == 200
            silent.set()
            for answer in await asyncio.gather(*waiting):
                assert answer.status_code == 503


async def test_who_sees_it_waits_for_no_other(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault
) -> None:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.headers["authorization"] == "Bearer planted-token-silent":
            await asyncio.Event().wait()
        writer.write(answer(200, b'{"data": {"gid": "1", "workspace": {"gid": "1001"}}}'))

    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
        silent = await another_credential(session, vault, "planted-token-silent")
        session.add(Workspace(gid="1002", name="1002", credential=silent.id))
    async with serving(handle) as asana:
        told = settings.model_copy(update={"asana_url": asana.url, "asana_timeout_seconds": 3600.0})
        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with (
            served(told) as (url, _),
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as caller,
        ):
            assert (await asked(caller, "1")).status_code == 201
            assert await workspaces(caller) == ["1001"]


async def test_asana_that_says_nothing_is_given_up(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault
) -> None:
    async def handle(*_: Any) -> None:
        await asyncio.Event().wait()

    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
        await another_workspace(session, tenant, "1002")
    async with serving(handle) as asana:
        told = settings.model_copy(update={"asana_url": asana.url, "asana_timeout_seconds": 0.2})
        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with (
            served(told) as (url, _),
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as caller,
        ):
            answer = await asked(caller, OF_1002[0])
            assert (answer.status_code, code_of(answer)) == (503, "upstream-unavailable")
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Export)) == 0
        assert await session.scalar(select(func.count()).select_from(Parent)) == 0
