"""A 403 says that the slot is taken, or that the credential has no access; which one, only trying tells."""

from pydantic import SecretStr

from app.access.models import Credential, CredentialState, Workspace
from app.access.vault import open_vault
from app.exports.models import Export, Run, Status
from app.ids import CredentialId, new_credential_id
from app.lanes.models import WaitReason
from app.sandbox import USER_TOKEN
from app.sandbox.faults import Call, FaultKind
from tests.processes import until
from tests.system.conftest import Service
from tests.system.exports import assert_verified, posts, resource

IN_A_HURRY = {"PROBE_MIN_SECONDS": "0.05", "PROBE_MAX_SECONDS": "0.2"}


async def by_an_ordinary_token(service: Service, name: str = "ordinary") -> Export:
    """An export of the workspace from the time when it had a token that Asana never lets export resources."""
    usual = CredentialId(service.tenants["1001"].credential)
    ordinary = Credential(
        id=new_credential_id(),
        name=name,
        token=open_vault(service.settings).encrypt(SecretStr(USER_TOKEN)),
        state=CredentialState.VALID,
        asana_user="2",
        asana_user_name="User",
    )
    async with service.sessions.begin() as session:
        session.add(ordinary)
        await session.flush()
        (await session.get_one(Workspace, "1001")).credential = ordinary.id
    export = await service.submit(resource())
    async with service.sessions.begin() as session:
        (await session.get_one(Workspace, "1001")).credential = usual
    return export


async def assert_forbidden(export: Export) -> None:
    assert export.status is Status.FAILED
    assert export.error is not None
    assert export.error["code"] == "upstream-forbidden"


async def test_another_credential_that_is_let_in_convicts_the_refused_one(service: Service) -> None:
    refused = [await by_an_ordinary_token(service), await service.submit(resource())]
    other = refused.pop()
    service.worker(**IN_A_HURRY)
    (other,) = await service.finished(other)
    await assert_verified(service, other)
    for export in await service.finished(*refused):
        await assert_forbidden(export)
    assert posts(service) == [403, 403, 403, 201]


async def test_of_three_credentials_the_one_with_access_is_found(service: Service) -> None:
    """As when a workspace is given a wrong one, another wrong one, and at last the right one."""
    refused = [await by_an_ordinary_token(service, name) for name in ("first", "second")]
    good = await service.submit(resource())
    service.worker(**IN_A_HURRY)
    (good,) = await service.finished(good)
    await assert_verified(service, good)
    for export in await service.finished(*refused):
        await assert_forbidden(export)
    assert posts(service) == [403, 403, 403, 403, 201]


async def test_another_that_is_let_in_later_convicts_nobody(service: Service) -> None:
    """Meanwhile the slot may have become free."""
    service.sandbox.hold_slot("1001")
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.STATUS, status=503, after=3, times=2)
    waiting, other = await by_an_ordinary_token(service), await service.submit(resource())
    service.worker(**IN_A_HURRY)

    async def five_calls() -> bool | None:
        return len(posts(service)) >= 5 or None

    await until(five_calls, 20, lambda: "the other one's calls")
    service.sandbox.release_slot("1001")
    (other,) = await service.finished(other)
    await assert_verified(service, other)
    assert posts(service)[:5] == [403, 403, 403, 503, 503]
    assert (await service.run_of(waiting)).status in {Status.QUEUED, Status.RUNNING}


async def test_where_the_other_is_refused_too_somebody_has_the_slot(service: Service) -> None:
    service.sandbox.hold_slot("1001")
    refused, other = await by_an_ordinary_token(service), await service.submit(resource())
    service.worker(**IN_A_HURRY)

    async def eight_refusals() -> bool | None:
        return len(posts(service)) >= 8 or None

    await until(eight_refusals, 20, lambda: "eight refusals")
    for run in (await service.run_of(refused), await service.run_of(other)):
        assert run.status in {Status.QUEUED, Status.RUNNING}
        assert run.attempt == 1
    service.sandbox.release_slot("1001")
    (other,) = await service.finished(other)
    await assert_verified(service, other)
    (refused,) = await service.finished(refused)
    await assert_forbidden(refused)


async def test_a_credential_that_was_never_let_in_is_not_tried_for_ever(service: Service) -> None:
    service.worker(**IN_A_HURRY, FORBIDDEN_AFTER_SECONDS="1")
    first = await by_an_ordinary_token(service)
    await service.until_run(first, lambda run: run.wait_reason is WaitReason.UPSTREAM_SLOT_BUSY)
    (first,) = await service.finished(first)
    await assert_forbidden(first)
    assert len(posts(service)) > 3


async def test_one_that_was_let_in_once_does_not_shield_one_that_never_was(service: Service) -> None:
    service.worker(**IN_A_HURRY, FORBIDDEN_AFTER_SECONDS="1")
    (before,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, before)
    service.sandbox.hold_slot("1001")
    never, once = await by_an_ordinary_token(service), await service.submit(resource())
    (never,) = await service.finished(never)
    await assert_forbidden(never)
    assert (await service.run_of(once)).status in {Status.QUEUED, Status.RUNNING}
    service.sandbox.release_slot("1001")
    (once,) = await service.finished(once)
    await assert_verified(service, once)


async def test_a_credential_that_was_let_in_once_waits_for_the_slot_however_long(service: Service) -> None:
    service.worker(**IN_A_HURRY, FORBIDDEN_AFTER_SECONDS="0.5")
    (before,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, before)
    service.sandbox.hold_slot("1001")
    waiting = await service.submit(resource())
    asked = len(service.sandbox.journal(call=Call.RESOURCE))

    async def refused_long() -> Run | None:
        refused = len(service.sandbox.journal(call=Call.RESOURCE)) - asked
        return await service.run_of(waiting) if refused > 10 else None

    run = await until(refused_long, 20, lambda: "ten refusals")
    assert run.status in {Status.QUEUED, Status.RUNNING}
    service.sandbox.release_slot("1001")
    (waiting,) = await service.finished(waiting)
    await assert_verified(service, waiting)
