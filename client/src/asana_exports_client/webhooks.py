"""What the service posts to an address of yours (Standard Webhooks 1.0)."""

import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256

import msgspec

from asana_exports_client.errors import NotGenuine
from asana_exports_client.models import EventBody

TOLERANCE_SECONDS = 300


class WebhookEvent(EventBody, kw_only=True):
    """An event; `id` is the same each time it is sent."""

    id: str


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    clock: Callable[[], float] = time.time,
) -> WebhookEvent:
    """The event of a request, by its body as it came. Raises `NotGenuine`, and then believe nothing of it.

    `secret` is the `whsec_…` of the endpoint; `clock` tells the seconds since 1970.
    """
    raw = body.encode() if isinstance(body, str) else body
    named = {name.lower(): value for name, value in headers.items()}
    try:
        event, sent = named["webhook-id"], named["webhook-timestamp"]
        signatures, age = named["webhook-signature"].split(), abs(clock() - int(sent))
    except (KeyError, ValueError):
        raise NotGenuine("It lacks the headers of a signed webhook.") from None
    if age > TOLERANCE_SECONDS:
        raise NotGenuine("It was sent too long ago, or the clocks differ.")
    key = b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{event}.{sent}.".encode() + raw, sha256).digest()
    expected = f"v1,{b64encode(signed).decode()}".encode()
    # As bytes, for of text only ASCII may be compared.
    if not any(hmac.compare_digest(expected, given.encode()) for given in signatures):
        raise NotGenuine("It is not signed with this secret.")
    told = msgspec.json.decode(raw, type=EventBody)
    return WebhookEvent(id=event, type=told.type, timestamp=told.timestamp, data=told.data)
