"""Secrets of endpoints, and signatures by them as Standard Webhooks has them."""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import SecretStr
from standardwebhooks import Webhook

SECRET_BYTES = 32


def new_secret() -> SecretStr:
    """A secret as receivers are given it."""
    return SecretStr(f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}")


def signed_headers(keys: Sequence[SecretStr], event: str, at: datetime, body: str) -> dict[str, str]:
    """Which event it is, when it is sent, and a signature by each of the secrets that are good now."""
    signatures = (Webhook(key.get_secret_value()).sign(event, at.astimezone(UTC), body) for key in keys)
    return {
        "webhook-id": event,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
