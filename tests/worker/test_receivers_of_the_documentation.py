"""The receivers that docs/webhooks.md shows take what is genuine, and nothing else."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

import tests
from app.access.vault import Vault
from app.events.log import Cause
from app.webhooks.endpoints import rotate_secret
from app.webhooks.models import DeliveryState, WebhookDelivery
from app.worker.context import Context
from app.worker.webhooks import deliver_webhooks
from tests.builders import Tenant, an_endpoint, an_export
from tests.processes import BIN, until

PAGE = (Path(tests.__file__).parents[1] / "docs" / "webhooks.md").read_text()
COMMANDS = {"python": [sys.executable, "receiver.py"], "node": [str(BIN / "node"), "receiver.mjs"]}


@contextmanager
def running(language: str, folder: Path, port: int, secret: SecretStr) -> Iterator[Path]:
    """The receiver as a process; yields the file of what it prints."""
    found = re.search(rf"<!-- {language} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found
    command = COMMANDS[language]
    (folder / command[-1]).write_text(found[1])
    env = {"WEBHOOK_SECRET": secret.get_secret_value(), "PORT": str(port)}
    said = folder / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=subprocess.DEVNULL)
        try:
            yield said
        finally:
            process.kill()
            process.wait()


def a_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def listens(port: int) -> None:
    async def answers() -> bool | None:
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                return (await http.post(f"http://127.0.0.1:{port}/", content=b"{}")).status_code == 401
            except httpx.TransportError:
                return None

    await until(answers, 30, lambda: "a receiver that refuses what is not signed")


@pytest.mark.parametrize("language", COMMANDS)
async def test_a_receiver_of_the_documentation_takes_what_is_genuine(
    ctx: Context,
    sessions: async_sessionmaker[AsyncSession],
    vault: Vault,
    tenant: Tenant,
    tmp_path: Path,
    language: str,
) -> None:
    port = a_free_port()
    async with sessions.begin() as session:
        url = f"http://127.0.0.1:{port}/hook"
        endpoint, secret = await an_endpoint(session, vault, tenant.client, url)
    with running(language, tmp_path, port, secret) as said:
        await listens(port)
        async with sessions.begin() as session:
            first = await an_export(session, tenant)
        await deliver_webhooks(ctx, endpoint=endpoint.id)
        # It knows the secret before this one only, by which is signed too for a while.
        async with sessions.begin() as session:
            await rotate_secret(session, tenant.client, vault, endpoint.id, Cause("test"))
            second = await an_export(session, tenant)
        await deliver_webhooks(ctx, endpoint=endpoint.id)
        # One that it does not know at all.
        async with sessions.begin() as session:
            await rotate_secret(session, tenant.client, vault, endpoint.id, Cause("test"), force=True)
            await an_export(session, tenant)
        await deliver_webhooks(ctx, endpoint=endpoint.id)
        assert said.read_text().split() == ["export.created", first.id, "export.created", second.id]
    async with sessions() as session:
        deliveries = (await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.event))).all()
    assert [delivery.state for delivery in deliveries] == [
        DeliveryState.DELIVERED,
        DeliveryState.DELIVERED,
        DeliveryState.PENDING,
    ]
    assert deliveries[-1].attempts[0]["status"] == 401
