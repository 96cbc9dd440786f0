"""What else there is: schedules, webhooks and, for administrators, who may do what."""

import builtins
from collections.abc import AsyncIterator
from datetime import datetime

from asana_exports_client import models
from asana_exports_client._async.http import Http
from asana_exports_client._requests import sent_once
from asana_exports_client.models import Reason


class Schedules:
    """Exports that are asked for by the clock."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> builtins.list[models.Schedule]:
        """Your schedules."""
        found = await self._http.call("GET /v1/schedules", models.ScheduleList)
        return found.items

    async def get(self, schedule: str) -> models.Schedule:
        """One of them, by its id."""
        return await self._http.call("GET /v1/schedules/{schedule_id}", models.Schedule, schedule_id=schedule)

    async def create(self, schedule: models.ScheduleCreate) -> models.Schedule:
        """Make one."""
        return await self._http.call(
            "POST /v1/schedules", models.Schedule, body=schedule, headers=sent_once()
        )

    async def replace(self, schedule: str, by: models.SchedulePut) -> models.Schedule:
        """Have it be another one from its next slot on."""
        return await self._http.call(
            "PUT /v1/schedules/{schedule_id}", models.Schedule, body=by, schedule_id=schedule
        )

    async def delete(self, schedule: str, note: str | None = None) -> None:
        """Take it away; its exports stay."""
        await self._http.send(
            "DELETE /v1/schedules/{schedule_id}", query={"note": note}, schedule_id=schedule
        )

    async def pause(self, schedule: str, note: str | None = None) -> models.Schedule:
        """Ask for nothing from now on."""
        return await self._http.call(
            "POST /v1/schedules/{schedule_id}/pause",
            models.Schedule,
            body=Reason(note=note),
            schedule_id=schedule,
        )

    async def resume(self, schedule: str, note: str | None = None) -> models.Schedule:
        """End that."""
        return await self._http.call(
            "POST /v1/schedules/{schedule_id}/resume",
            models.Schedule,
            body=Reason(note=note),
            schedule_id=schedule,
        )

    async def preview(self, schedule: str, count: int = 10) -> builtins.list[models.PreviewSlot]:
        """Its next slots."""
        found = await self._http.call(
            "GET /v1/schedules/{schedule_id}/preview",
            models.Preview,
            query={"count": count},
            schedule_id=schedule,
        )
        return found.items

    async def preview_cron(
        self, cron: str, timezone: str = "UTC", count: int = 10
    ) -> builtins.list[models.PreviewSlot]:
        """The next slots of a cron expression."""
        found = await self._http.call(
            "POST /v1/schedules/preview",
            models.Preview,
            body=models.PreviewRequest(cron=cron, timezone=timezone, count=count),
        )
        return found.items


class Webhooks:
    """Addresses of yours that are told of events; `verify_webhook` is for what comes there."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> builtins.list[models.WebhookEndpoint]:
        """Your endpoints."""
        found = await self._http.call("GET /v1/webhook-endpoints", models.WebhookEndpointList)
        return found.items

    async def get(self, endpoint: str) -> models.WebhookEndpoint:
        """One of them, by its id."""
        return await self._http.call(
            "GET /v1/webhook-endpoints/{endpoint_id}", models.WebhookEndpoint, endpoint_id=endpoint
        )

    async def create(self, endpoint: models.WebhookEndpointCreate) -> models.WebhookEndpointWithSecret:
        """Make one. Its `secret` is shown this once."""
        return await self._http.call(
            "POST /v1/webhook-endpoints",
            models.WebhookEndpointWithSecret,
            body=endpoint,
            headers=sent_once(),
        )

    async def change(self, endpoint: str, by: models.WebhookEndpointPatch) -> models.WebhookEndpoint:
        """Change what is given, and leave the rest."""
        return await self._http.call(
            "PATCH /v1/webhook-endpoints/{endpoint_id}",
            models.WebhookEndpoint,
            body=by,
            endpoint_id=endpoint,
        )

    async def delete(self, endpoint: str, note: str | None = None) -> None:
        """Take it away, with what was still to be sent."""
        await self._http.send(
            "DELETE /v1/webhook-endpoints/{endpoint_id}", query={"note": note}, endpoint_id=endpoint
        )

    async def rotate_secret(
        self, endpoint: str, note: str | None = None, *, force: bool = False
    ) -> models.WebhookEndpointWithSecret:
        """Give it another secret; for a day both sign. `force` is for doing so twice within it."""
        return await self._http.call(
            "POST /v1/webhook-endpoints/{endpoint_id}/rotate-secret",
            models.WebhookEndpointWithSecret,
            body=models.Rotation(note=note, force=force),
            headers=sent_once(),
            endpoint_id=endpoint,
        )

    async def deliveries(self, endpoint: str, state: str | None = None) -> AsyncIterator[models.Delivery]:
        """What was and is to be sent there, the newest first, read page by page."""
        token: str | None = None
        while True:
            page = await self._http.call(
                "GET /v1/webhook-endpoints/{endpoint_id}/deliveries",
                models.DeliveryPage,
                query={"state": state, "page_size": 200, "page_token": token},
                endpoint_id=endpoint,
            )
            for delivery in page.items:
                yield delivery
            if (token := page.next_page_token) is None:
                return

    async def replay(
        self,
        endpoint: str,
        delivery: str | None = None,
        since: datetime | None = None,
        note: str | None = None,
    ) -> models.ReplayOut:
        """Send one event again, or those that failed since a moment."""
        return await self._http.call(
            "POST /v1/webhook-endpoints/{endpoint_id}/replay",
            models.ReplayOut,
            body=models.Replay(delivery=delivery, since=since, note=note),
            once=True,
            endpoint_id=endpoint,
        )

    async def test(self, endpoint: str, note: str | None = None) -> models.Delivery:
        """Send an event `webhook.test` there."""
        return await self._http.call(
            "POST /v1/webhook-endpoints/{endpoint_id}/test",
            models.Delivery,
            body=Reason(note=note),
            once=True,
            endpoint_id=endpoint,
        )


class Workspaces:
    """The workspaces that can be exported."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> builtins.list[models.Workspace]:
        """Those that you may see."""
        found = await self._http.call("GET /v1/workspaces", models.WorkspaceList)
        return found.items

    async def get(self, workspace: str) -> models.Workspace:
        """One of them, by its gid."""
        return await self._http.call("GET /v1/workspaces/{gid}", models.Workspace, gid=workspace)

    async def put(self, workspace: str, by: models.WorkspacePut) -> models.Workspace:
        """Register it, or change what it is exported with."""
        return await self._http.call("PUT /v1/workspaces/{gid}", models.Workspace, body=by, gid=workspace)

    async def delete(self, workspace: str, note: str | None = None) -> None:
        """Accept no exports of it from now on."""
        await self._http.send("DELETE /v1/workspaces/{gid}", query={"note": note}, gid=workspace)


class Clients:
    """Internal callers, their keys, grants and quotas."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> builtins.list[models.Client]:
        """All of them, the revoked ones too."""
        found = await self._http.call("GET /v1/clients", models.ClientList)
        return found.items

    async def get(self, client: str) -> models.Client:
        """One of them, by its id."""
        return await self._http.call("GET /v1/clients/{client_id}", models.Client, client_id=client)

    async def create(self, client: models.ClientCreate) -> models.ClientWithKey:
        """Make one. Its `key` is shown this once."""
        return await self._http.call("POST /v1/clients", models.ClientWithKey, body=client, once=True)

    async def change(self, client: str, by: models.ClientPatch) -> models.Client:
        """Change what is given, and leave the rest; None takes a limit away."""
        return await self._http.call(
            "PATCH /v1/clients/{client_id}", models.Client, body=by, client_id=client
        )

    async def replace_key(self, client: str, note: str | None = None) -> models.ClientWithKey:
        """Give it another key; the old one opens nothing from now on."""
        return await self._http.call(
            "POST /v1/clients/{client_id}/key",
            models.ClientWithKey,
            body=Reason(note=note),
            once=True,
            client_id=client,
        )

    async def revoke(self, client: str, note: str | None = None) -> models.Client:
        """Let its key open nothing from now on."""
        return await self._http.call(
            "POST /v1/clients/{client_id}/revoke",
            models.Client,
            body=Reason(note=note),
            client_id=client,
        )


class Credentials:
    """Asana tokens: stored and replaced, never shown."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> builtins.list[models.Credential]:
        """All of them."""
        found = await self._http.call("GET /v1/credentials", models.CredentialList)
        return found.items

    async def get(self, credential: str) -> models.Credential:
        """One of them, by its id."""
        return await self._http.call(
            "GET /v1/credentials/{credential_id}", models.Credential, credential_id=credential
        )

    async def create(self, credential: models.CredentialCreate) -> models.Credential:
        """Store one."""
        return await self._http.call("POST /v1/credentials", models.Credential, body=credential, once=True)

    async def replace(self, credential: str, by: models.TokenReplace) -> models.Credential:
        """Give it another token; what is running goes on with it."""
        return await self._http.call(
            "PUT /v1/credentials/{credential_id}", models.Credential, body=by, credential_id=credential
        )


class Attention:
    """What a person should look at."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self, *, acknowledged: bool | None = None) -> builtins.list[models.Attention]:
        """What is amiss now."""
        found = await self._http.call(
            "GET /v1/attention", models.AttentionList, query={"acknowledged": acknowledged}
        )
        return found.items

    async def acknowledge(self, item: str, note: str | None = None) -> models.Attention:
        """Say that it was seen; it comes back when it happens again."""
        return await self._http.call(
            "POST /v1/attention/{item_id}/acknowledge",
            models.Attention,
            body=Reason(note=note),
            item_id=item,
        )
