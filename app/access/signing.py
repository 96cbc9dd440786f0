"""The keys that receipts are signed with: made at the first use, shared by all processes, never lost."""

import json
from collections.abc import Sequence
from typing import Final

from joserfc.jwk import OKPKey
from pydantic import SecretStr
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import SigningKey
from app.access.vault import Vault
from app.database.base import Json

CURVE: Final = "Ed25519"
NEWEST = select(SigningKey).order_by(SigningKey.created_at.desc()).limit(1)
# So that of two who find none, one makes the first.
LOCK_KEYS = text("LOCK TABLE signing_keys IN EXCLUSIVE MODE")


async def signing_key(session: AsyncSession, vault: Vault) -> OKPKey:
    """The newest pair; the first one is made in the caller's transaction."""
    newest = await session.scalar(NEWEST)
    if newest is None:
        await session.execute(LOCK_KEYS)
        newest = await session.scalar(NEWEST) or await new_signing_key(session, vault)
    return OKPKey.import_key(json.loads(vault.decrypt(newest.private).get_secret_value()))


async def new_signing_key(session: AsyncSession, vault: Vault) -> SigningKey:
    """A pair to sign with from now on, named by the thumbprint of its public key (RFC 7638)."""
    key = OKPKey.generate_key(CURVE)
    private = SecretStr(json.dumps(key.as_dict(private=True)))
    pair = SigningKey(id=key.thumbprint(), public=key.as_dict(private=False), private=vault.encrypt(private))
    session.add(pair)
    await session.flush()
    return pair


async def public_keys(session: AsyncSession) -> Sequence[Json]:
    """All there ever were, as JWK (RFC 7517), the newest first."""
    pairs = await session.execute(
        select(SigningKey.id, SigningKey.public).order_by(SigningKey.created_at.desc())
    )
    return [{**public, "kid": kid, "use": "sig", "alg": CURVE} for kid, public in pairs]
