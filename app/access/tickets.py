"""Tickets: leave to fetch the file of one job without a key, for a while.

Sealed by the vault, so that nobody else can make one, or change it. They outlast a rotation of its keys for
as long as the old key is among them.
"""

from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from app.access.models import Client
from app.access.vault import Vault, VaultError

# So that nothing else that is sealed by the same keys can be taken for one.
PURPOSE = "download"
KEY_BYTES = 8


@dataclass(frozen=True)
class Ticket:
    """Whose it is, by which of its keys, for which job, and until when (seconds since 1970)."""

    client: str
    key: str
    job: str
    until: int

    def admits(self, client: Client, now: datetime) -> bool:
        """Whether the time is not over, and the client's key neither revoked nor replaced."""
        is_its = self.client == client.id and self.key == _key_of(client)
        return is_its and client.revoked_at is None and now.timestamp() < self.until


def sealed(vault: Vault, client: Client, job: str, until: datetime) -> str:
    """A ticket as it stands in a URL."""
    said = f"{PURPOSE} {client.id} {_key_of(client)} {job} {int(until.timestamp())}"
    return vault.encrypt(SecretStr(said)).decode()


def opened(vault: Vault, seal: str) -> Ticket | None:
    """What a seal holds; None where it is not one of ours."""
    try:
        said = vault.decrypt(seal.encode()).get_secret_value()
    except VaultError:
        return None
    match said.split(" "):
        case [purpose, client, key, job, until] if purpose == PURPOSE:
            return Ticket(client, key, job, int(until))
    return None


def _key_of(client: Client) -> str:
    return client.key_hash[:KEY_BYTES].hex()
