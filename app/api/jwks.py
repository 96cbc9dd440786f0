"""The public keys by which anybody can check a receipt."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.access.signing import public_keys
from app.api.problems import problems
from app.api.services import ServicesOf

router = APIRouter(tags=["artifacts"])


class JwkSetResponse(JSONResponse):
    media_type = "application/jwk-set+json"


class JwkOut(BaseModel):
    """A public key (RFC 7517, RFC 8037)."""

    kid: str = Field(description="Its thumbprint (RFC 7638).")
    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    use: Literal["sig"]
    alg: Literal["Ed25519"]


class JwkSetOut(BaseModel):
    """All keys that receipts were ever signed with, the newest first; none before the first receipt."""

    keys: list[JwkOut]


@router.get(
    "/.well-known/jwks.json", response_model=JwkSetOut, response_class=JwkSetResponse, responses=problems()
)
async def get_signing_keys(services: ServicesOf) -> JwkSetResponse:
    """The keys that receipts are signed with, for everybody. A set that was saved serves offline, too."""
    async with services.sessions() as session:
        keys = await public_keys(session)
    return JwkSetResponse({"keys": keys}, headers={"Cache-Control": "public, max-age=300"})
